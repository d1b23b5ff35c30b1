package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Open opens the spool in c.Dir, which it makes where it is missing.
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

func (c *Config) setDefaults() {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 16 << 20
	}

	if c.SegmentAge == 0 {
		c.SegmentAge = time.Minute
	}
	if c.FS == nil {
		c.FS = OS{}
	}

	if c.Name == "" {
		c.Name = "spool"
	}
}

// load lists the segments that are there, cuts torn tails, reads the cursors.
func (s *Spool) load() error {
	var infos []os.FileInfo
	err := patiently(func() (err error) {
		infos, err = s.fs.List(s.cfg.Dir)
		return err
	})
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	keep := map[string]bool{}
	for _, i := range infos {
		if name, ok := strings.CutSuffix(i.Name(), keepSuffix); ok {
			keep[name] = true
		}
	}
	for _, i := range infos {
		if !strings.HasSuffix(i.Name(), suffix) {
			continue
		}
		seq, ok := segmentNumber(i.Name())
		if !ok || seq > maxSegment {
			kept, err := s.quarantineFile(filepath.Join(s.cfg.Dir, i.Name()))
			if err != nil {
				return err
			}
			s.log.Error("spool: file that is not named like a segment quarantined", "file", kept)
			continue
		}

		s.segs = append(s.segs, &segment{
			seq:     seq,
			size:    s.repair(seq, i.Size()),
			closed:  true,
			last:    i.ModTime(),
			slack:   hasSlack(i),
			damaged: keep[i.Name()],
		})
		s.used = max(s.used, seq)
	}

	for _, name := range s.cfg.Readers {
		at, err := s.openCursor(name)
		if err != nil {
			return err
		}
		s.cursors[name] = at
		if at.Segment <= maxSegment { // all segments may be gone, the cursors not
			s.used = max(s.used, at.Segment)
		}
	}

	return nil
}

// startPauses are the pauses between the tries of what may fail for a moment at
// the start.
var startPauses = []time.Duration{
	10 * time.Millisecond,
	20 * time.Millisecond,
	40 * time.Millisecond,
	80 * time.Millisecond,
}

// patiently tries what may fail for a moment, as where descriptors run out. A
// file that is missing, or room that is, does not come back so soon.
func patiently(f func() error) error {
	for _, pause := range startPauses {
		err := f()
		if err == nil || errors.Is(err, fs.ErrNotExist) || noSpace(err) {
			return err
		}
		time.Sleep(pause)
	}

	return f()
}

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
