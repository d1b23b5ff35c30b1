package web

import (
	"hash/maphash"
	"net/http"
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
	headFirst bool          // the same link was asked for with HEAD just before
	links     int           // of the message, within burst, this one included
	opened    bool          // a pixel of the message was asked for before
}

// The times in the rules.
const (
	onDelivery      = 2 * time.Second  // nobody has read a message so soon
	proxyOnDelivery = 5 * time.Second  // a proxy that fetches before anybody opens
	soonUnopened    = 10 * time.Second // a click without a pixel
	unopened        = time.Minute
	burst           = 2 * time.Second
	burstLinks      = 3
)

// rules say who is no person; the first that fits counts, none means a person.
// They go by what is known here and now: the first links of a scanner's burst
// count as a person's, since more are not known of yet.
var rules = []struct {
	reason  string
	kind    string
	applies func(facts) bool
}{
	{"prefetch_header", event.Prefetch, func(f facts) bool { return saysPrefetch(f.header) }},
	{"mail_privacy", event.Prefetch, func(f facts) bool { return !f.click && f.agent.Proxy == "apple" }},
	{"robot", event.Scanner, func(f facts) bool { return f.agent.Robot }},
	{"proxy_on_delivery", event.Prefetch, func(f facts) bool { return !f.click && f.agent.Proxy != "" && f.since < proxyOnDelivery }},
	{"head_first", event.Scanner, func(f facts) bool { return f.click && f.headFirst }},
	{"all_links", event.Scanner, func(f facts) bool { return f.click && f.links >= burstLinks }},
	{"on_delivery", event.Scanner, func(f facts) bool { return f.click && f.since < onDelivery }},
	{"soon_unopened", event.Scanner, func(f facts) bool { return f.click && !f.opened && f.since < soonUnopened }},
	{"no_language", event.Scanner, func(f facts) bool {
		return f.click && !f.opened && f.since < unopened && f.header.Get("Accept-Language") == ""
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

type visit struct {
	link uint64
	at   time.Time
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
	if len(h.now) >= maxJourneys || now.Sub(h.turned) > generation {
		h.now, h.before, h.turned = map[token.ID]*journey{}, h.now, now
	}
	j := h.now[id]
	if j == nil {
		if j = h.before[id]; j == nil {
			j = &journey{}
		}
		h.now[id] = j
	}
	return j
}

// note remembers a request and tells what was known before it.
func (h *history) note(t token.Token, text, method string, now time.Time) (f facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := h.journeyOf(t.MessageID, now)
	f.opened, f.click = j.opened, isLink(t.Kind)
	link := maphash.String(h.seed, text)
	if method == http.MethodHead {
		j.heads = remember(j.heads, visit{link, now})
		return f
	}
	if !f.click {
		j.opened = true
		return f
	}
	for _, v := range j.heads {
		f.headFirst = f.headFirst || v.link == link && now.Sub(v.at) < headMemory
	}
	j.links = remember(j.links, visit{link, now})
	seen := map[uint64]bool{}
	for _, v := range j.links {
		if now.Sub(v.at) < burst {
			seen[v.link] = true
		}
	}
	f.links = len(seen)
	return f
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
