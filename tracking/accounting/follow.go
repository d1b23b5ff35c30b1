package accounting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/spool/atomicfile"
)

// Recorder makes events durable before it returns nil.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
}

// Config is what a Follower needs.
type Config struct {
	Globs   []string
	Dir     string // for offsets.json and bad lines
	PipeDir string // where HandOver makes files; empty: pipes are not served
	DropDir string // where pipes of other users leave files while no gateway runs; empty: nowhere
	Events  Recorder
	Every   time.Duration // how often the files are looked at: 1 s

	Settings

	OffsetsFS    atomicfile.FS       // also removes files of pipes; nil: the machine's own
	QuarantineFS atomicfile.AppendFS // nil: the machine's own

	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Follower reads accounting files as they grow, through rotation, renaming and
// truncation.
type Follower struct {
	c       Config
	set     Settings
	offsets map[string]*fileState // by device and inode
	dirty   bool                  // they are not on disk yet
	held    map[string]*held
	polls   int
	retries *counts
	warned  map[string]bool
	records *prometheus.CounterVec

	quarantine quarantine
}

// New reads what a previous run remembered.
func New(c Config) (*Follower, error) {
	if c.Every == 0 {
		c.Every = time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OffsetsFS == nil {
		c.OffsetsFS = atomicfile.OS{}
	}

	f := &Follower{
		c:       c,
		set:     c.Settings,
		offsets: map[string]*fileState{},
		held:    map[string]*held{},
		retries: newCounts(),
		warned:  map[string]bool{},
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_accounting_records_total",
			Help: "Accounting records by what became of them.",
		}, []string{"result"}),
		quarantine: quarantine{
			name:  filepath.Join(c.Dir, "bad.csv"),
			files: atomicfile.NewAppender(c.QuarantineFS),
			log:   c.Log,
		},
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(f.records)
	}

	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("accounting: %w", err)
	}
	if c.PipeDir != "" {
		if err := os.MkdirAll(c.PipeDir, 0o700); err != nil {
			return nil, fmt.Errorf("accounting: %w", err)
		}
	}

	f.c.Globs = slices.Clone(c.Globs)
	for _, dir := range f.pipeDirs() {
		f.c.Globs = append(f.c.Globs, filepath.Join(dir, pipeGlob))
	}

	return f, f.load()
}

// pipeDirs are the folders with files of pipes.
func (f *Follower) pipeDirs() []string {
	return slices.DeleteFunc([]string{f.c.PipeDir, f.c.DropDir}, func(dir string) bool { return dir == "" })
}

// Serve reads what is new whenever a file changes, and every so often in any
// case, until ctx ends.
func (f *Follower) Serve(ctx context.Context) error {
	defer f.closeAll()
	changed, stop := f.watch(ctx)
	defer stop()
	tick := time.NewTicker(f.c.Every)
	defer tick.Stop()

	for {
		if err := f.Poll(ctx); err != nil && ctx.Err() == nil {
			f.c.Log.Error("accounting: not everything was read, the same is tried again", "err", err)
		}

		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// held is a file that is kept open while it grows: what was written just
// before it was moved out of sight is still read.
type held struct {
	file  *os.File
	grown time.Time // when it was written to last
	seen  int       // the poll that found it by its name last
}

// holdFor is how long a file that does not grow is kept open.
const holdFor = 5 * time.Minute

// Poll reads what is new in every file.
func (f *Follower) Poll(ctx context.Context) error {
	f.polls++

	var errs []error
	for _, glob := range f.c.Globs {
		files, err := filepath.Glob(glob)
		if err != nil {
			errs = append(errs, err)
		}
		slices.Sort(files) // PowerMTA's names sort by date
		for _, name := range files {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			errs = append(errs, f.pollFile(ctx, name))
		}
	}

	for key, h := range f.held {
		if h.seen != f.polls { // moved where no glob leads, or unlinked
			if s := f.offsets[key]; s != nil {
				errs = append(errs, f.read(ctx, key, h, f.isLast(h, s)))
			}
		}
		if f.c.Now().Sub(h.grown) > holdFor && !f.pending(key, h) {
			h.file.Close()
			delete(f.held, key)
		}
	}

	errs = append(errs, f.removeFinished(ctx))

	if f.dirty {
		errs = append(errs, f.save())
	}

	return errors.Join(errs...)
}

// look reads what is new in the file of a name.
func (f *Follower) pollFile(ctx context.Context, name string) error {
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil // moved meanwhile
	}
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}

	key := fileKey(info)
	h := f.held[key]
	if s := f.offsets[key]; h == nil && s != nil && s.Path == name && f.readLongAgo(s, info) {
		s.Seen = f.c.Now().Unix()
		return nil
	}

	if h == nil {
		file, err := f.openFound(name, os.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accounting: %w", err)
		}
		if info, err = file.Stat(); err != nil {
			file.Close()
			return fmt.Errorf("accounting: %w", err)
		}

		key = fileKey(info)
		if old := f.held[key]; old != nil {
			old.file.Close()
		}
		h = &held{file: file, grown: info.ModTime()}
		f.held[key] = h
	}
	h.seen = f.polls

	s := f.offsets[key]
	if s == nil {
		s = &fileState{}
		f.offsets[key] = s
	}
	s.Renamed = s.Renamed || s.Path != "" && s.Path != name
	s.Path, s.Seen = name, f.c.Now().Unix()

	return f.read(ctx, key, h, f.isLast(h, s))
}

// readLongAgo reports whether a file has not changed since it was read to its
// end.
func (f *Follower) readLongAgo(s *fileState, info os.FileInfo) bool {
	if f.c.Now().Sub(info.ModTime()) <= holdFor {
		return false
	}

	return s.Offset == info.Size() || s.Torn == info.Size()
}

// settle is how long a file that was rotated has to be quiet before what its
// last record lacks is not waited for any more. One that was not may still
// grow, and is waited for until holdFor is over.
const settle = 10 * time.Second

// isLast reports whether nothing more comes into a file.
func (f *Follower) isLast(h *held, s *fileState) bool {
	quiet := f.c.Now().Sub(h.grown)
	rotated := s.Renamed || h.seen != f.polls

	return quiet > holdFor || rotated && quiet > settle
}

func fileKey(info os.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// read reads what is new in an open file. With last set, nothing more comes.
func (f *Follower) read(ctx context.Context, key string, h *held, last bool) error {
	info, err := h.file.Stat()
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	s := f.offsets[key]
	if info.Size() == s.Offset {
		return nil
	}
	if !s.same(h.file, info.Size()) { // truncated, or another file
		*s = fileState{Path: s.Path, Seen: s.Seen}
	}
	if h.grown.Before(info.ModTime()) {
		h.grown, last = info.ModTime(), false
	}

	for s.Offset < info.Size() && ctx.Err() == nil {
		n, err := f.readBlock(ctx, h.file, s, info.Size(), last)
		if err != nil {
			return err
		}
		if n == 0 {
			s.stuck = info.Size()
			return nil // the last record is not whole yet
		}
	}

	return nil
}

// pending reports whether a file holds records that could not be recorded yet.
func (f *Follower) pending(key string, h *held) bool {
	info, err := h.file.Stat()
	s := f.offsets[key]
	return err == nil && s != nil && info.Size() > s.Offset && s.stuck != info.Size()
}

func (f *Follower) closeAll() {
	for _, h := range f.held {
		h.file.Close()
	}
	clear(f.held)
}

// openFound opens a file that a glob found. In a folder that others write to
// neither a symbolic link nor anything but a file is followed.
func (f *Follower) openFound(name string, flags int) (*os.File, error) {
	if f.c.DropDir == "" || filepath.Dir(name) != filepath.Clean(f.c.DropDir) {
		return os.OpenFile(name, flags, 0)
	}

	file, err := os.OpenFile(name, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, os.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, os.ErrNotExist
	}

	return file, nil
}
