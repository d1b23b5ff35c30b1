package report

import (
	"strings"

	"postern/tracking/bounce"
)

// keyLength is the least length of a phrase in bytes.
const keyLength = 3

// phrases is a set of phrases that can be searched for in one pass over a text.
type phrases struct {
	maybe [1 << 16]bool // whether a phrase begins with bytes of this hash
	byKey map[[keyLength]byte][]string
}

// newPhrases returns the phrases of an embedded file.
func newPhrases(file string) *phrases {
	p := &phrases{byKey: map[[keyLength]byte][]string{}}
	for _, s := range wordList(file) {
		if len(s) < keyLength {
			continue
		}

		key := [keyLength]byte{s[0], s[1], s[2]}
		p.byKey[key] = append(p.byKey[key], s)
		p.maybe[hashKey(s)] = true
	}

	return p
}

// hashKey returns a hash of the first keyLength bytes of s.
func hashKey(s string) uint16 { return uint16(s[0])<<8 ^ uint16(s[1])<<4 ^ uint16(s[2]) }

// in reports whether a folded text contains any of the phrases.
func (p *phrases) in(text string) bool {
	for i := 0; i+keyLength <= len(text); i++ {
		if !p.maybe[hashKey(text[i:])] {
			continue
		}

		for _, s := range p.byKey[[keyLength]byte{text[i], text[i+1], text[i+2]}] {
			if strings.HasPrefix(text[i:], s) {
				return true
			}
		}
	}

	return false
}

// folded returns a text in lower case and without accents, like the word lists.
func folded(text string) string { return bounce.Fold(strings.ToLower(text)) }
