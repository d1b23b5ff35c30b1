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
	Path   string   `json:"path"`   // its last known name
	Offset int64    `json:"offset"` // in bytes
	Lines  int64    `json:"lines"`  // before Offset
	Header []string `json:"header"` // the columns at Offset
	Seen   int64    `json:"seen"`   // when it was last found, in Unix seconds

	// Cut is set if the offset is within a line that is too long.
	Cut bool `json:"cut,omitempty"`

	// Torn is the size of the file when its last line, which has no end, was
	// quarantined.
	Torn int64 `json:"torn,omitempty"`

	// Renamed is set once the file was found under another name: it was rotated.
	Renamed bool `json:"renamed,omitempty"`

	// Head is the SHA-256 of the first HeadLen bytes. A file that begins otherwise
	// is another one, whose inode was used again, or was truncated and has grown
	// past the offset since.
	Head    string `json:"head"`
	HeadLen int64  `json:"head_len"`

	stuck int64 // the size at which the last record was incomplete
}

// forgetAfter is how long a file is remembered that no glob finds any more.
const forgetAfter = 30 * 24 * time.Hour

// maxHead is the most that fileState.Head covers, in bytes.
const maxHead = 1 << 10

// valid reports whether s can have been written by save.
func (s *fileState) valid() bool {
	return s != nil && s.Offset >= 0 && s.Lines >= 0 && s.HeadLen >= 0 && s.HeadLen <= maxHead
}

// stored is the content of offsets.json.
type stored struct {
	Sum   string          `json:"sum"` // CRC-32C of files, in hexadecimal
	Files json.RawMessage `json:"files"`
}

var errOffsets = errors.New("damaged: the checksum or a value is wrong")

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

// readOffsets parses offsets.json.
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

// checksum returns the CRC-32C of data in hexadecimal.
func checksum(data []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// offsetsFile returns the path of offsets.json.
func (f *Follower) offsetsFile() string { return filepath.Join(f.c.Dir, "offsets.json") }

// isDone reports whether a file of that size was read to its end.
func (s *fileState) isDone(size int64) bool { return s.Offset >= size || s.Torn == size }

// isSameFile reports whether a file still begins with what was read of it.
func (s *fileState) isSameFile(file io.ReaderAt, size int64) bool {
	if size < s.Offset || s.HeadLen > size {
		return false
	}
	if s.HeadLen == 0 {
		return true
	}

	sum, err := headSum(file, s.HeadLen)

	return err == nil && sum == s.Head
}

// headSum returns the SHA-256 of the first n bytes of a file.
func headSum(file io.ReaderAt, n int64) (string, error) {
	buf := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, n), buf); err != nil {
		return "", err
	}
	sum := sha256.Sum256(buf)

	return hex.EncodeToString(sum[:]), nil
}

// remember makes durable that n more bytes of a file were read.
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

// save replaces offsets.json atomically. If that fails, the next poll tries again.
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
