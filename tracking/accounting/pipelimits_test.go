package accounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"postern/tracking/spool/atomicfile"
)

// TestPipeFilesHave64MiB and a header line each; a file that cannot be closed
// costs none.
func TestPipeFilesHave64MiB(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int64
		fails func(int) bool
		files int
	}{
		{"64 MiB", 64 << 20, nil, 1},
		{"a byte more", 64<<20 + 1, nil, 2},
		{"a byte more, not to be closed", 64<<20 + 1, once(6), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			d := &disk{}
			p := newPipe(PipeTarget{Dir: filepath.Join(dir, "pipe"), FS: d}, silent)
			if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := p.put([]byte(header + clean(1))); err != nil {
				t.Fatal(err)
			}
			if p.size != int64(len(header+clean(1))) {
				t.Errorf("got a size of %d, want %d", p.size, len(header+clean(1)))
			}
			p.size = c.size
			d.calls, d.fail = 0, c.fails
			if err := p.put([]byte(clean(2))); err != nil {
				t.Fatal(err)
			}
			if c.fails != nil && d.which != "close" {
				t.Errorf("%s failed, want close", d.which)
			}
			if err := p.close(); err != nil {
				t.Error(err)
			}
			d.held(t)
			if got := pipeFiles(t, dir); len(got) != c.files {
				t.Errorf("got files %v, want %d", got, c.files)
			}
			poll(t, piped(t, dir, m))
			if len(m.events) != 2 || badLines(t, dir) != "" {
				t.Errorf("%d events, bad lines %q, want 2 and none", len(m.events), badLines(t, dir))
			}
		})
	}
}

// TestPipePartsNoRecord, wherever its reads end: each of its files can be read
// for itself.
func TestPipePartsNoRecord(t *testing.T) {
	t.Parallel()

	top := t.TempDir()
	text := header + delivered + bounced("good-2", "other", "5.0.0", "smtp;550 one\r\ntwo, \"\"three\"\"\nfour") + clean(3)
	for at := len(header) - 2; at < len(text); at++ {
		if !strings.ContainsAny(text[at-1:at+1], "\"\r\n") && at%9 != 0 {
			continue
		}
		dir := filepath.Join(top, fmt.Sprint(at))
		p := newPipe(unsynced(dir), silent)
		if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		p.add(t.Context(), []byte(text[:at]))
		p.size = maxPipeBytes + 1
		p.add(t.Context(), []byte(text[at:]))
		if rest := p.scan.rest(); len(rest) != 0 {
			t.Errorf("cut at %d: %q is kept back", at, rest)
		}
		p.close()

		events, log := 0, ""
		for _, name := range pipeFiles(t, dir) {
			in, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			e, l, err := printedEvents(t, in)
			in.Close()
			if err != nil {
				t.Errorf("cut at %d: %v", at, err)
			}
			events, log = events+len(e), log+l
		}
		if events != 3 || log != "" {
			t.Fatalf("cut at %d: %d events, log %q, want 3 and none", at, events, log)
		}
	}
}

// TestPipeWaitsForTheDisk for five seconds, with a backlog of 128 chunks before
// that, and says what was given up.
func TestPipeWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := newPipe(PipeTarget{}, textLog(&log))
		begun := time.Now()
		for range 128 {
			p.push(t.Context(), []byte("x\n"))
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("the backlog took %s, want 0s", took)
		}
		p.push(t.Context(), []byte("lost\n"))
		if took := time.Since(begun); took != 5*time.Second || p.lost != 5 {
			t.Errorf("gave up %d bytes after %s, want 5 after 5s", p.lost, took)
		}
		p.push(t.Context(), []byte("lost, too\n"))
		if p.lost != 5+10+int64(len(cutHere)) {
			t.Errorf("gave up %d bytes, want those of both", p.lost)
		}

		<-p.chunks
		p.push(t.Context(), []byte("y\n"))
		if p.lost != 0 || !strings.Contains(log.String(), fmt.Sprint("bytes=", 15+len(cutHere))) {
			t.Errorf("%d bytes are still lost, log %s", p.lost, log.String())
		}
		var last []byte
		for range 128 {
			last = <-p.chunks
		}
		if string(last) != "\x00\ny\n" {
			t.Errorf("got %q, want it parted from what was lost", last)
		}

		for range 128 {
			p.push(t.Context(), []byte("x\n"))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		begun = time.Now()
		p.push(ended, []byte("x\n"))
		if took := time.Since(begun); took != 0 {
			t.Errorf("at the end it took %s, want 0s", took)
		}
	})
}

// TestPipeReadsOnWhatCameWithTheEnd, and says what ended it.
func TestPipeReadsOnWhatCameWithTheEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		text string
		err  error
	}{
		{"the end", header + clean(1) + clean(2), nil},
		{"no line end at the end", header + clean(1) + strings.TrimSpace(clean(2)), nil},
		{"an error", header + clean(1) + clean(2), errDisk},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m := t.TempDir(), &memory{}
			in := iotest.DataErrReader(strings.NewReader(c.text))
			if c.err != nil {
				in = iotest.DataErrReader(&failing{strings.NewReader(c.text), c.err})
			}
			err := Pipe(t.Context(), in, unsynced(dir), silent)
			if !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Errorf("got %v, want %v", err, c.err)
			}
			f := piped(t, dir, m)
			poll(t, f)
			poll(t, f)
			if len(m.events) != 2 {
				t.Errorf("%d events, want 2", len(m.events))
			}
		})
	}
}

// TestPipeReads64KiB at a time.
func TestPipeReads64KiB(t *testing.T) {
	in := &measured{Reader: strings.NewReader(header + clean(1))}
	if err := Pipe(t.Context(), in, unsynced(t.TempDir()), silent); err != nil {
		t.Fatal(err)
	}
	if in.most != 64<<10 {
		t.Errorf("read %d bytes at a time, want 64 KiB", in.most)
	}

	p := newPipe(unsynced(t.TempDir()), silent)
	if err := p.read(t.Context(), strings.NewReader("x")); err != nil || len(p.chunks) != 1 {
		t.Errorf("got %v and %d chunks, want one", err, len(p.chunks))
	}
}

// measured notes how much is read at once.
type measured struct {
	*strings.Reader
	most int
}

func (m *measured) Read(b []byte) (int, error) {
	m.most = max(m.most, len(b))
	return m.Reader.Read(b)
}

// failing reads as its reader does and fails at the end.
type failing struct {
	*strings.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err != nil {
		err = f.err
	}
	return n, err
}

// TestPipeWithoutAFolder goes on with the gateway alone, or says why it cannot.
func TestPipeWithoutAFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	appendTo(t, file, "x")
	bad := filepath.Join(file, "pipe")
	err := Pipe(t.Context(), strings.NewReader(header+clean(1)), PipeTarget{Dir: bad}, silent)
	if err == nil || !strings.HasPrefix(err.Error(), "accounting: "+bad+": mkdir") {
		t.Errorf("without a gateway: got %v, want the folder's error", err)
	}

	var log bytes.Buffer
	to := PipeTarget{Dir: bad, Gateway: func() (*os.File, error) { return os.Create(filepath.Join(dir, "handed")) }}
	if err := Pipe(t.Context(), strings.NewReader(header+clean(1)), to, textLog(&log)); err != nil {
		t.Errorf("with a gateway: got %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "handed")); string(got) != header+clean(1) {
		t.Errorf("got %q in the gateway's file", got)
	}
	if !strings.Contains(log.String(), "cannot be kept") {
		t.Errorf("no word of the folder: %s", log.String())
	}

	log.Reset()
	to.Dir = ""
	if err := Pipe(t.Context(), strings.NewReader(header+clean(1)), to, textLog(&log)); err != nil || log.Len() != 0 {
		t.Errorf("with a gateway alone: got %v, log %q", err, log.String())
	}

	to = PipeTarget{Dir: filepath.Join(dir, "made"), Gateway: func() (*os.File, error) { return nil, errDisk }}
	if err := Pipe(t.Context(), strings.NewReader(header+clean(1)), to, textLog(&log)); err != nil {
		t.Errorf("without a gateway: got %v", err)
	}
	info, err := os.Stat(to.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want a folder of mode 0700", info, err)
	}
	if names, _ := filepath.Glob(filepath.Join(to.Dir, pipeGlob)); len(names) != 1 ||
		!strings.Contains(log.String(), "no file from the gateway") {
		t.Errorf("got files %v, log %s", names, log.String())
	}

	p := newPipe(PipeTarget{Gateway: func() (*os.File, error) { return nil, errDisk }}, silent)
	if err := p.put([]byte(clean(1))); !errors.Is(err, errDisk) {
		t.Errorf("neither: got %v, want the gateway's error", err)
	}
	p.to.Dir = filepath.Join(dir, "none")
	if err := p.put([]byte(clean(1))); !errors.Is(err, errDisk) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("neither: got %v, want both errors", err)
	}
}

// TestPipeFilesOfOthersStay: a file whose writer lives, one that is not read to
// its end, and one that cannot be removed.
func TestPipeFilesOfOthersStay(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	f := piped(t, dir, m)
	writer, err := createPipeFile(osPipes{}, filepath.Join(dir, "pipe"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte(header + clean(1))); err != nil {
		t.Fatal(err)
	}
	poll(t, f)
	poll(t, f)
	if got := pipeFiles(t, dir); len(got) != 1 || len(m.events) != 1 {
		t.Errorf("while the writer lives: %d events, files %v", len(m.events), got)
	}
	if _, err := writer.Write([]byte(clean(2))); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if err := f.removeFinished(t.Context()); err != nil { // before it is read
		t.Fatal(err)
	}
	if got := pipeFiles(t, dir); len(got) != 1 {
		t.Errorf("before it was read: files %v", got)
	}
	other := filepath.Join(dir, "pipe", "pipe-other.csv")
	appendTo(t, other, header+clean(3))
	if err := f.removeFinished(t.Context()); err != nil { // before it is known at all
		t.Fatal(err)
	}
	if err := os.Remove(other); err != nil {
		t.Errorf("a file that is not known was removed: %v", err)
	}
	poll(t, f)
	if got := pipeFiles(t, dir); len(got) != 0 || len(m.events) != 2 {
		t.Errorf("at the end: %d events, files %v", len(m.events), got)
	}
	if got := openIn(t, filepath.Join(dir, "pipe")); len(got) != 0 || len(f.offsets) != 0 {
		t.Errorf("%v is open, %d files are remembered", got, len(f.offsets))
	}
	saved, err := os.ReadFile(f.offsetsFile())
	if err != nil || strings.Contains(string(saved), "pipe-") {
		t.Errorf("got %s, %v, want no word of the file", saved, err)
	}

	appendTo(t, filepath.Join(dir, "pipe", "pipe-empty.csv"), "") // its writer died before it wrote
	if err := os.Symlink("pipe-loop.csv", filepath.Join(dir, "pipe", "pipe-loop.csv")); err != nil {
		t.Fatal(err)
	}
	err = f.removeFinished(t.Context())
	if err == nil || !strings.Contains(err.Error(), "accounting: open") {
		t.Errorf("got %v, want the error of the link", err)
	}
	if got := pipeFiles(t, dir); len(got) != 1 {
		t.Errorf("files %v, want the link alone", got)
	}
}

// TestPipeFileThatCannotBeRemoved is not read again, and is removed later.
func TestPipeFileThatCannotBeRemoved(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	f := piped(t, dir, m)
	d := &disk{}
	f.c.OffsetsFS = removes{d}
	appendTo(t, filepath.Join(dir, "pipe", "pipe-1.csv"), header+clean(1))
	d.fail = from(1)
	for range 3 {
		if err := f.Poll(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("got %v, want the disk's error", err)
		}
	}
	if got := pipeFiles(t, dir); len(got) != 1 || len(m.events) != 1 {
		t.Errorf("files %v, %d events, want one of each", got, len(m.events))
	}
	d.fail = nil
	poll(t, f)
	if got := pipeFiles(t, dir); len(got) != 0 || len(m.events) != 1 || len(f.offsets) != 0 || len(f.held) != 0 {
		t.Errorf("files %v, %d events, %d remembered", got, len(m.events), len(f.offsets))
	}
}

// TestPipeFileIsForgotten in the end, whichever call for offsets.json fails.
func TestPipeFileIsForgotten(t *testing.T) {
	for at := 1; ; at++ {
		dir, m := t.TempDir(), &memory{}
		f := piped(t, dir, m)
		d := &disk{fail: once(at)}
		f.c.OffsetsFS = d
		appendTo(t, filepath.Join(dir, "pipe", "pipe-1.csv"), header+clean(1))
		for range 3 {
			_ = f.Poll(t.Context()) // says what failed
		}
		saved, err := os.ReadFile(f.offsetsFile())
		if err != nil || strings.Contains(string(saved), "pipe-1") || len(m.events) != 1 {
			t.Errorf("call %d (%s) fails: %d events, remembered %s, %v", at, d.which, len(m.events), saved, err)
		}

		calls := d.calls
		poll(t, f)
		if d.calls != calls {
			t.Errorf("call %d (%s) fails: %d calls where nothing is new", at, d.which, d.calls-calls)
		}
		if d.which == "" {
			if at < 10 {
				t.Errorf("only %d calls", at)
			}
			return
		}
	}
}

// removes is a disk of which only Remove fails, and only of files of pipes.
type removes struct{ d *disk }

func (r removes) Create(name string) (atomicfile.File, error) { return atomicfile.OS{}.Create(name) }
func (r removes) Rename(from, to string) error                { return os.Rename(from, to) }
func (r removes) SyncDir(string) error                        { return nil }

func (r removes) Remove(name string) error {
	if !strings.HasSuffix(name, ".csv") {
		return os.Remove(name)
	}
	return r.d.Remove(name)
}

// TestTornPipeFileIsKeptAtTheEnd of the context: its last line is not quarantined
// yet.
func TestTornPipeFileIsKeptAtTheEnd(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	f := piped(t, dir, m)
	appendTo(t, filepath.Join(dir, "pipe", "pipe-1.csv"), header+clean(1)+torn)
	for _, glob := range f.c.Globs {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if err := f.pollFile(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.removeFinished(ended); err != nil {
		t.Error(err)
	}
	if got := pipeFiles(t, dir); len(got) != 1 || badLines(t, dir) != "" {
		t.Errorf("files %v, bad lines %q, want it kept", got, badLines(t, dir))
	}
}

// TestPipeFolderThatIsAPattern cannot be looked through, which is said.
func TestPipeFolderThatIsAPattern(t *testing.T) {
	f := piped(t, t.TempDir(), &memory{})
	f.c.PipeDir = filepath.Join(f.c.PipeDir, "[")
	if err := f.removeFinished(t.Context()); !errors.Is(err, filepath.ErrBadPattern) {
		t.Errorf("got %v, want %v", err, filepath.ErrBadPattern)
	}
	if _, err := (osPipes{}).CreateTemp(filepath.Join(f.c.PipeDir, "none"), "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file in no folder: got %v", err)
	}
}

// TestTornPipeFileIsKept where its last line cannot be quarantined yet.
func TestTornPipeFileIsKept(t *testing.T) {
	dir, m := t.TempDir(), &memory{}
	f := piped(t, dir, m)
	appendTo(t, filepath.Join(dir, "pipe", "pipe-1.csv"), header+clean(1)+torn)
	d := &disk{fail: from(1)}
	f.quarantine.files = newQuarantine(d)
	for range 2 {
		if err := f.Poll(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("got %v, want the disk's error", err)
		}
	}
	if got := pipeFiles(t, dir); len(got) != 1 {
		t.Errorf("files %v, want it kept", got)
	}
	d.fail = nil
	poll(t, f)
	if got := pipeFiles(t, dir); len(got) != 0 || !strings.Contains(badLines(t, dir), torn) || len(m.events) != 1 {
		t.Errorf("files %v, %d events, bad lines %q; want the torn line quarantined", got, len(m.events), badLines(t, dir))
	}
}
