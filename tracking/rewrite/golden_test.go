package rewrite

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/relay/message"
)

var update = flag.Bool("update", false, "write testdata/golden.txt anew")

// outcome says in a line what became of a message: what a plan says of itself,
// and a digest of a rendered copy.
func outcome(msg []byte, o Options) string {
	header, body, separated := message.Split(msg)
	p := Parse(header, body, separated, o)
	var out bytes.Buffer
	p.Render(&out, &numbered{targets: map[string]string{}})

	skipped := map[Reason]int{}
	for _, r := range p.Skipped {
		skipped[r]++
	}

	return fmt.Sprintf("links=%d pixels=%d changed=%v tracked=%v 8bit=%v size=%d own=%d length=%d skipped=%v sha256=%.8x",
		p.Links, p.Pixels, p.Changed(), p.Tracked(), p.EightBit(), p.Size(), p.OwnSize(), out.Len(), skipped, sha256.Sum256(out.Bytes()))
}

// TestCorpusStaysTheSame: nothing becomes of the corpus but what did before. A
// change that is meant is written down with -update, and its diff read.
func TestCorpusStaysTheSame(t *testing.T) {
	got := map[string]string{}
	for name, raw := range corpusHTML(t) {
		data := crlfOf(raw)
		for _, c := range []struct{ kind, enc string }{
			{"html", "8bit"}, {"html", "quoted-printable"}, {"html", "base64"}, {"x-amp-html", "8bit"}, {"plain", "quoted-printable"},
		} {
			msg := "Content-Type: text/" + c.kind + "; charset=utf-8\r\nContent-Transfer-Encoding: " + c.enc + "\r\n\r\n" +
				string(transferEncode(c.enc, data))
			got[name+" "+c.kind+" "+c.enc] = outcome([]byte(msg), corpusOptions())
		}
	}

	sevenBit := corpusOptions()
	sevenBit.SevenBit = true
	sevenBit.InitialOpen = false
	files, err := filepath.Glob("testdata/corpus/messages/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(f)] = outcome(crlfOf(data), corpusOptions())
		got[filepath.Base(f)+" 7bit"] = outcome(crlfOf(data), sevenBit)
	}

	const file = "testdata/golden.txt"
	if *update {
		var lines []string
		for name, line := range got {
			lines = append(lines, name+": "+line+"\n")
		}
		slices.Sort(lines)
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(golden)) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		want[name] = rest
	}
	if len(want) != len(got) {
		t.Errorf("%d outcomes, %d are written down", len(got), len(want))
	}
	const shown = 5
	differ := 0
	for name, line := range got {
		if want[name] == line {
			continue
		}
		if differ++; differ <= shown {
			t.Errorf("%s:\ngot  %s\nwant %s", name, line, want[name])
		}
	}
	if differ > shown {
		t.Errorf("%d outcomes differ in all", differ)
	}
}
