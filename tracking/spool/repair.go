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

// repair makes the last line of a segment of a previous run complete, and
// returns the size of the segment then. A record that lacks only its line end
// gets one. Anything less is truncated away: most likely it was never
// acknowledged, but since somebody may have truncated the file it is quarantined
// if there is room. A segment that cannot be read now keeps its size; readers do
// not take an incomplete last line for a record.
func (s *Spool) repair(seq uint64, size int64) int64 {
	path := s.path(seq)

	var whole int64
	var tail []byte
	err := retryBriefly(func() (err error) {
		whole, tail, err = s.lastLine(seq, size)
		return err
	})
	if err != nil {
		s.log.Error("spool: cannot check segment", "file", path, "err", err)
		return size
	}

	for end := recordEnd(tail); end > 0; end = recordEnd(tail) {
		at := whole + int64(end)
		s.log.Warn("spool: completing last line", "file", path, "offset", at)

		if err := s.endLine(seq, at); err != nil {
			s.log.Error("spool: cannot complete last line", "file", path, "err", err)
			return max(size, at)
		}

		whole = at + 1
		tail = tail[min(end+1, len(tail)):]
	}

	if len(tail) > 0 {
		s.cutTail(seq, whole, tail)
	}

	return whole
}

// cutTail quarantines what follows the last whole line of a segment and
// truncates it away.
func (s *Spool) cutTail(seq uint64, whole int64, tail []byte) {
	path := s.path(seq)

	kept, err := s.keepBytes(filepath.Join(s.cfg.Dir, fmt.Sprintf("%016x-%016x", seq, whole)), tail)
	if err != nil {
		s.log.Error("spool: cannot quarantine torn last record", "file", path, "bytes", len(tail), "err", err)
	} else {
		s.log.Warn("spool: torn last record quarantined", "file", path, "bytes", len(tail), "quarantine", kept)
	}

	if err := s.truncate(seq, whole); err != nil {
		s.log.Error("spool: cannot truncate segment", "file", path, "err", err)
	}
}

// lastLine returns the offset behind the last line of a segment that has a line
// end, and the bytes from there on.
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

// endLine writes a line end at an offset of a segment and fsyncs it.
func (s *Spool) endLine(seq uint64, at int64) error {
	f, err := s.fs.Open(s.path(seq))
	if err != nil {
		return err
	}

	_, err = f.WriteAt([]byte{'\n'}, at)

	return errors.Join(err, f.Sync(), f.Close())
}

// truncate truncates a segment to a size, and frees what is allocated behind it.
func (s *Spool) truncate(seq uint64, size int64) error {
	f, err := s.fs.Open(s.path(seq))
	if err != nil {
		return err
	}

	return errors.Join(f.Truncate(size), f.Close())
}

// maxOverhead is how many bytes more than its size a file may take on the disk
// without anything being allocated behind its end.
const maxOverhead = 128 << 10

// hasSlack reports whether room may be allocated behind the end of a segment of
// a previous run. Where it is not, the segment is left alone: truncating changes
// the modification time, from which the age of the segment is known.
func hasSlack(i os.FileInfo) bool {
	st, ok := i.Sys().(*syscall.Stat_t)

	return !ok || st.Blocks*512 > i.Size()+maxOverhead
}
