package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// defaultHeadroom is the default headroom of a Disk in bytes.
const defaultHeadroom = 1 << 20

// relieveInterval is how often the spools of a full disk are asked to remove
// segments.
const relieveInterval = 100 * time.Millisecond

// Disk accounts for the free space of one file system: what is reserved, what is
// about to be written, and what is set apart for essential records. All spools
// on a file system share its Disk, so that no byte is promised twice.
//
// A Disk is safe for concurrent use.
type Disk struct {
	fs   FS
	dir  string
	keep uint64 // headroom: bytes that reservations and ordinary appends leave free

	mu       sync.Mutex
	reserved int64            // by all spools
	writing  int64            // admitted, and not yet counted by the file system
	apart    map[*Spool]int64 // for essential records, and not yet allocated
	spools   []*Spool
	relieved time.Time // when spools were last asked to remove segments
}

// NewDisk returns the Disk of the file system that holds dir. It keeps a
// headroom of keep bytes (0: 1 MiB) for records that must be written. If fsys is
// nil it uses OS.
func NewDisk(fsys FS, dir string, keep uint64) *Disk {
	if fsys == nil {
		fsys = OS{}
	}
	if keep == 0 {
		keep = defaultHeadroom
	}

	return &Disk{
		fs:    fsys,
		dir:   dir,
		keep:  keep,
		apart: map[*Spool]int64{},
	}
}

// Disks is a set of Disks, one for each file system. The zero value is empty and
// ready to use. It is safe for concurrent use.
type Disks struct {
	mu    sync.Mutex
	byDev map[uint64]*Disk
}

// Of returns the Disk of the file system that holds dir. If dir does not exist,
// that of its nearest parent that does.
func (d *Disks) Of(dir string) (*Disk, error) {
	info, err := os.Stat(dir)
	for errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}

	dev := uint64(info.Sys().(*syscall.Stat_t).Dev) //nolint:unconvert // 32 bits on some platforms

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

// Free returns the free bytes of the file system, whatever is promised.
func (d *Disk) Free() (int64, error) {
	free, err := d.fs.Free(d.dir)
	if err != nil {
		return 0, fmt.Errorf("spool: %w", err)
	}

	return int64(min(free, 1<<62)), nil
}

// promised returns how many of the free bytes belong to somebody. The caller
// holds mu.
func (d *Disk) promised() int64 {
	sum := d.reserved + d.writing
	for _, n := range d.apart {
		sum += n
	}

	return sum
}

// floor returns how many bytes the ordinary appends of a spool leave free.
func (d *Disk) floor(s *Spool) int64 { return int64(max(d.keep, s.cfg.MinFree)) }

// essentialFloor returns how many bytes internal appends leave free.
func (d *Disk) essentialFloor() int64 { return int64(d.keep / 4) }

// reserve reserves n bytes for a spool, or returns ErrNoSpace.
func (d *Disk) reserve(s *Spool, n int64) error {
	free, err := d.Free()
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

// release gives n reserved bytes back.
func (d *Disk) release(s *Spool, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.reserved -= n
	s.reserved -= n
}

// estimateSlack allows for reservations being estimates: what is written under
// them may be longer by one part in estimateSlack, and by the framing of as many
// lines.
const estimateSlack = 16

// room returns how many bytes a spool may append now. Ordinary appends may use
// what is free above the floor, or what the spool has reserved; internal ones
// also most of the headroom. What other spools reserved is theirs.
func (d *Disk) room(s *Spool) (ordinary, internal int64, err error) {
	free, err := d.Free()
	if err != nil {
		return 0, 0, err
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	others := d.promised() - s.reserved - d.apart[s]
	internal = free - others - d.essentialFloor()

	reserved := int64(0)
	if s.reserved != 0 {
		reserved = min(s.reserved+s.reserved/estimateSlack+estimateSlack*lineExtra, internal)
	}

	ordinary = max(free-d.promised()-d.floor(s), reserved)

	return ordinary, internal - reserved, nil
}

// admit counts n bytes that are about to be written, until written is called.
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

// setApart notes how many bytes a spool needs for essential records beyond what
// it has allocated.
func (d *Disk) setApart(s *Spool, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.apart[s] = n
}

// join adds a spool that was opened.
func (d *Disk) join(s *Spool) {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.spools = append(d.spools, s)
}

// leave removes a spool that was closed.
func (d *Disk) leave(s *Spool) {
	d.mu.Lock()
	defer d.mu.Unlock()

	delete(d.apart, s)
	if i := slices.Index(d.spools, s); i >= 0 {
		d.spools = append(d.spools[:i:i], d.spools[i+1:]...)
	}
}

// relieve makes the spools of the disk remove segments that every reader has
// passed, until there is room for n bytes. It reports whether it did: a disk that
// stays full is not asked again at once.
func (d *Disk) relieve(n int64) bool {
	d.mu.Lock()
	if time.Since(d.relieved) < relieveInterval {
		d.mu.Unlock()
		return false
	}

	d.relieved = time.Now()
	spools := slices.Clone(d.spools)
	d.mu.Unlock()

	for _, s := range spools {
		s.do(func() { s.relieve(n) })
	}

	return true
}

// noSpace reports whether an error means that the disk, or the quota of the
// user, is full.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrNoSpace)
}
