package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// maxOverhead is how much more than its size a file may take on the disk for
// other reasons than room that was allocated ahead.
const maxOverhead = 128 << 10

// hasSlack reports whether a previous run may have left allocated room behind a
// segment's end. To free it changes the file's time, by which its age is told.
func hasSlack(i os.FileInfo) bool {
	st, ok := i.Sys().(*syscall.Stat_t)

	return !ok || st.Blocks*512 > i.Size()+maxOverhead
}

// repair ends the last line of a segment where only its end is missing, cuts it
// off where a crash left less, and returns the size of what is whole. What is
// cut off was mostly not acknowledged, but somebody may have truncated the file:
// it is kept as a .broken file where there is room. A segment that cannot be read
// now keeps its size: an unfinished last line is not a record for any reader.
func (s *Spool) repair(seq uint64, size int64) int64 {
	var whole int64
	var tail []byte
	err := patiently(func() (err error) {
		whole, tail, err = s.lastLine(seq, size)
		return err
	})
	path := s.path(seq)
	if err != nil {
		s.log.Error("spool: segment not checked", "file", path, "err", err)
		return size
	}

	for end := recordEnd(tail); end > 0; end = recordEnd(tail) {
		at := whole + int64(end)
		s.log.Warn("spool: last line ended", "file", path, "offset", at)
		if err := s.endLine(seq, at); err != nil {
			s.log.Error("spool: last line not ended", "file", path, "err", err)
			return max(size, at)
		}
		whole = at + 1
		tail = tail[min(end+1, len(tail)):]
	}
	if len(tail) == 0 {
		return whole
	}

	kept, err := s.keepBytes(filepath.Join(s.cfg.Dir, fmt.Sprintf("%016x-%016x", seq, whole)), tail)
	if err != nil {
		s.log.Error("spool: torn last record not copied", "file", path, "bytes", len(tail), "err", err)
	} else {
		s.log.Warn("spool: torn last record cut off", "file", path, "bytes", len(tail), "kept", kept)
	}
	if err := s.truncate(seq, whole); err != nil {
		s.log.Error("spool: segment not truncated", "file", path, "err", err)
	}

	return whole
}

// lastLine finds where the last line of a segment that has an end ends, and
// reads what is behind it.
func (s *Spool) lastLine(seq uint64, size int64) (whole int64, tail []byte, err error) {
	f, err := s.fs.Open(s.path(seq))
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()

	buf := make([]byte, 64<<10)
	for end := size; end > 0 && whole == 0; {
		n := min(int64(len(buf)), end)
		if _, err := f.ReadAt(buf[:n], end-n); err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			whole = end - n + int64(i) + 1
		}
		end -= n
	}
	if whole == size {
		return whole, nil, nil
	}

	tail, err = readUpTo(f, make([]byte, size-whole), whole)

	return whole, tail, err
}

// endLine writes a line end in place.
func (s *Spool) endLine(seq uint64, at int64) error {
	f, err := s.fs.Open(s.path(seq))
	if err != nil {
		return err
	}

	_, err = f.WriteAt([]byte{'\n'}, at)

	return errors.Join(err, f.Sync(), f.Close())
}

// truncate cuts a segment's file at a size, with what is allocated behind it.
func (s *Spool) truncate(seq uint64, size int64) error {
	f, err := s.fs.Open(s.path(seq))
	if err != nil {
		return err
	}

	return errors.Join(f.Truncate(size), f.Close())
}
