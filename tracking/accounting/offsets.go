package accounting

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"postern/tracking/spool/atomicfile"
)

// fileState is how far a file was read.
type fileState struct {
	Path   string   `json:"path"` // as it was seen last
	Offset int64    `json:"offset"`
	Lines  int64    `json:"lines"` // that were read
	Header []string `json:"header"`
	Seen   int64    `json:"seen"` // Unix seconds

	// Cut is set where the offset is within a line that is too long.
	Cut bool `json:"cut,omitempty"`

	// Torn is the size of the file when its last line, which has no end, was
	// quarantined.
	Torn int64 `json:"torn,omitempty"`

	// Renamed is set once the file was found by another name: it was rotated.
	Renamed bool `json:"renamed,omitempty"`

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

// valid reports whether s can be what was remembered.
func (s *fileState) valid() bool {
	return s != nil && s.Offset >= 0 && s.Lines >= 0 && s.HeadLen >= 0 && s.HeadLen <= maxHead
}

// stored is the content of offsets.json.
type stored struct {
	Sum   string          `json:"sum"` // CRC-32C of files, in hexadecimal
	Files json.RawMessage `json:"files"`
}

var errOffsets = errors.New("not what was written")

// load reads what a previous run remembered.
func (f *Follower) load() error {
	data, err := os.ReadFile(f.offsetsFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}

	offsets, err := readOffsets(data)
	if err != nil {
		f.c.Log.Error("accounting: offsets quarantined, files are read from the start; events keep their ids",
			"file", f.offsetsFile()+".broken", "err", err)
		if err := f.c.OffsetsFS.Rename(f.offsetsFile(), f.offsetsFile()+".broken"); err != nil {
			return fmt.Errorf("accounting: %w", err)
		}
		return nil
	}
	f.offsets = offsets

	return nil
}

func readOffsets(data []byte) (map[string]*fileState, error) {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Sum != checksum(s.Files) {
		return nil, errOffsets
	}

	offsets := map[string]*fileState{}
	if err := json.Unmarshal(s.Files, &offsets); err != nil {
		return nil, err
	}
	for _, o := range offsets {
		if !o.valid() {
			return nil, errOffsets
		}
	}

	return offsets, nil
}

func checksum(data []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

func (f *Follower) offsetsFile() string { return filepath.Join(f.c.Dir, "offsets.json") }

// same reports whether a file is still the one that was read as far as s says.
func (s *fileState) same(file io.ReaderAt, size int64) bool {
	if size < s.Offset || s.HeadLen > size {
		return false
	}
	sum, err := headSum(file, s.HeadLen)
	return err == nil && (s.HeadLen == 0 || sum == s.Head)
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
	f.dirty = true

	return f.save()
}

// save replaces offsets.json in one step. Where that fails it is tried again
// with the next poll.
func (f *Follower) save() error {
	for key, o := range f.offsets {
		if f.c.Now().Sub(time.Unix(o.Seen, 0)) > forgetAfter {
			delete(f.offsets, key)
		}
	}

	files, err := json.Marshal(f.offsets)
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	data, err := json.Marshal(stored{Sum: checksum(files), Files: files})
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}

	if err := atomicfile.Write(f.offsetsFile(), data, atomicfile.Options{FS: f.c.OffsetsFS}); err != nil {
		return fmt.Errorf("accounting: offsets: %w", err)
	}
	f.dirty = false

	return nil
}
