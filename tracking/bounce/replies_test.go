package bounce

import (
	_ "embed"
	"strconv"
	"strings"
	"testing"
)

// replies.tsv holds replies in the wording of many mail systems: class, hard or
// soft, status code, text.
//
//go:embed testdata/replies.tsv
var replies string

// TestKnownReplies: what mail systems are known to say has its class.
func TestKnownReplies(t *testing.T) {
	for line := range strings.Lines(replies) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.SplitN(line, "\t", 4)
		if len(f) != 4 {
			t.Fatalf("line %q has %d fields", line, len(f))
		}
		t.Run(f[3], func(t *testing.T) {
			got := Classify(Refusal{Status: strings.Trim(f[2], "-"), Text: f[3]})
			if hard := f[1] == "hard"; got.Hard != hard || !contains(f[0], got.Class) {
				t.Errorf("got %+v, want %s %s (%q)", got, f[0], f[1], normalize(f[3], ""))
			}
		})
	}
}

// contains reports whether a class is among those that a text lists.
func contains(list string, class int) bool {
	for want := range strings.SplitSeq(list, "|") {
		if want == strconv.Itoa(class) {
			return true
		}
	}

	return false
}
