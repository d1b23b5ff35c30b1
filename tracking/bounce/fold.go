package bounce

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// letters replaces letters that do not decompose into a letter and an accent, and
// makes one form of quotes and dashes.
var letters = strings.NewReplacer(
	"ß", "ss", "ł", "l", "Ł", "L", "ø", "o", "Ø", "O", "đ", "d", "æ", "ae", "œ", "oe", "ı", "i",
	"’", "'", "‘", "'", "“", `"`, "”", `"`, "„", `"`, "«", `"`, "»", `"`, "–", "-", "—", "-", "‑", "-",
)

// Fold removes accents and makes one form of quotes and dashes, as in the word
// lists. It does not change case.
func Fold(text string) string {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return foldUnicode(strings.ToValidUTF8(text, " "))
		}
	}

	return text
}

// foldUnicode is Fold for text that is not plain ASCII.
func foldUnicode(text string) string {
	text = norm.NFKD.String(letters.Replace(text))

	return strings.Map(func(r rune) rune {
		if 0x300 <= r && r <= 0x36F { // combining accents
			return -1
		}

		return r
	}, text)
}

// ideographic reports whether a letter is of a script without spaces between
// words.
func ideographic(r rune) bool {
	if r < 0x0E00 {
		return false
	}

	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai) ||
		0x3000 <= r && r <= 0x303F // punctuation
}

// inWord reports whether a rune is part of a word that must match as a whole.
func inWord(r rune) bool {
	return (unicode.IsLetter(r) || unicode.IsDigit(r)) && !ideographic(r)
}
