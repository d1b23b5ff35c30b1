package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// defaultHeadroom is what stays free on a disk for records that must be
// written, where nothing else is configured.
const defaultHeadroom = 1 << 20

// relieveEvery is how often a full disk's spools are asked what they can free.
const relieveEvery = 100 * time.Millisecond

// Disk counts the room of one file system for all that write there: what is
// reserved, what is about to be written, what is set apart. Several spools on
// one file system share one, so that no byte is given away twice.
//
// A Disk is safe for concurrent use.
type Disk struct {
	fs   FS
	dir  string
	keep uint64 // bytes that Reserve and ordinary appends leave free

	mu       sync.Mutex
	reserved int64            // by all
	writing  int64            // admitted and not yet seen by the file system
	apart    map[*Spool]int64 // set apart for essential records and not allocated yet
	spools   []*Spool
	relieved time.Time
}

// NewDisk returns the Disk of the file system that holds dir. Of its free
// bytes keep are given to nobody but records that must be written; 0 is 1 MiB.
func NewDisk(fs FS, dir string, keep uint64) *Disk {
	if fs == nil {
		fs = OS{}
	}

	if keep == 0 {
		keep = defaultHeadroom
	}

	return &Disk{
		fs:    fs,
		dir:   dir,
		keep:  keep,
		apart: map[*Spool]int64{},
	}
}

// Disks hands out one Disk for each file system. Its zero value is ready; it
// is safe for concurrent use.
type Disks struct {
	mu    sync.Mutex
	byDev map[uint64]*Disk
}

// Of returns the Disk of the file system that holds dir, which need not exist
// yet: then its nearest parent that does decides.
func (d *Disks) Of(dir string) (*Disk, error) {
	info, err := os.Stat(dir)
	for errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}

	dev := uint64(info.Sys().(*syscall.Stat_t).Dev) //nolint:unconvert // 32 bits on some machines

	d.mu.Lock()
	defer d.mu.Unlock()

	if d.byDev == nil {
		d.byDev = map[uint64]*Disk{}
	}

	if d.byDev[dev] == nil {
		d.byDev[dev] = NewDisk(OS{}, dir, 0)
	}

	return d.byDev[dev], nil
}

// essentialFloor is what internal appends leave free for essential ones.
func (d *Disk) essentialFloor() int64 { return int64(d.keep / 4) }

// Free returns the bytes that are free on the file system.
func (d *Disk) Free() (int64, error) { return d.free() }

func (d *Disk) free() (int64, error) {
	free, err := d.fs.Free(d.dir)
	if err != nil {
		return 0, fmt.Errorf("spool: %w", err)
	}

	return int64(min(free, 1<<62)), nil
}

// promised is what is free and belongs to somebody; under mu.
func (d *Disk) promised() int64 {
	sum := d.reserved + d.writing
	for _, n := range d.apart {
		sum += n
	}

	return sum
}

// floor is what ordinary appends of a spool leave free.
func (d *Disk) floor(s *Spool) int64 { return int64(max(d.keep, s.cfg.MinFree)) }

// reserve holds n bytes for a spool, or fails with ErrNoSpace.
func (d *Disk) reserve(s *Spool, n int64) error {
	free, err := d.free()
	if err != nil {
		return err
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	if free-d.floor(s)-d.promised() < n {
		return ErrNoSpace
	}

	d.reserved += n
	s.reserved += n

	return nil
}

func (d *Disk) release(s *Spool, n int64) {
	d.mu.Lock()
	d.reserved -= n
	s.reserved -= n
	d.mu.Unlock()
}

// estimate allows for reservations that are estimates: what is written under
// them may be a part in so many longer, and so many lines.
const estimate = 16

// room returns how many bytes a spool may append now: ordinary ones, as far
// as the disk has more than it must keep or the spool has reservations; and
// internal ones, which may use what is kept. What others reserved is theirs.
func (d *Disk) room(s *Spool) (ordinary, internal int64, err error) {
	free, err := d.free()
	if err != nil {
		return 0, 0, err
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	others := d.promised() - s.reserved - d.apart[s]
	internal = free - others - d.essentialFloor()
	reserved := min(s.reserved+s.reserved/estimate+estimate*lineExtra, internal)
	if s.reserved == 0 {
		reserved = 0
	}

	ordinary = max(free-d.promised()-d.floor(s), reserved)

	return ordinary, internal - reserved, nil
}

// admit counts bytes that are about to be written, until written is called.
func (d *Disk) admit(n int64) (written func()) {
	d.mu.Lock()
	d.writing += n
	d.mu.Unlock()

	return func() {
		d.mu.Lock()
		d.writing -= n
		d.mu.Unlock()
	}
}

// setApart notes what of a spool's room for essential records is not
// allocated on the disk.
func (d *Disk) setApart(s *Spool, n int64) {
	d.mu.Lock()
	d.apart[s] = n
	d.mu.Unlock()
}

func (d *Disk) join(s *Spool) {
	d.mu.Lock()
	d.spools = append(d.spools, s)
	d.mu.Unlock()
}

func (d *Disk) leave(s *Spool) {
	d.mu.Lock()
	defer d.mu.Unlock()

	delete(d.apart, s)
	for i, other := range d.spools {
		if other == s {
			d.spools = append(d.spools[:i:i], d.spools[i+1:]...)
			return
		}
	}
}

// relieve has every spool of the disk free what nobody waits for, until there
// is room for n bytes. It reports whether anything was asked: a full disk is
// not asked again at once.
func (d *Disk) relieve(n int64) bool {
	d.mu.Lock()
	if time.Since(d.relieved) < relieveEvery {
		d.mu.Unlock()
		return false
	}

	d.relieved = time.Now()
	spools := append([]*Spool(nil), d.spools...)
	d.mu.Unlock()

	for _, s := range spools {
		s.do(func() { s.relieve(n) })
	}

	return true
}

// noSpace reports whether a file call failed since the disk, or the user's
// share of it, is full.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrNoSpace)
}
