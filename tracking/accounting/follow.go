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

// Config configures a Follower. Dir, Events and Log are required.
type Config struct {
	Globs   []string // accounting files
	Dir     string   // for offsets.json and bad.csv
	PipeDir string   // where HandOver creates files; empty: pipes are not served
	DropDir string   // where pipes of other users leave files while no gateway runs; may be empty
	Events  Recorder
	Every   time.Duration // how often files are polled; default 1 second

	Settings

	OffsetsFS    atomicfile.FS       // also removes files of pipes; nil: the system's
	QuarantineFS atomicfile.AppendFS // nil: the system's

	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Follower reads accounting files as they grow, through rotation, renaming and
// truncation.
type Follower struct {
	c       Config
	set     Settings
	offsets map[string]*fileState // by fileKey
	dirty   bool                  // offsets are not on disk yet
	held    map[string]*held      // by fileKey
	polls   int
	retries *counts
	warned  map[string]bool
	records *prometheus.CounterVec

	quarantine quarantine
}

// New returns a Follower that continues where a previous run ended.
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

// pipeDirs returns the folders with files of pipes.
func (f *Follower) pipeDirs() []string {
	dirs := []string{f.c.PipeDir, f.c.DropDir}

	return slices.DeleteFunc(dirs, func(dir string) bool { return dir == "" })
}

// Serve reads what is new whenever a file changes, and every Config.Every in any
// case, until ctx ends. It always returns nil: errors are logged and tried again.
func (f *Follower) Serve(ctx context.Context) error {
	defer f.closeAll()

	changed, stop := f.watch(ctx)
	defer stop()

	tick := time.NewTicker(f.c.Every)
	defer tick.Stop()

	for {
		if err := f.Poll(ctx); err != nil && ctx.Err() == nil {
			f.c.Log.Error("accounting: cannot read all files, trying again", "err", err)
		}

		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// held is a file that is kept open while it grows, so that records which were
// written just before it was renamed or removed are still read.
type held struct {
	file  *os.File
	grown time.Time // last modification
	seen  int       // number of the last poll that found it by its name
}

// holdFor is how long a file that does not grow is kept open.
const holdFor = 5 * time.Minute

// Poll reads what is new in every file, once. An error of one file does not keep
// it from reading the others.
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

	errs = append(errs, f.pollHeld(ctx), f.removeFinished(ctx))
	if f.dirty {
		errs = append(errs, f.save())
	}

	return errors.Join(errs...)
}

// pollHeld reads what is new in the open files that no glob finds any more, and
// closes those that no longer grow.
func (f *Follower) pollHeld(ctx context.Context) error {
	var errs []error
	for key, h := range f.held {
		s := f.offsets[key]
		if h.seen != f.polls && s != nil { // renamed or removed
			errs = append(errs, f.read(ctx, key, h, f.isLast(h, s)))
		}

		if f.c.Now().Sub(h.grown) > holdFor && !f.pending(key, h) {
			h.file.Close()
			delete(f.held, key)
		}
	}

	return errors.Join(errs...)
}

// pollFile reads what is new in a file that a glob found.
func (f *Follower) pollFile(ctx context.Context, name string) error {
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // renamed or removed meanwhile
	}
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil
	}

	key := fileKey(info)
	h := f.held[key]
	s := f.offsets[key]
	if h == nil && s != nil && s.Path == name && f.readLongAgo(s, info) {
		s.Seen = f.c.Now().Unix()
		return nil
	}

	if h == nil {
		key, h, err = f.hold(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accounting: %w", err)
		}
	}
	h.seen = f.polls

	s = f.offsets[key]
	if s == nil {
		s = &fileState{}
		f.offsets[key] = s
	}
	s.Renamed = s.Renamed || s.Path != "" && s.Path != name
	s.Path = name
	s.Seen = f.c.Now().Unix()

	return f.read(ctx, key, h, f.isLast(h, s))
}

// hold opens a file and keeps it open. It returns the key of what was opened,
// which another file may have replaced since it was found.
func (f *Follower) hold(name string) (key string, h *held, err error) {
	file, err := f.openFound(name, os.O_RDONLY)
	if err != nil {
		return "", nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return "", nil, err
	}

	key = fileKey(info)
	if old := f.held[key]; old != nil {
		old.file.Close()
	}
	h = &held{file: file, grown: info.ModTime()}
	f.held[key] = h

	return key, h, nil
}

// readLongAgo reports whether a file has not changed since it was read to its
// end.
func (f *Follower) readLongAgo(s *fileState, info os.FileInfo) bool {
	if f.c.Now().Sub(info.ModTime()) <= holdFor {
		return false
	}

	return s.Offset == info.Size() || s.Torn == info.Size()
}

// settle is how long a rotated file must be quiet before the rest of its last
// record is no longer waited for. Files that were not rotated have holdFor.
const settle = 10 * time.Second

// isLast reports whether nothing more is expected in a file.
func (f *Follower) isLast(h *held, s *fileState) bool {
	quiet := f.c.Now().Sub(h.grown)
	rotated := s.Renamed || h.seen != f.polls

	return quiet > holdFor || rotated && quiet > settle
}

// fileKey identifies a file by its device and inode.
func fileKey(info os.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)

	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// read reads what is new in an open file. If last is set, nothing more is expected
// unless it has grown.
func (f *Follower) read(ctx context.Context, key string, h *held, last bool) error {
	info, err := h.file.Stat()
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}

	s := f.offsets[key]
	if info.Size() == s.Offset {
		return nil
	}
	if !s.isSameFile(h.file, info.Size()) { // truncated, or another file
		*s = fileState{Path: s.Path, Seen: s.Seen}
	}
	if h.grown.Before(info.ModTime()) {
		h.grown = info.ModTime()
		last = false
	}

	for s.Offset < info.Size() && ctx.Err() == nil {
		n, err := f.readBlock(ctx, h.file, s, info.Size(), last)
		if err != nil {
			return err
		}
		if n == 0 {
			s.stuck = info.Size()
			return nil // the last record is incomplete
		}
	}

	return nil
}

// pending reports whether a file has records whose events could not be recorded
// yet.
func (f *Follower) pending(key string, h *held) bool {
	s := f.offsets[key]
	info, err := h.file.Stat()
	if s == nil || err != nil {
		return false
	}

	return info.Size() > s.Offset && s.stuck != info.Size()
}

// closeAll closes the files that are held.
func (f *Follower) closeAll() {
	for _, h := range f.held {
		h.file.Close()
	}
	clear(f.held)
}

// openFound opens a file that a glob found. In DropDir, where other users write,
// symbolic links are not followed and only regular files are opened; anything else
// is os.ErrNotExist.
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

	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, os.ErrNotExist
	}

	return file, nil
}
