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

// evidence is what is known about a request for a link or a pixel.
type evidence struct {
	click     bool // for a link, not for a pixel
	agent     agent.Agent
	header    http.Header
	since     time.Duration // age of the message
	headFirst bool          // shortly after a HEAD of the same link by the same network or program
	links     int           // of the message, requested by the same network within burst, with this one
	opened    bool          // a person has opened the message before
}

// younger reports whether the message is younger than d. The age is unknown, and
// younger false, if the message is from the future: the clock of this machine is
// behind that of the gateway.
func (f evidence) younger(d time.Duration) bool { return f.since >= 0 && f.since < d }

// The thresholds of the rules.
const (
	onDelivery      = 2 * time.Second  // age of a message that nobody can have read yet
	proxyOnDelivery = 5 * time.Second  // age of a message at which image proxies prefetch
	soonUnopened    = 10 * time.Second // age of a message that nobody follows a link of without images
	unopened        = time.Minute
	burst           = 2 * time.Second
	burstLinks      = 3
)

// rules tell machines from people. The first rule that applies decides; if none
// does, the request is by a person. Rules use what is known at the time of the
// request: the first links of a scanner's burst are taken for a person's.
var rules = []struct {
	reason  string
	kind    string
	applies func(evidence) bool
}{
	{"prefetch_header", event.Prefetch, func(f evidence) bool { return saysPrefetch(f.header) }},
	{"mail_privacy", event.Prefetch, func(f evidence) bool { return !f.click && f.agent.Proxy == "apple" }},
	{"gmail_prefetch", event.Prefetch, func(f evidence) bool {
		return f.agent.Proxy == "google" && f.agent.IsPrefetched
	}},
	{"robot", event.Scanner, func(f evidence) bool { return f.agent.Robot }},
	{"proxy_on_delivery", event.Prefetch, func(f evidence) bool {
		return !f.click && f.agent.Proxy != "" && f.younger(proxyOnDelivery)
	}},
	{"head_first", event.Scanner, func(f evidence) bool { return f.click && f.headFirst && !f.opened }},
	{"all_links", event.Scanner, func(f evidence) bool { return f.click && f.links >= burstLinks }},
	{"on_delivery", event.Scanner, func(f evidence) bool { return f.click && f.younger(onDelivery) }},
	{"soon_unopened", event.Scanner, func(f evidence) bool { return f.click && !f.opened && f.younger(soonUnopened) }},
	{"no_language", event.Scanner, func(f evidence) bool {
		return f.click && !f.opened && f.younger(unopened) && f.header.Get("Accept-Language") == ""
	}},
}

// prefetchFields are the header fields in which browsers and mail programs mark
// prefetches.
var prefetchFields = []string{"X-Moz", "Purpose", "Sec-Purpose", "X-Purpose"}

// saysPrefetch reports whether a request is marked as a prefetch.
func saysPrefetch(h http.Header) bool {
	for _, name := range prefetchFields {
		v := strings.ToLower(h.Get(name))
		if strings.Contains(v, "prefetch") || strings.Contains(v, "preview") || strings.Contains(v, "prerender") {
			return true
		}
	}

	return false
}

// classify returns the class of a request; the zero Class is that of a person.
func classify(f evidence) event.Class {
	for _, r := range rules {
		if r.applies(f) {
			return event.Class{Kind: r.kind, Reason: r.reason}
		}
	}

	return event.Class{}
}

// history remembers the requests for each message, for some minutes and in bounded
// memory. Behind a load balancer, each tracker knows its own requests only.
type history struct {
	mu          sync.Mutex
	seed        maphash.Seed
	turned      time.Time // when before became what now was
	now, before map[token.ID]*journey
}

// journey is the recent requests for one message.
type journey struct {
	opened bool
	heads  []visit
	links  []visit
}

// visit is a request for a link, with hashes of the link and of the client. There
// are many, so it has no pointers that the garbage collector would follow.
type visit struct {
	link    uint64
	network uint64
	agent   uint64
	at      int64 // Unix nanoseconds
}

// before reports whether the visit was less than d before another. It is false
// for a visit in the future: the clock has been set back.
func (v visit) before(later visit, d time.Duration) bool {
	age := time.Duration(later.at - v.at)
	return age >= 0 && age < d
}

const (
	maxJourneys = 1 << 16         // in each of two generations
	generation  = 5 * time.Minute // how long a generation lasts
	maxVisits   = 8               // of each kind in a journey
	headMemory  = time.Minute     // how long a HEAD is evidence
)

// newHistory returns an empty history.
func newHistory() *history {
	return &history{seed: maphash.MakeSeed(), now: map[token.ID]*journey{}}
}

// journeyOf returns the journey of a message, and begins one if there is none.
// mu must be held.
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

// note adds a request, and returns the evidence about it.
func (h *history) note(r *http.Request, hit hit) (f evidence) {
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

// opened remembers that a message was opened, if the request was made by a person,
// and not so early that nobody can have read the message.
func (h *history) opened(hit hit, f evidence, class event.Class) {
	if f.click || class.Kind != "" || f.younger(onDelivery) {
		return
	}

	h.mu.Lock()
	defer h.mu.Unlock()

	h.journeyOf(hit.token.MessageID, hit.at).opened = true
}

// linksOf counts the links that the network of v requested within burst before v,
// and v.
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

// remember appends a visit, and drops the oldest one if there are too many.
func remember(vs []visit, v visit) []visit {
	if len(vs) >= maxVisits {
		vs = append(vs[:0], vs[1:]...)
	}

	return append(vs, v)
}

// isLink reports whether tokens of a kind are in links, not in pixels.
func isLink(k token.Kind) bool {
	return k == token.Click || k == token.AmpClick || k == token.LinkUnsubscribe
}
