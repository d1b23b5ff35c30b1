package accounting

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var silent = slog.New(slog.DiscardHandler)

// piped is a follower of a pipe's folder.
func piped(t *testing.T, dir string, m *memory) *Follower {
	t.Helper()
	f, err := New(Config{
		Dir:          filepath.Join(dir, "state"),
		PipeDir:      filepath.Join(dir, "pipe"),
		Settings:     Settings{Verify: good},
		Events:       m,
		OffsetsFS:    &disk{},
		QuarantineFS: &disk{},
		Log:          silent,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.closeAll)
	return f
}

// unsynced is a pipe's folder without fsyncs.
func unsynced(dir string) PipeTarget { return PipeTarget{Dir: filepath.Join(dir, "pipe"), FS: &disk{}} }

func pipeFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "pipe", pipeGlob))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestPipe: what came through a pipe is on disk without a gateway, becomes
// events once, and is removed when it has.
func TestPipe(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	in := header + delivered + bounced("good-2", "other", "5.0.0", "smtp;550 line one\nline two")
	if err := Pipe(context.Background(), slowly(in), unsynced(dir), silent); err != nil {
		t.Fatal(err)
	}
	if names := pipeFiles(t, dir); len(names) != 1 {
		t.Fatalf("files %v", names)
	}
	f := piped(t, dir, m)
	poll(t, f)
	if len(m.events) != 2 {
		t.Errorf("%d events", len(m.events))
	}
	if names := pipeFiles(t, dir); len(names) != 0 {
		t.Errorf("left %v", names)
	}
}

// slowly gives its text a few bytes at a time.
func slowly(s string) io.Reader { return &slow{s} }

type slow struct{ s string }

func (r *slow) Read(p []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 7)], r.s)
	r.s = r.s[n:]
	return n, nil
}

// TestPipeWhileWritten: a file is read while its writer lives, and stays.
func TestPipeWhileWritten(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Pipe(context.Background(), r, unsynced(dir), silent) }()
	f := piped(t, dir, m)
	write := func(s string, events int) {
		t.Helper()
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for len(m.events) < events && time.Now().Before(deadline) {
			poll(t, f)
		}
		if len(m.events) != events {
			t.Fatalf("%d events, want %d", len(m.events), events)
		}
	}
	write(header+delivered, 1)
	write(delivered, 2)
	if names := pipeFiles(t, dir); len(names) != 1 {
		t.Errorf("files %v", names)
	}
	if _, err := io.WriteString(w, delivered[:50]); err != nil { // PowerMTA dies within a record
		t.Fatal(err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	poll(t, f)
	poll(t, f)
	if names := pipeFiles(t, dir); len(names) != 0 || len(m.events) != 2 {
		t.Errorf("left %v, %d events", names, len(m.events))
	}
	if bad, err := os.ReadFile(filepath.Join(dir, "state", "bad.csv")); err != nil ||
		!strings.Contains(string(bad), delivered[:50]) {
		t.Errorf("the record without an end was not quarantined: %q %v", bad, err)
	}
}

// TestPipeIsKeptWhereTheSpoolFails: what could not be recorded stays on disk.
func TestPipeIsKeptWhereTheSpoolFails(t *testing.T) {
	dir, m := t.TempDir(), &memory{broken: true}
	if err := Pipe(context.Background(), strings.NewReader(header+delivered), unsynced(dir), silent); err != nil {
		t.Fatal(err)
	}
	f := piped(t, dir, m)
	for range 3 {
		if err := f.Poll(context.Background()); err == nil {
			t.Error("no word of the failure")
		}
	}
	m.broken = false
	poll(t, f)
	if len(m.events) != 1 || len(pipeFiles(t, dir)) != 0 {
		t.Errorf("%d events, left %v", len(m.events), pipeFiles(t, dir))
	}
}

// TestPipeRotates: each file begins with the header line, no record is parted.
func TestPipeRotates(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	p := newPipe(unsynced(dir), silent)
	if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, b := range []string{header + delivered, delivered} {
		if err := p.put([]byte(b)); err != nil {
			t.Fatal(err)
		}
		p.size = maxPipeBytes + 1
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	if names := pipeFiles(t, dir); len(names) != 2 {
		t.Errorf("files %v", names)
	}
	poll(t, piped(t, dir, m))
	if len(m.events) != 2 {
		t.Errorf("%d events", len(m.events))
	}
}

// TestPipeDiskFails: what was not written whole is written again elsewhere, once.
func TestPipeDiskFails(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	p := newPipe(unsynced(dir), silent)
	if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.put([]byte(header + delivered)); err != nil {
		t.Fatal(err)
	}
	appendTo(t, pipeFiles(t, dir)[0], delivered[:60]) // a write that was cut short
	p.drop()
	p.insist(context.Background(), []byte(delivered))
	p.close()
	poll(t, piped(t, dir, m))
	if len(m.events) != 2 || len(pipeFiles(t, dir)) != 0 {
		t.Errorf("%d events, left %v", len(m.events), pipeFiles(t, dir))
	}
}

// TestPipeEndsWithItsContext, though the other side keeps it open and says
// nothing; what had come in is on disk.
func TestPipeEndsWithItsContext(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Pipe(ctx, r, unsynced(dir), silent) }()
	if _, err := io.WriteString(w, header+delivered); err != nil { // returns once it was read
		t.Fatal(err)
	}
	f := piped(t, dir, m)
	deadline := time.Now().Add(20 * time.Second)
	for len(m.events) == 0 && time.Now().Before(deadline) {
		poll(t, f)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("still there")
	}
	w.Close() // lets the reader go
	if len(m.events) != 1 {
		t.Errorf("%d events", len(m.events))
	}
}

// TestPipeGivesUp: where the disk takes nothing, PowerMTA is not held up; what
// was given up is said, and the records behind it are whole.
func TestPipeGivesUp(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	var out bytes.Buffer
	p := newPipe(unsynced(dir), slog.New(slog.NewTextHandler(&out, nil))) // a folder that is not there
	p.wait = time.Millisecond
	ctx := context.Background()
	p.push(ctx, []byte(header))
	for range pipeBacklog + 5 { // nobody writes: the backlog runs over
		p.push(ctx, []byte(delivered))
	}
	if p.lost < 6*int64(len(delivered)) {
		t.Errorf("%d bytes given up", p.lost)
	}
	if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range pipeBacklog {
		p.add(ctx, <-p.chunks)
	}
	p.push(ctx, []byte(delivered[len(delivered)/2:]+delivered)) // the rest of a record that was cut, and one more
	p.add(ctx, <-p.chunks)
	p.close()
	if !strings.Contains(out.String(), "ACCOUNTING RECORDS WERE LOST") {
		t.Errorf("no word of it: %s", out.String())
	}
	poll(t, piped(t, dir, m))
	if len(m.events) != pipeBacklog-1+1 {
		t.Errorf("%d events", len(m.events))
	}
}

// TestPipeFileIsLockedFirst: no file has a name that a follower finds before
// its writer holds it.
func TestPipeFileIsLockedFirst(t *testing.T) {
	t.Parallel()

	dir, m := t.TempDir(), &memory{}
	f := piped(t, dir, m)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // looks as often as it can
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				f.removeFinished(context.Background())
			}
		}
	}()
	p := newPipe(unsynced(dir), silent)
	const n = 100
	for i := range n {
		b := delivered
		if i == 0 {
			b = header + delivered
		}
		if err := p.put([]byte(b)); err != nil {
			t.Fatal(err)
		}
		p.close()
	}
	close(stop)
	<-done
	poll(t, f)
	if len(m.events) != n {
		t.Errorf("%d events of %d records", len(m.events), n)
	}
}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
