package bounce

import (
	"embed"
	"strings"
	"sync"
	"unicode/utf8"
)

//go:embed words/*.txt
var wordFiles embed.FS

// list is a file of phrases that mean the same.
type list struct {
	file string
	Verdict
	first bool // counts more than any status code
	weak  bool // does not count beside a status code of policy (x.7.x)
	loose bool // also said of other things: does not count without any code
}

// lists are in order of precedence: what is said of the sender before what is said
// of the recipient, the particular before the general.
var lists = []list{
	{file: "challenge", Verdict: Verdict{Class: ChallengeReply}},
	{file: "auto_reply", Verdict: Verdict{Class: AutoReply}},
	{file: "unsubscribed", Verdict: Verdict{Class: Unsubscribe, Hard: true}, loose: true},
	{file: "subscription", Verdict: Verdict{Class: Subscribe}},
	{file: "sender", Verdict: Verdict{Class: MailBlock}, first: true},
	{file: "authentication", Verdict: Verdict{Class: MailBlock}, first: true},
	{file: "reverse_dns", Verdict: Verdict{Class: MailBlock}, first: true},
	{file: "attachment", Verdict: Verdict{Class: Attachment}},
	{file: "header_too_large", Verdict: Verdict{Class: AdminFailure}},
	{file: "mailbox_full", Verdict: Verdict{Class: MailboxFull}, first: true},
	{file: "too_large", Verdict: Verdict{Class: TooLarge}, first: true},
	{file: "blocklist", Verdict: Verdict{Class: SpamBlock}, first: true},
	{file: "spam", Verdict: Verdict{Class: SpamContent}},
	{file: "relaying", Verdict: Verdict{Class: RelayingDenied}, first: true},
	{file: "dns_temporary", Verdict: Verdict{Class: DNSFailure}},
	{file: "no_domain", Verdict: Verdict{Class: DNSFailure, Hard: true}},
	{file: "moved", Verdict: Verdict{Class: InvalidRecipient, Hard: true}, loose: true},
	{file: "inactive", Verdict: Verdict{Class: SoftBounce}},
	{file: "no_valid_recipients", Verdict: Verdict{Class: NoRecipient, Hard: true}},
	{file: "unknown_recipient", Verdict: Verdict{Class: InvalidRecipient, Hard: true}},
	{file: "loop", Verdict: Verdict{Class: AdminFailure}},
	{file: "rejected_plainly", Verdict: Verdict{Class: InvalidRecipient, Hard: true}, weak: true},
	{file: "blocked", Verdict: Verdict{Class: MailBlock}},
	{file: "throttled", Verdict: Verdict{Class: TransientFailure}},
	{file: "timeout", Verdict: Verdict{Class: Timeout}},
	{file: "system_error", Verdict: Verdict{Class: AdminFailure}},
}

// minPhrase is the least length of a phrase in bytes, which the index relies on. A
// test checks that no phrase is shorter.
const minPhrase = 3

// phrase is a line of a list, normalized like a reply.
type phrase struct {
	text string
	list int
	open bool // ends with "*": its last word may be longer
}

// index finds the phrases of all lists in one pass over a text, by their first
// three bytes.
type index struct {
	maybe   [1 << 10]uint64 // a set of hashes of first bytes
	phrases map[[minPhrase]byte][]phrase
}

// hash3 returns a hash below the number of bits in index.maybe.
func hash3(a, b, c byte) uint16 { return uint16(a)<<8 ^ uint16(b)<<4 ^ uint16(c) }

// indexed returns the index of all lists.
var indexed = sync.OnceValue(func() *index {
	x := &index{phrases: map[[minPhrase]byte][]phrase{}}
	for i, l := range lists {
		for _, line := range phrasesOf(l.file) {
			x.add(line, i)
		}
	}

	return x
})

// phrasesOf returns the lines of a list.
func phrasesOf(file string) []string {
	b, err := wordFiles.ReadFile("words/" + file + ".txt")
	if err != nil {
		panic(err) // the files are embedded
	}

	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// add adds a line of a list.
func (x *index) add(line string, list int) {
	bare, open := strings.CutSuffix(line, "*")
	text := normalize(bare, "")
	key := [minPhrase]byte{text[0], text[1], text[2]}
	x.phrases[key] = append(x.phrases[key], phrase{text: text, list: list, open: open})

	h := hash3(key[0], key[1], key[2])
	x.maybe[h>>6] |= 1 << (h & 63)
}

// first returns the first list that has a phrase in a normalized text, or -1, and
// whether any phrase says that the recipient or domain does not exist.
func (x *index) first(text string) (list int, gone bool) {
	best := len(lists)
	for i := 0; i+minPhrase <= len(text) && best > 0; i++ {
		h := hash3(text[i], text[i+1], text[i+2])
		if x.maybe[h>>6]&(1<<(h&63)) == 0 || !boundary(text, i) {
			continue
		}

		for _, p := range x.phrases[[minPhrase]byte{text[i], text[i+1], text[i+2]}] {
			if p.list >= best && (gone || !lists[p.list].Hard) {
				continue
			}

			if strings.HasPrefix(text[i:], p.text) && (p.open || boundary(text, i+len(p.text))) {
				best = min(best, p.list)
				gone = gone || lists[p.list].Hard
			}
		}
	}

	if best == len(lists) {
		return -1, false
	}

	return best, gone
}

// boundary reports whether position i of a text is not inside of a word.
func boundary(text string, i int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:i])
	behind, _ := utf8.DecodeRuneInString(text[i:])

	return !inWord(before) || !inWord(behind)
}

// Said is what the words of a text say.
type Said struct {
	Verdict
	Found bool // the text has a known phrase; otherwise nothing else is set
	First bool // counts more than any status code
	Weak  bool // does not count beside a status code of policy (x.7.x)
	Loose bool // does not count without a status or reply code
	Gone  bool // a phrase says that the recipient or domain does not exist
}

// contradicts reports whether the words give a reason to refuse a recipient that
// exists, and do not say that it does not exist.
func (s Said) contradicts() bool { return s.Found && !s.Hard && !s.Gone }

// Words returns what the words of a text say, without names. The local part of the
// recipient is removed as well, unless nothing known is left then.
func Words(text, recipient string) Said {
	local, _ := cutAddress(recipient)
	if local != "" {
		if said := search(normalize(text, local)); said.Found {
			return said
		}
	}

	words := normalize(text, "")
	if said := search(words); said.Found || !strings.Contains(text, "@") {
		return said
	}

	return judgeAddress(words)
}

// addressFaults are what some servers say of an address and nothing else: 550
// <bob@example.com> not found. Without an address they could be about anything.
var addressFaults = map[string]bool{
	"does not exist":    true,
	"doesn't exist":     true,
	"invalid":           true,
	"is invalid":        true,
	"is not found":      true,
	"is not known":      true,
	"is not known here": true,
	"is not valid":      true,
	"is unknown":        true,
	"not exist":         true,
	"not found":         true,
	"not known":         true,
	"not known here":    true,
	"not valid":         true,
	"unknown":           true,
	"was not found":     true,
}

// judgeAddress returns what the normalized words behind the last permanent reply
// code say of the address that was removed from them.
func judgeAddress(words string) Said {
	for i := len(words) - len("550"); i >= 0; i-- {
		if words[i] != '5' || !isReplyCode(words[i:i+3]) || !boundary(words, i) || !boundary(words, i+3) {
			continue
		}
		if i > 0 && words[i-1] == '.' { // part of a status code
			continue
		}

		rest, _, _ := strings.Cut(words[i+3:], "(in reply")
		rest = strings.Trim(rest, " .:;,!#()*'-0123456789")
		if !addressFaults[rest] {
			return Said{}
		}

		return Said{
			Verdict: Verdict{Class: InvalidRecipient, Hard: true},
			Found:   true,
			Loose:   true,
			Gone:    true,
		}
	}

	return Said{}
}

// search returns what the phrases in a normalized text say.
func search(text string) Said {
	i, gone := indexed().first(text)
	if i < 0 {
		return Said{}
	}

	return Said{
		Verdict: lists[i].Verdict,
		Found:   true,
		First:   lists[i].first,
		Weak:    lists[i].weak,
		Loose:   lists[i].loose,
		Gone:    gone,
	}
}
