package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Open opens the spool in c.Dir, which is created if it does not exist. It
// returns ErrLocked if another process has the spool open.
func Open(c Config) (*Spool, error) {
	c.setDefaults()

	if err := makeDir(c.FS, c.Dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}

	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, c.Dir)
	}

	s := &Spool{
		cfg:         c,
		fs:          c.FS,
		log:         c.Log,
		metrics:     newMetrics(c.Name),
		disk:        c.Disk,
		lock:        lock,
		queue:       make(chan *request, queueDepth),
		control:     make(chan func()),
		quit:        make(chan struct{}),
		done:        make(chan struct{}),
		cursorFiles: map[string]*cursor{},
		grown:       make(chan struct{}),
		cursors:     map[string]Position{},
	}
	if s.disk == nil {
		s.disk = NewDisk(c.FS, c.Dir, c.Reserve)
	}

	if err := s.load(); err != nil {
		s.closeFiles()
		lock.Close()

		return nil, err
	}

	if c.Metrics != nil {
		s.metrics.register(c.Metrics, s)
	}

	s.disk.join(s)
	s.noteAlive()
	go s.write()

	return s, nil
}

// setDefaults sets the fields that are zero and have a default.
func (c *Config) setDefaults() {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 16 << 20
	}
	if c.SegmentAge == 0 {
		c.SegmentAge = time.Minute
	}

	if c.Name == "" {
		c.Name = "spool"
	}
	if c.FS == nil {
		c.FS = OS{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// load finds and repairs the segments of previous runs and reads the cursors.
func (s *Spool) load() error {
	var files []os.FileInfo
	err := retryBriefly(func() (err error) {
		files, err = s.fs.List(s.cfg.Dir)
		return err
	})
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	if err := s.loadSegments(files); err != nil {
		return err
	}

	return s.loadCursors()
}

// loadSegments fills segs from the files of the directory, which are sorted.
// Files that only look like segments are quarantined.
func (s *Spool) loadSegments(files []os.FileInfo) error {
	damaged := map[string]bool{}
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), keepSuffix); ok {
			damaged[name] = true
		}
	}

	for _, f := range files {
		if !strings.HasSuffix(f.Name(), suffix) {
			continue
		}

		seq, ok := segmentNumber(f.Name())
		if !ok || seq > maxSegment {
			kept, err := s.quarantineFile(filepath.Join(s.cfg.Dir, f.Name()))
			if err != nil {
				return err
			}
			s.log.Error("spool: quarantined file without the name of a segment", "quarantine", kept)

			continue
		}

		s.segs = append(s.segs, &segment{
			seq:     seq,
			size:    s.repair(seq, f.Size()),
			closed:  true,
			last:    f.ModTime(),
			slack:   hasSlack(f),
			damaged: damaged[f.Name()],
		})
		s.used = max(s.used, seq)
	}

	return nil
}

// loadCursors opens the cursor of each reader. Cursors count for the highest
// number in use, because all segments may have been removed since.
func (s *Spool) loadCursors() error {
	for _, name := range s.cfg.Readers {
		at, err := s.openCursor(name)
		if err != nil {
			return err
		}

		s.cursors[name] = at
		if at.Segment <= maxSegment {
			s.used = max(s.used, at.Segment)
		}
	}

	return nil
}

// closeFiles closes the cursors and what readers have open.
func (s *Spool) closeFiles() {
	for _, c := range s.cursorFiles {
		c.close()
	}

	s.mu.Lock()
	readers := s.readers
	s.readers = nil
	s.mu.Unlock()

	for _, r := range readers {
		r.release()
	}
}

// briefPauses are the pauses of retryBriefly.
var briefPauses = []time.Duration{
	10 * time.Millisecond,
	20 * time.Millisecond,
	40 * time.Millisecond,
	80 * time.Millisecond,
}

// retryBriefly calls f until it succeeds, a few times at most. It is for errors
// that may be over soon, such as a lack of file descriptors; missing files and a
// full disk are returned at once.
func retryBriefly(f func() error) error {
	for _, pause := range briefPauses {
		err := f()
		if err == nil || errors.Is(err, fs.ErrNotExist) || noSpace(err) {
			return err
		}

		time.Sleep(pause)
	}

	return f()
}
