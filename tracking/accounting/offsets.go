package accounting

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// fileState is how far a file was read.
type fileState struct {
	Path   string   `json:"path"` // as it was seen last
	Offset int64    `json:"offset"`
	Lines  int64    `json:"lines"` // that were read
	Header []string `json:"header"`
	Seen   int64    `json:"seen"` // Unix seconds
	// Head is the SHA-256 of the first HeadLen bytes: a file that begins
	// otherwise is another one, whose inode came to be used again, or which was
	// truncated and has grown past the offset since.
	Head    string `json:"head"`
	HeadLen int64  `json:"head_len"`

	stuck int64 // the size at which the last record was not whole
}

// forgetAfter is how long a file is remembered that no glob finds any more.
const forgetAfter = 30 * 24 * time.Hour

const maxHead = 1 << 10

// load reads what an earlier life remembered.
func (f *Follower) load() error {
	data, err := os.ReadFile(f.offsetsFile())
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("accounting: %w", err)
	case json.Unmarshal(data, &f.offsets) != nil:
		f.c.Log.Error("accounting: offsets set aside, files are read from the start; events keep their ids", "file", f.offsetsFile())
		if err := os.Rename(f.offsetsFile(), f.offsetsFile()+".broken"); err != nil {
			return fmt.Errorf("accounting: %w", err)
		}
		f.offsets = map[string]*fileState{}
	}
	return nil
}

func (f *Follower) offsetsFile() string { return filepath.Join(f.c.Dir, "offsets.json") }

// same tells whether a file is still the one that was read as far as s says.
func (s *fileState) same(file io.ReaderAt, size int64) bool {
	if size < s.Offset || s.HeadLen > size {
		return false
	}
	sum, err := headSum(file, s.HeadLen)
	return err == nil && (s.HeadLen == 0 || sum == s.Head)
}

// lineAt is the number of the line that begins at data[at], data being what
// follows the offset.
func (s *fileState) lineAt(data []byte, at int64) int64 {
	return s.Lines + int64(bytes.Count(data[:at], []byte("\n"))) + 1
}

func headSum(file io.ReaderAt, n int64) (string, error) {
	buf := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, n), buf); err != nil {
		return "", err
	}
	sum := sha256.Sum256(buf)
	return hex.EncodeToString(sum[:]), nil
}

// remember makes it durable that n more bytes of a file are done with.
func (f *Follower) remember(file io.ReaderAt, s *fileState, n int64) error {
	s.Offset += n
	if s.HeadLen < maxHead {
		s.HeadLen = min(s.Offset, maxHead)
		sum, err := headSum(file, s.HeadLen)
		if err != nil {
			return fmt.Errorf("accounting: %w", err)
		}
		s.Head = sum
	}
	return f.save()
}

// save replaces offsets.json in one step.
func (f *Follower) save() error {
	for key, o := range f.offsets {
		if time.Since(time.Unix(o.Seen, 0)) > forgetAfter {
			delete(f.offsets, key)
		}
	}
	data, err := json.Marshal(f.offsets)
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	tmp := f.offsetsFile() + ".new"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	_, err = out.Write(data)
	err = errors.Join(err, out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(tmp, f.offsetsFile())
	}
	if err != nil {
		return fmt.Errorf("accounting: offsets: %w", err)
	}
	return nil
}
