package web

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/tracking/agent"
	"postern/tracking/event"
	"postern/tracking/token"
)

// facts are what is known when a link or pixel is asked for.
type facts struct {
	click     bool // a link; else a pixel
	agent     agent.Agent
	header    http.Header
	since     time.Duration // the message was made
	headFirst bool          // the same network or program asked for the link with HEAD just before
	links     int           // of the message, asked for by the same network within burst, this one included
	opened    bool          // a person opened the message before
}

// age reports whether the message was made less than d ago. One from the future
// is of no known age: the clock here is behind the gateway's.
func (f facts) age(d time.Duration) bool { return f.since >= 0 && f.since < d }

// The times in the rules.
const (
	onDelivery      = 2 * time.Second  // nobody has read a message so soon
	proxyOnDelivery = 5 * time.Second  // a proxy that fetches before anybody opens
	soonUnopened    = 10 * time.Second // a click without a pixel
	unopened        = time.Minute
	burst           = 2 * time.Second
	burstLinks      = 3
)

// rules say who is not a person; the first that fits counts, none means a person.
// They go by what is known here and now: the first links of a scanner's burst
// count as a person's, since more are not known of yet.
var rules = []struct {
	reason  string
	kind    string
	applies func(facts) bool
}{
	{"prefetch_header", event.Prefetch, func(f facts) bool { return saysPrefetch(f.header) }},
	{"mail_privacy", event.Prefetch, func(f facts) bool { return !f.click && f.agent.Proxy == "apple" }},
	{"gmail_prefetch", event.Prefetch, func(f facts) bool { return f.agent.Proxy == "google" && f.agent.IsPrefetched }},
	{"robot", event.Scanner, func(f facts) bool { return f.agent.Robot }},
	{"proxy_on_delivery", event.Prefetch, func(f facts) bool {
		return !f.click && f.agent.Proxy != "" && f.age(proxyOnDelivery)
	}},
	{"head_first", event.Scanner, func(f facts) bool { return f.click && f.headFirst && !f.opened }},
	{"all_links", event.Scanner, func(f facts) bool { return f.click && f.links >= burstLinks }},
	{"on_delivery", event.Scanner, func(f facts) bool { return f.click && f.age(onDelivery) }},
	{"soon_unopened", event.Scanner, func(f facts) bool { return f.click && !f.opened && f.age(soonUnopened) }},
	{"no_language", event.Scanner, func(f facts) bool {
		return f.click && !f.opened && f.age(unopened) && f.header.Get("Accept-Language") == ""
	}},
}

// prefetchFields are the header fields in which browsers and mail programs say
// that they fetch ahead of a person.
var prefetchFields = []string{"X-Moz", "Purpose", "Sec-Purpose", "X-Purpose"}

func saysPrefetch(h http.Header) bool {
	for _, name := range prefetchFields {
		v := strings.ToLower(h.Get(name))
		if strings.Contains(v, "prefetch") || strings.Contains(v, "preview") || strings.Contains(v, "prerender") {
			return true
		}
	}

	return false
}

func classify(f facts) event.Class {
	for _, r := range rules {
		if r.applies(f) {
			return event.Class{Kind: r.kind, Reason: r.reason}
		}
	}

	return event.Class{}
}

// history remembers, for some minutes and in bounded memory, what was asked for
// of each message. It is this tracker's own: behind a balancer each knows a
// part.
type history struct {
	mu          sync.Mutex
	seed        maphash.Seed
	turned      time.Time
	now, before map[token.ID]*journey
}

// journey is what was asked for of one message.
type journey struct {
	opened bool
	heads  []visit
	links  []visit
}

// visit is one request for a link, and who sent it, as hashes. There are many,
// and none has a pointer that the collector would follow.
type visit struct {
	link    uint64
	network uint64
	agent   uint64
	at      int64 // Unix nanoseconds
}

// before reports whether the visit was less than d before another. One in the
// future was made before the clock was set back.
func (v visit) before(later visit, d time.Duration) bool {
	age := time.Duration(later.at - v.at)

	return age >= 0 && age < d
}

const (
	maxJourneys = 1 << 16 // in each of two generations
	generation  = 5 * time.Minute
	maxVisits   = 8
	headMemory  = time.Minute
)

func newHistory() *history {
	return &history{seed: maphash.MakeSeed(), now: map[token.ID]*journey{}}
}

// journeyOf finds or begins a message's journey. Called under mu.
func (h *history) journeyOf(id token.ID, now time.Time) *journey {
	if len(h.now) >= maxJourneys || now.Sub(h.turned).Abs() > generation {
		h.before = h.now
		h.now = map[token.ID]*journey{}
		h.turned = now
	}

	if j := h.now[id]; j != nil {
		return j
	}

	j := h.before[id]
	if j == nil {
		j = &journey{}
	}
	h.now[id] = j

	return j
}

// note remembers a request and returns what was known before it.
func (h *history) note(r *http.Request, hit hit) (f facts) {
	h.mu.Lock()
	defer h.mu.Unlock()

	j := h.journeyOf(hit.token.MessageID, hit.at)
	f.opened = j.opened
	f.click = isLink(hit.token.Kind)

	v := visit{
		link:    maphash.String(h.seed, hit.text),
		network: maphash.Comparable(h.seed, truncated(hit.client)),
		agent:   maphash.String(h.seed, r.UserAgent()),
		at:      hit.at.UnixNano(),
	}
	if r.Method == http.MethodHead {
		j.heads = remember(j.heads, v)
		return f
	}
	if !f.click {
		return f
	}

	for _, head := range j.heads {
		same := head.network == v.network || head.agent == v.agent
		if head.link == v.link && same && head.before(v, headMemory) {
			f.headFirst = true
		}
	}
	j.links = remember(j.links, v)
	f.links = linksOf(j.links, v)

	return f
}

// opened remembers that a person opened a message. What a machine fetches is no
// sign of one, and neither is what comes sooner than anybody reads.
func (h *history) opened(hit hit, f facts, class event.Class) {
	if f.click || class.Kind != "" || f.age(onDelivery) {
		return
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	h.journeyOf(hit.token.MessageID, hit.at).opened = true
}

// linksOf counts the links that the network of v asked for within burst, v
// included.
func linksOf(visits []visit, v visit) int {
	var seen [maxVisits]uint64
	links := seen[:0]
	for _, l := range visits {
		if l.network == v.network && l.before(v, burst) && !slices.Contains(links, l.link) {
			links = append(links, l.link)
		}
	}

	return len(links)
}

func remember(vs []visit, v visit) []visit {
	if len(vs) >= maxVisits {
		vs = append(vs[:0], vs[1:]...)
	}

	return append(vs, v)
}

func isLink(k token.Kind) bool {
	return k == token.Click || k == token.AmpClick || k == token.LinkUnsubscribe
}
