package report

import (
	"strings"

	"postern/tracking/bounce"
)

// keyLength is the least length of a phrase in bytes.
const keyLength = 3

// phrases is a set of phrases that are found anywhere in a text, in one pass.
type phrases struct {
	maybe [1 << 16]bool // a place for each hash of the first bytes of a phrase
	byKey map[[keyLength]byte][]string
}

// newPhrases reads an embedded list.
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

func hashKey(s string) uint16 { return uint16(s[0])<<8 ^ uint16(s[1])<<4 ^ uint16(s[2]) }

// in reports whether one of the phrases is in a text that was folded.
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

// folded is a text in lower case without accents, as lists of words are.
func folded(text string) string { return bounce.Fold(strings.ToLower(text)) }
