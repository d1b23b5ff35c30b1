package accounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
)

// openIn are the files of a folder that this process has open.
func openIn(t *testing.T, dir string) []string {
	t.Helper()

	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		name, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(name, dir+"/") {
			out = append(out, name)
		}
	}

	return out
}

// touched sets when a file was written to last.
func touched(t *testing.T, file string, at time.Time) {
	t.Helper()

	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

// at sets the follower's clock.
func (f *Follower) at(now time.Time) { f.c.Now = func() time.Time { return now } }

// noon is when a test's files are written.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// TestLastRecordIsWaitedFor as long as its file may grow, to the instant.
func TestLastRecordIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		name    string
		rotated bool
		after   time.Duration
		given   bool // up
	}{
		{"for five minutes", false, 5 * time.Minute, false},
		{"no longer", false, 5*time.Minute + 1, true},
		{"for ten seconds in a file that was rotated", true, 10 * time.Second, false},
		{"no longer there", true, 10*time.Second + 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			name := filepath.Join(dir, "acct.csv")
			appendTo(t, name, header+clean(1)+torn)
			touched(t, name, noon)
			f := follower(t, dir, m)
			t.Cleanup(f.closeAll)
			f.at(noon)
			poll(t, f)
			if c.rotated {
				if err := os.Rename(name, filepath.Join(dir, "acct-1.csv")); err != nil {
					t.Fatal(err)
				}
			}

			f.at(noon.Add(c.after))
			poll(t, f)
			poll(t, f)
			if got := badLines(t, dir) != ""; got != c.given {
				t.Errorf("given up: %t, want %t", got, c.given)
			}
		})
	}
}

// TestFilesAreKeptOpen while they grow, and five minutes longer.
func TestFilesAreKeptOpen(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration
		want  int
	}{
		{"five minutes", 5 * time.Minute, 1},
		{"no longer", 5*time.Minute + 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			name := filepath.Join(dir, "acct.csv")
			appendTo(t, name, header+clean(1))
			touched(t, name, noon)
			f := follower(t, dir, m)
			f.at(noon)
			poll(t, f)
			poll(t, f)
			if got := openIn(t, dir); len(got) != 1 {
				t.Errorf("open after it was read: %v, want it", got)
			}

			f.at(noon.Add(c.after))
			poll(t, f)
			if got := openIn(t, dir); len(got) != c.want || len(f.held) != c.want {
				t.Errorf("open: %v, %d held, want %d", got, len(f.held), c.want)
			}

			appendTo(t, name, clean(2))
			poll(t, f)
			if len(m.events) != 2 {
				t.Errorf("%d events once it has grown, want 2", len(m.events))
			}
			f.closeAll()
			if got := openIn(t, dir); len(got) != 0 || len(f.held) != 0 {
				t.Errorf("open at the end: %v, %d held", got, len(f.held))
			}
		})
	}
}

// TestOldFilesAreReadOnce: one that was read to its end long ago is not opened
// again; one that was not is.
func TestOldFilesAreReadOnce(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	name := filepath.Join(dir, "acct.csv")
	appendTo(t, name, header+clean(1)+torn)
	touched(t, name, noon)
	later := noon.Add(time.Hour)
	f := follower(t, dir, m)
	f.at(later)
	poll(t, f)
	if bad := badLines(t, dir); !strings.Contains(bad, "ends within") || len(m.events) != 1 {
		t.Fatalf("%d events, bad lines %q, want one of each", len(m.events), bad)
	}

	f = follower(t, dir, m) // a restart
	t.Cleanup(f.closeAll)
	f.at(later.Add(time.Hour))
	poll(t, f)
	if got := strings.Count(badLines(t, dir), "ends within"); got != 1 || len(m.events) != 1 {
		t.Errorf("%d events, the torn line is there %d times, want both once", len(m.events), got)
	}
	for _, s := range f.offsets {
		if s.Seen != later.Add(time.Hour).Unix() {
			t.Errorf("seen at %d, want %d", s.Seen, later.Add(time.Hour).Unix())
		}
	}

	appendTo(t, name, delivered[len(torn):])
	touched(t, name, noon.Add(time.Minute))
	poll(t, f)
	if len(m.events) != 2 {
		t.Errorf("%d events once the record had its end, want 2", len(m.events))
	}
}

// TestTruncatedFileIsReadAnew: PowerMTA, or an operator, cut off what was read;
// what is written next, though it be less, makes its events.
func TestTruncatedFileIsReadAnew(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		keep int // bytes
	}{
		{"to nothing", 0},
		{"to the header line", len(header)},
		{"to half", len(header) + len(cleans(15))},
		{"to one record less", len(header) + len(cleans(29))},
	} {
		for _, looked := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", looked at meanwhile ", looked), func(t *testing.T) {
				dir, m := t.TempDir(), &memory{}
				name := filepath.Join(dir, "acct.csv")
				appendTo(t, name, header+cleans(30))
				f := follower(t, dir, m)
				t.Cleanup(f.closeAll)
				poll(t, f)
				if len(m.events) != 30 {
					t.Fatalf("%d events, want 30", len(m.events))
				}

				if err := os.Truncate(name, int64(c.keep)); err != nil {
					t.Fatal(err)
				}
				if looked {
					poll(t, f)
				}
				more := "d,1795500000,,,new@example.net,,,,,,,,,,,,,,,,,,,good-new\r\n"
				if c.keep == 0 {
					more = header + more
				}
				appendTo(t, name, more)
				poll(t, f)
				if messages(m)["good-new"] != 1 {
					t.Errorf("the record behind made %d events, want 1", messages(m)["good-new"])
				}
			})
		}
	}
}

// TestFileOfTheSameHead: the first KiB tells files apart.
func TestFileOfTheSameHead(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	name := filepath.Join(dir, "acct.csv")
	appendTo(t, name, header+cleans(30))
	f := follower(t, dir, m)
	poll(t, f)
	f.closeAll()
	for _, s := range f.offsets {
		if s.HeadLen != 1024 {
			t.Errorf("the head has %d bytes, want 1024", s.HeadLen)
		}
	}

	for _, c := range []struct {
		name string
		at   int64
		want int
	}{
		{"the last byte of the head", 1023, 30},
		{"a byte behind it", 1024, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := []byte(header + cleans(30))
			whole[c.at] ^= 1 // another file, of a freed inode
			if err := os.WriteFile(name, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			appendTo(t, name, clean(31))
			m := &memory{}
			state := filepath.Join(dir, "state", "offsets.json")
			before, err := os.ReadFile(state)
			if err != nil {
				t.Fatal(err)
			}
			f := follower(t, dir, m)
			poll(t, f)
			f.closeAll()
			if len(m.events) < c.want || c.want == 0 && len(m.events) != 1 {
				t.Errorf("%d events, want at least %d", len(m.events), max(1, c.want))
			}
			if err := os.WriteFile(state, before, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPollGoesOn past what cannot be read, and says so.
func TestPollGoesOn(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	if err := os.Symlink("acct-loop.csv", filepath.Join(dir, "acct-loop.csv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "acct-gone.csv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "acct-folder.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, "acct-z.csv"), header+clean(1))
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	f.c.Globs = append([]string{"["}, f.c.Globs...)

	err := f.Poll(context.Background())
	if !errors.Is(err, filepath.ErrBadPattern) || !strings.Contains(err.Error(), "acct-loop.csv: too many levels") {
		t.Errorf("got %v, want the bad pattern and the loop", err)
	}
	if strings.Contains(err.Error(), "acct-folder") || strings.Contains(err.Error(), "acct-gone") {
		t.Errorf("got %v, want no word of the folder and of a file that is gone", err)
	}
	if len(m.events) != 1 {
		t.Errorf("%d events, want that of the file behind", len(m.events))
	}
}

func TestPollEndsWithItsContext(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	appendTo(t, filepath.Join(dir, "acct.csv"), header+clean(1))
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Poll(ctx); !errors.Is(err, context.Canceled) || len(m.events) != 0 {
		t.Errorf("got %v and %d events, want %v and none", err, len(m.events), context.Canceled)
	}
}

// TestMovedFileFails: what cannot be recorded of a file out of sight is said.
func TestMovedFileFails(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	name := filepath.Join(dir, "acct.csv")
	appendTo(t, name, header+clean(1))
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)
	appendTo(t, name, clean(2))
	if err := os.Rename(name, filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}

	m.broken = true
	if err := f.Poll(context.Background()); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("got %v, want the disk's error", err)
	}
	m.broken = false
	poll(t, f)
	if len(m.events) != 2 {
		t.Errorf("%d events, want 2", len(m.events))
	}
}

// TestRotatedFileStaysRotated, whatever its name is, over a restart.
func TestRotatedFileStaysRotated(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	first, second := filepath.Join(dir, "acct.csv"), filepath.Join(dir, "acct-2.csv")
	appendTo(t, first, header+clean(1)+torn)
	touched(t, first, noon)
	f := follower(t, dir, m)
	f.at(noon)
	poll(t, f)
	poll(t, f)
	for _, s := range f.offsets {
		if s.Renamed || s.Path != first {
			t.Errorf("got %+v, want a file that was not renamed", s)
		}
	}

	if err := os.Rename(first, second); err != nil {
		t.Fatal(err)
	}
	appendTo(t, second, "") // nothing is read: what was seen is kept in memory
	touched(t, second, noon)
	poll(t, f)
	poll(t, f)
	for _, s := range f.offsets {
		if !s.Renamed || s.Path != second || s.Seen != noon.Unix() {
			t.Errorf("got %+v, want a file that was renamed to %s", s, second)
		}
	}
	f.closeAll()
}

// TestRotatedFileGrowsAfterAll: one that seemed quiet was written to, so that
// the end of its last record may come.
func TestRotatedFileGrowsAfterAll(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	first, second := filepath.Join(dir, "acct.csv"), filepath.Join(dir, "acct-2.csv")
	appendTo(t, first, header+clean(1))
	touched(t, first, noon)
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	f.at(noon)
	poll(t, f)
	if err := os.Rename(first, second); err != nil {
		t.Fatal(err)
	}

	later := noon.Add(time.Minute)
	appendTo(t, second, torn)
	touched(t, second, later)
	f.at(later)
	poll(t, f)
	if bad := badLines(t, dir); bad != "" {
		t.Errorf("just written, and given up: %q", bad)
	}
	appendTo(t, second, delivered[len(torn):])
	touched(t, second, later)
	poll(t, f)
	if len(m.events) != 2 {
		t.Errorf("%d events once the record had its end, want 2", len(m.events))
	}
}

// TestLargeFilesAreReadInBlocks of 4 MiB, also when nothing more comes, and
// until the context ends.
func TestLargeFilesAreReadInBlocks(t *testing.T) {
	t.Parallel()

	const blocks = 3
	record := clean(1)
	text := header + strings.Repeat(record, blocks*4<<20/len(record))
	dir := t.TempDir()
	name := filepath.Join(dir, "acct.csv")
	appendTo(t, name, text)
	touched(t, name, noon)
	records := strings.Count(text, "\n") - 1

	m := &memory{}
	f := follower(t, dir, m)
	f.at(noon.Add(time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	f.c.Events = recorder(func(ctx context.Context, es ...*event.Event) error {
		cancel()
		return m.Record(ctx, es...)
	})
	if err := f.Poll(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n, want := len(m.events), (4<<20-len(header))/len(record); n != want {
		t.Errorf("%d events of the first block, want %d", n, want)
	}

	f.c.Events = m
	poll(t, f)
	f.closeAll()
	if len(m.events) != records || badLines(t, dir) != "" {
		t.Errorf("%d events, bad lines %q, want %d and none", len(m.events), badLines(t, dir), records)
	}
}

// recorder is a function that records.
type recorder func(context.Context, ...*event.Event) error

func (r recorder) Record(ctx context.Context, es ...*event.Event) error { return r(ctx, es...) }

// TestRetriesOfEarlierLooksStay where what is behind them cannot be recorded.
func TestRetriesOfEarlierLooksStay(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	name := filepath.Join(dir, "acct.csv")
	transient := "t" + clean(1)[1:]
	appendTo(t, name, header+transient)
	f := follower(t, dir, m)
	t.Cleanup(f.closeAll)
	poll(t, f)
	m.broken = true
	appendTo(t, name, transient)
	if err := f.Poll(t.Context()); err == nil {
		t.Error("no word of the failure")
	}
	m.broken = false
	poll(t, f)
	if len(m.events) != 2 || m.events[1].NumRetries != "1" {
		t.Errorf("%d events, the last with %s retries, want 2 and 1", len(m.events), m.events[len(m.events)-1].NumRetries)
	}
}

// TestNewFollower holds what a follower is like before anything is set, and that
// it says why there is none.
func TestNewFollower(t *testing.T) {
	dir := t.TempDir()
	globs := append(make([]string, 0, 8), filepath.Join(dir, "acct*.csv"))
	pipe, drop := filepath.Join(dir, "pipe"), filepath.Join(dir, "drop")
	reg := prometheus.NewRegistry()
	f, err := New(Config{
		Globs:   globs,
		Dir:     filepath.Join(dir, "state"),
		PipeDir: pipe,
		DropDir: drop,
		Metrics: reg,
		Log:     silent,
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.c.Every != time.Second {
		t.Errorf("looks every %s, want 1s", f.c.Every)
	}
	if d := time.Since(f.c.Now()).Abs(); d > time.Hour {
		t.Errorf("its clock is %s off", d)
	}
	want := []string{globs[0], filepath.Join(pipe, pipeGlob), filepath.Join(drop, pipeGlob)}
	if !slices.Equal(f.c.Globs, want) {
		t.Errorf("looks at %v, want %v", f.c.Globs, want)
	}
	if got := globs[:cap(globs)][1]; got != "" {
		t.Errorf("the caller's globs have %q in their rest", got)
	}
	for _, made := range []string{filepath.Join(dir, "state"), pipe} {
		info, err := os.Stat(made)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v, want a folder of mode 0700", made, info, err)
		}
	}
	if _, err := os.Stat(drop); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("others' folder: %v, want it left to them", err)
	}
	if err := reg.Register(f.records); err == nil {
		t.Error("its metric is not registered")
	}

	file := filepath.Join(dir, "file")
	appendTo(t, file, "x")
	for name, c := range map[string]Config{
		"state": {Dir: filepath.Join(file, "state")},
		"pipe":  {Dir: filepath.Join(dir, "state"), PipeDir: filepath.Join(file, "pipe")},
	} {
		c.Log = silent
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "accounting: mkdir") {
			t.Errorf("%s in the place of a file: got %v, want an error", name, err)
		}
	}
}

// TestRecordsAreCounted by what became of them, once they are durable.
func TestRecordsAreCounted(t *testing.T) {
	dir, m := t.TempDir(), &memory{broken: true}
	reg := prometheus.NewRegistry()
	appendTo(t, filepath.Join(dir, "acct.csv"), header+cleans(3)+otherTypes+"zz,bad\r\n\r\n"+strings.Replace(clean(9), "good", "bad", 1))
	f, err := New(Config{
		Globs:    []string{filepath.Join(dir, "acct.csv")},
		Dir:      filepath.Join(dir, "state"),
		Settings: Settings{Verify: good},
		Events:   m,
		Metrics:  reg,
		Log:      silent,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.closeAll)
	_ = f.Poll(context.Background()) // nothing is durable
	m.broken = false
	poll(t, f)

	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "postern_accounting_records_total" ||
		families[0].GetHelp() == "" {
		t.Fatalf("got %v, %v, want one metric with its help", families, err)
	}
	got := map[string]float64{}
	for _, metric := range families[0].GetMetric() {
		got[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
	}
	want := map[string]float64{
		"bad":            1,
		"delivery":       3,
		"ignored":        3,
		"no_id":          1,
		"out_of_band":    1,
		"spam_complaint": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestServeLooksByTime at folders that it could not watch, and says what fails.
func TestServeLooksByTime(t *testing.T) {
	dir, got := t.TempDir(), make(chan int, 16)
	var log logged
	f, err := New(Config{
		Globs:     []string{filepath.Join(dir, "later", "acct*.csv")},
		Dir:       filepath.Join(dir, "state"),
		Settings:  Settings{Verify: good},
		Events:    failsFirst{got, new(int)},
		Every:     time.Millisecond,
		OffsetsFS: &disk{},
		Log:       textLog(&log),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Serve(ctx) }()

	if err := os.Mkdir(filepath.Join(dir, "later"), 0o700); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, "later", "acct.csv"), header+clean(1))
	select {
	case <-got:
	case <-time.After(20 * time.Second):
		t.Error("nobody looked")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if len(f.held) != 0 || len(openIn(t, filepath.Join(dir, "later"))) != 0 {
		t.Errorf("%d files are open at the end", len(f.held))
	}
	if n := strings.Count(log.String(), "cannot read all files"); n != 1 {
		t.Errorf("the failure was logged %d times, want once:\n%s", n, log.String())
	}
}

// TestOffsetsAreForgotten after thirty days without a sight of the file.
func TestOffsetsAreForgotten(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration
		want  int
	}{
		{"thirty days", 30 * 24 * time.Hour, 2},
		{"a second more", 30*24*time.Hour + time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			f := follower(t, dir, m)
			t.Cleanup(f.closeAll)
			f.offsets["0:1"] = &fileState{Path: "gone", Seen: noon.Unix()}
			appendTo(t, filepath.Join(dir, "acct.csv"), header+clean(1))
			f.at(noon.Add(c.after))
			poll(t, f)
			if len(f.offsets) != c.want {
				t.Errorf("%d files are remembered, want %d", len(f.offsets), c.want)
			}
		})
	}
}

func TestValidOffsets(t *testing.T) {
	for _, c := range []struct {
		name string
		s    *fileState
		want bool
	}{
		{"none", nil, false},
		{"nothing was read", &fileState{}, true},
		{"the longest head", &fileState{HeadLen: 1024}, true},
		{"a longer head", &fileState{HeadLen: 1025}, false},
		{"negative head", &fileState{HeadLen: -1}, false},
		{"negative lines", &fileState{Lines: -1}, false},
		{"negative offset", &fileState{Offset: -1}, false},
	} {
		if got := c.s.valid(); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}

// TestOffsetsAreChecked: what has the right checksum and cannot be offsets is not
// taken for them.
func TestOffsetsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name, files string
		want        int // -1: an error
	}{
		{"whole", `{"1:2":{"offset":5}}`, 1},
		{"none", `{}`, 0},
		{"no object", `[]`, -1},
		{"an empty one", `{"1:2":null}`, -1},
		{"an impossible one", `{"1:2":{"offset":-5}}`, -1},
	} {
		got, err := readOffsets([]byte(fmt.Sprintf(`{"sum":%q,"files":%s}`, checksum([]byte(c.files)), c.files)))
		if (err != nil) != (c.want < 0) || err == nil && len(got) != c.want {
			t.Errorf("%s: got %v, %v, want %d", c.name, got, err, c.want)
		}
	}
	if got := checksum([]byte("123456789")); got != "e3069283" { // the check value of CRC-32C
		t.Errorf("got the checksum %s", got)
	}
}

// TestHeadThatCannotBeRead is another file's, and is not remembered.
func TestHeadThatCannotBeRead(t *testing.T) {
	s := &fileState{HeadLen: 5}
	if s.isSameFile(strings.NewReader("1234"), 10) {
		t.Error("a file that is shorter than it says counts as the same")
	}
	f := follower(t, t.TempDir(), &memory{})
	err := f.remember(strings.NewReader("1234"), &fileState{}, 5)
	if err == nil || !strings.HasPrefix(err.Error(), "accounting: ") {
		t.Errorf("got %v, want the error of reading", err)
	}
}

// TestFoldersThatCannotBeWatched are polled, and that is logged.
func TestFoldersThatCannotBeWatched(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f := follower(t, dir, &memory{})
	f.c.Log = textLog(&log)
	f.c.Globs = append(f.c.Globs, filepath.Join(dir, "loop", "acct*.csv"))
	_, stop := f.watch(t.Context())
	stop()
	want := "folder=" + filepath.Join(dir, "loop") + " every_seconds=1"
	if n := strings.Count(log.String(), "cannot watch for changes, polling"); n != 1 || !strings.Contains(log.String(), want) {
		t.Errorf("got log %q, want %q once", log.String(), want)
	}
}

// TestOffsetsThatCannotBeRead end a start where nothing else can be done.
func TestOffsetsThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "offsets.json")
	c := Config{Dir: dir, Log: silent}
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "accounting: read") {
		t.Errorf("a folder: got %v, want the error of reading it", err)
	}

	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	appendTo(t, name, "{")
	if err := os.MkdirAll(filepath.Join(name+".broken", "x"), 0o700); err != nil { // no rename over it
		t.Fatal(err)
	}
	if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "accounting: rename") {
		t.Errorf("broken, and in the way of its rename: got %v, want the rename's error", err)
	}
	if err := os.RemoveAll(name + ".broken"); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	c.Log = textLog(&log)
	if _, err := New(c); err != nil {
		t.Errorf("broken: got %v, want a start", err)
	}
	if got, err := os.ReadFile(name + ".broken"); err != nil || string(got) != "{" {
		t.Errorf("got %q, %v, want what was broken", got, err)
	}
	if !strings.Contains(log.String(), "file="+name+".broken") {
		t.Errorf("no word of where it is: %s", log.String())
	}
}
