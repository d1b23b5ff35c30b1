package report

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// expected is a line of bounces-expected.tsv.
type expected struct {
	status, reply, reason string
	hard                  bool
}

func readExpected(t testing.TB) map[string][]expected {
	t.Helper()
	b, err := os.ReadFile("testdata/bounces-expected.tsv")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]expected{}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		out[f[0]] = append(out[f[0]], expected{f[2], f[3], f[4], f[5] == "true"})
	}
	return out
}

// classes are those that fit a reason of the table's author; the API has fewer.
var classes = map[string][]int{
	"userunknown": {10, 30}, "hostunknown": {21, 10}, "hasmoved": {10}, "mailboxfull": {22}, "mesgtoobig": {23}, "exceedlimit": {23}, "norelaying": {54}, "virusdetected": {53},
	"spamdetected": {51, 52, 50}, "blocked": {50, 51, 70}, "badreputation": {50, 51}, "requireptr": {50, 51}, "authfailure": {50, 51}, "rejected": {50, 51, 54}, "policyviolation": {50, 51, 52, 53},
	"securityerror": {50, 51, 52, 25, 40, 54}, "expired": {24, 70, 21}, "networkerror": {24, 21, 25, 70, 40}, "notaccept": {21, 10, 25}, "filtered": {10, 20, 50, 40},
	"suspend": {20, 10}, "onhold": {1, 40, 70, 20, 25, 30, 10}, "systemerror": {25, 40, 70, 20, 24}, "mailererror": {25, 40, 20, 70}, "systemfull": {25, 22, 70}, "contenterror": {52, 40, 50, 25},
	"notcompliantrfc": {25, 40, 50, 52}, "syntaxerror": {25, 40}, "toomanyconn": {70, 50, 24, 51}, "speeding": {70, 50}, "failedstarttls": {25, 40, 50}, "undefined": {1, 40, 20, 70},
}

type tally struct {
	files, filesRight, statuses, statusRight, hard, hardRight, tooHard, class, classRight int
}

func (a *tally) add(b tally) {
	a.files += b.files
	a.filesRight += b.filesRight
	a.statuses += b.statuses
	a.statusRight += b.statusRight
	a.hard += b.hard
	a.hardRight += b.hardRight
	a.tooHard += b.tooHard
	a.class += b.class
	a.classRight += b.classRight
}

func rate(right, all int) float64 {
	if all == 0 {
		return 1
	}
	return float64(right) / float64(all)
}

func (a tally) String() string {
	return fmt.Sprintf("files %d/%d %.1f%%  status %d/%d %.1f%%  hard %d/%d %.1f%% (%d said to be hard and are not)  class %d/%d %.1f%%", a.filesRight, a.files, 100*rate(a.filesRight, a.files),
		a.statusRight, a.statuses, 100*rate(a.statusRight, a.statuses), a.hardRight, a.hard, 100*rate(a.hardRight, a.hard), a.tooHard, a.classRight, a.class, 100*rate(a.classRight, a.class))
}

var placeholder = regexp.MustCompile(`^\d\.0\.9\d\d$`)

// judgeFile compares what was read from one file with the table.
func judgeFile(name string, want []expected, say func(string, ...any)) tally {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		panic(err)
	}
	r := Parse(b)
	t := tally{files: 1}
	isBounce := r.Kind == Bounce || r.Kind == Delay
	right := false
	switch {
	case strings.HasPrefix(name, "not-a-bounce/"):
		right = !isBounce
	case strings.HasPrefix(name, "feedback/"):
		right = r.Kind == Complaint && (len(want) == 0 || len(r.Recipients) == len(want))
	case len(want) == 0: // the table does not speak of it
		right = isBounce
	case want[0].reason == "delivered":
		right = r.Kind == Delivered && len(r.Recipients) == len(want)
	default:
		right = isBounce && len(r.Recipients) == len(want)
	}
	if right {
		t.filesRight = 1
	} else {
		say("FILE %s: %s, %d recipients, want %d: %+v", name, r.Kind, len(r.Recipients), len(want), r.Recipients)
	}
	if !strings.HasPrefix(name, "bounces/") || len(r.Recipients) != len(want) {
		return t
	}
	for i, w := range want {
		c := r.Recipients[i]
		if w.status != "" && !placeholder.MatchString(w.status) {
			t.statuses++
			if c.Status == w.status {
				t.statusRight++
			} else {
				say("STATUS %s %d: %q, want %q (%s): %.200s", name, i+1, c.Status, w.status, w.reason, c.Diagnostic)
			}
		}
		if w.reason == "delivered" {
			continue
		}
		t.hard++
		switch {
		case c.Hard == w.hard:
			t.hardRight++
		case c.Hard:
			t.tooHard++
		}
		if c.Hard != w.hard {
			say("HARD %s %d: %v %s class %d, want %v (%s): %.200s", name, i+1, c.Hard, c.Status, c.Class, w.hard, w.reason, c.Diagnostic)
		}
		if ok, known := classes[w.reason]; known {
			t.class++
			if slices.Contains(ok, c.Class) {
				t.classRight++
			} else {
				say("CLASS %s %d: %d %s (%s): %.200s", name, i+1, c.Class, c.Status, w.reason, c.Diagnostic)
			}
		}
	}
	return t
}

var systemOf = regexp.MustCompile(`^(?:bounces/)?(.*?)-?\d*\.eml$`)

// thirdSalts draw the third that is kept aside. Who has read of it adds a salt:
// the last one counts.
var thirdSalts = []string{"", "third of November 2026/", "24 November 2026/"}

// keptAside reports whether a file belongs to the third that nobody looks at
// while rules are written: SHA-256 of the salt and its name is divisible by
// three.
func keptAside(file string) bool { return inThird(thirdSalts[len(thirdSalts)-1], file) }

// neverRead reports whether a file was in the third from the first on, so that no
// rule was ever written with it in sight.
func neverRead(file string) bool {
	for _, salt := range thirdSalts {
		if !inThird(salt, file) {
			return false
		}
	}

	return true
}

func inThird(salt, file string) bool {
	sum := sha256.Sum256([]byte(salt + filepath.Base(file)))

	return new(big.Int).Mod(new(big.Int).SetBytes(sum[:]), big.NewInt(3)).Sign() == 0
}

// corpus returns the names of all files under testdata, in order.
func corpus(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, dir := range []string{"bounces", "feedback", "not-a-bounce"} {
		names, err := filepath.Glob("testdata/" + dir + "/*.eml")
		if err != nil || len(names) == 0 {
			t.Fatal(dir, err)
		}
		for _, n := range names {
			files = append(files, strings.TrimPrefix(filepath.ToSlash(n), "testdata/"))
		}
	}
	slices.Sort(files)

	return files
}

// TestCorpus reads real bounces, complaints and what is neither. A third of the
// files is kept aside (see keptAside): its failures are counted and never shown,
// so that no rule can be about one of them. The totals that include it are
// logged with POSTERN_KEPT_ASIDE=1 only.
func TestCorpus(t *testing.T) {
	want, files := readExpected(t), corpus(t)
	var seen, aside, unread tally
	systems := map[string]*tally{}
	for _, name := range files {
		held := keptAside(name)
		say := t.Logf
		if held {
			say = func(string, ...any) {}
		}
		one := judgeFile(name, want[name], say)
		if held {
			aside.add(one)
			if neverRead(name) {
				unread.add(one)
			}
			continue
		}

		seen.add(one)
		system := systemOf.FindStringSubmatch(name)[1]
		if systems[system] == nil {
			systems[system] = &tally{}
		}
		systems[system].add(one)
		if strings.HasPrefix(name, "not-a-bounce/") && one.filesRight == 0 {
			t.Errorf("%s was taken for a bounce", name)
		}
	}
	names := make([]string, 0, len(systems))
	for n := range systems {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		t.Logf("%-24s %s", n, systems[n])
	}
	t.Logf("worked on:  %s", seen)
	all := seen
	all.add(aside)
	if os.Getenv("POSTERN_KEPT_ASIDE") != "" {
		t.Logf("kept aside: %s", aside)
		t.Logf("never read: %s", unread)
		t.Logf("all:        %s", all)
	}
	for what, v := range map[string][2]float64{"files": {rate(all.filesRight, all.files), 0.985}, "status": {rate(all.statusRight, all.statuses), 0.985}, "hard": {rate(all.hardRight, all.hard), 0.975}} {
		if v[0] < v[1] {
			t.Errorf("%s: %.3f right, want %.2f", what, v[0], v[1])
		}
	}
}

// updateRead writes testdata/read.tsv anew.
const updateRead = "POSTERN_UPDATE"

// readOf is all that was read of a report, on one line. Of a diagnostic there is
// the beginning and a sum.
func readOf(name string, r *Report) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.40q %x", name, r.Kind, r.Date.UTC().Format("2006-01-02T15:04:05Z"),
		r.OriginalEnvelopeID, r.FeedbackType, r.UserAgent, r.ReportingMTA, r.SourceIP, r.ReportedTo,
		r.returnedSubject, sha256.Sum256(append(append([]byte{}, r.returned...), r.text...)))
	for _, c := range r.Recipients {
		fmt.Fprintf(&out, "\t%s %q %q %q %q %d %v %.60q %.4x", c.Kind, c.Original, c.Final, c.Status, c.ReplyCode, c.Class, c.Hard,
			c.Diagnostic, sha256.Sum256([]byte(c.Diagnostic)))
	}

	return out.String()
}

// TestCorpusIsReadAsBefore: what is read of a real report does not change unless
// somebody means it to; POSTERN_UPDATE=1 writes it anew. Of the files kept aside
// there is only a sum.
func TestCorpusIsReadAsBefore(t *testing.T) {
	var lines []string
	for _, name := range corpus(t) {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		l := readOf(name, Parse(b))
		if keptAside(name) {
			l = fmt.Sprintf("%s\t%x", name, sha256.Sum256([]byte(l)))
		}
		lines = append(lines, l)
	}

	const file = "testdata/read.tsv"
	if os.Getenv(updateRead) != "" {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(want) != len(lines) {
		t.Fatalf("%d files, want %d", len(lines), len(want))
	}
	for i := range want {
		if lines[i] != want[i] {
			t.Errorf("got\n%s\nwant\n%s", lines[i], want[i])
		}
	}
}

// TestAddressesDecideNothing: another recipient in place of a report's own, with
// words of every kind in its name, is refused for the same reason.
func TestAddressesDecideNothing(t *testing.T) {
	names, err := filepath.Glob("testdata/bounces/*.eml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}

	for _, name := range names {
		if keptAside(name) {
			continue
		}
		msg, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r := Parse(msg)
		if len(r.Recipients) != 1 || !isAddress(r.Recipients[0].Final) || r.Recipients[0].Original != "" {
			continue
		}

		was := r.Recipients[0]
		for _, other := range []string{"bachelor.no-such-user@spamhaus.example", "over-quota@disabled.example", "vacation@x.example"} {
			changed := Parse(bytes.ReplaceAll(msg, []byte(was.Final), []byte(other)))
			if len(changed.Recipients) != 1 {
				continue // the address was part of something else
			}
			if is := changed.Recipients[0]; is.Class != was.Class || is.Hard != was.Hard {
				t.Errorf("%s as %s: got %d %v, want %d %v: %.300s", name, other, is.Class, is.Hard, was.Class, was.Hard, is.Diagnostic)
			}
		}
	}
}
