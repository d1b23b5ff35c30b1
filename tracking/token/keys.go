// Package token seals what a link or a pixel has to remember, so that trackers
// hold no state but the keys, and issues the message ids that prove themselves.
//
// Keys are safe for concurrent use; they do not change once they are read.
//
// The key file is text, one key a line, the newest last; lines that begin with
// # are comments:
//
//	ID DATE KEY
//
// ID is a number from 1 to 255 that stands in front of each token, DATE the day
// the key was made (for people), KEY 64 bytes in standard base64. The last key
// seals, every key opens. Who loses the file orphans every link already sent.
package token

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"

	"postern/tracking/spool/atomicfile"
)

const maxKeys = 255

// Keys is a set of token keys, the newest of which seals.
type Keys struct {
	keys    []key // in the file's order
	byID    [256]*key
	counter atomic.Uint32
}

type key struct {
	id    byte
	siv   *subtle.AESSIV // RFC 5297, 256-bit halves
	ad    []byte         // what tokens are bound to
	idKey []byte         // for the MAC of message ids
	macs  *sync.Pool     // of HMACs under idKey, which remember their key's blocks
}

func (k *Keys) newest() *key { return &k.keys[len(k.keys)-1] }

// ReadKeys reads a key file. The error names the file and the line.
func ReadKeys(file string) (*Keys, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("token: read keys: %w", err)
	}

	k, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("token: %s:%w", file, err)
	}

	return k, nil
}

// errNoKey: the file is empty, or holds comments alone.
var errNoKey = errors.New("1: no key in the file; `postern token keygen` makes one")

func parseKeys(data []byte) (*Keys, error) {
	k := &Keys{}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		one, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		for _, have := range k.keys {
			if have.id == one.id {
				return nil, fmt.Errorf("%d: key id %d stands twice", n, one.id)
			}
		}
		k.keys = append(k.keys, one)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("1: %w", err)
	}
	if len(k.keys) == 0 {
		return nil, errNoKey
	}

	for i := range k.keys {
		k.byID[k.keys[i].id] = &k.keys[i]
	}
	var start [2]byte
	rand.Read(start[:])
	k.counter.Store(uint32(binary.BigEndian.Uint16(start[:])))
	return k, nil
}

var errKeyBytes = fmt.Errorf("the key is %d bytes in base64", subtle.AESSIVKeySize)

func parseKey(line string) (key, error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return key{}, errors.New("a key line has three fields: id, date, key")
	}

	id, err := strconv.ParseUint(f[0], 10, 8)
	if err != nil || id == 0 {
		return key{}, errors.New("the key id is a number from 1 to 255")
	}

	raw, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil {
		return key{}, errKeyBytes
	}

	siv, err := subtle.NewAESSIV(raw) // which looks at its length
	if err != nil {
		return key{}, errKeyBytes
	}

	idKey, err := hkdf.Key(sha256.New, raw, nil, "postern message id", sha256.Size)
	if err != nil {
		return key{}, err
	}

	return key{
		id:    byte(id),
		siv:   siv,
		ad:    append([]byte(associated), byte(id)),
		idKey: idKey,
		macs:  &sync.Pool{},
	}, nil
}

const keyFileHead = `# Postern's token keys: ID DATE KEY, the newest last. The last seals, all open.
# Whoever loses this file orphans every link already sent; whoever has it can forge them.
`

// KeyFile is a key file that is to be changed.
type KeyFile struct {
	Path string

	// OwnerLost, where set, is told that the file's owner could not be kept.
	OwnerLost func(uid, gid int, err error)

	FS atomicfile.FS // nil: the machine's own
}

// AddKey is KeyFile.Add for a file whose owner does not matter.
func AddKey(file string, now time.Time) (byte, error) { return KeyFile{Path: file}.Add(now) }

// Add makes a key file with one key, or adds a newer key to an existing file,
// and returns the key's id. The file is replaced in one step, where a symbolic
// link leads to, and keeps its mode and owner. Processes that add keys at the
// same time wait for each other.
func (f KeyFile) Add(now time.Time) (byte, error) {
	unlock, err := atomicfile.Lock(f.Path)
	if err != nil {
		return 0, fmt.Errorf("token: %w", err)
	}
	defer unlock()

	data, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = []byte(keyFileHead), nil
	}
	if err != nil {
		return 0, fmt.Errorf("token: read keys: %w", err)
	}

	data, id, err := appendKey(data, now)
	if err != nil {
		return 0, fmt.Errorf("token: %s:%w", f.Path, err)
	}

	if err := atomicfile.Write(f.Path, data, atomicfile.Options{FS: f.FS, OwnerLost: f.OwnerLost}); err != nil {
		return 0, fmt.Errorf("token: write keys: %w", err)
	}

	return id, nil
}

// appendKey returns the content of a key file with a newer key at its end.
func appendKey(data []byte, now time.Time) ([]byte, byte, error) {
	old, err := parseKeys(data)
	if err != nil && !errors.Is(err, errNoKey) {
		return nil, 0, err
	}

	id := 1
	if err == nil {
		if id, err = old.freeID(); err != nil {
			return nil, 0, fmt.Errorf("1: %w", err)
		}
	}

	raw := make([]byte, subtle.AESSIVKeySize)
	rand.Read(raw)
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		data = append(data, '\n')
	}

	data = fmt.Appendf(data, "%d %s %s\n", id, now.UTC().Format(time.DateOnly), base64.StdEncoding.EncodeToString(raw))

	grown, err := parseKeys(data)
	if err != nil || !grown.extends(old, id) {
		return nil, 0, errors.New("1: the file would not read as intended; add the key by hand")
	}

	return data, byte(id), nil
}

// extends reports whether k has one key more than old, which may be nil, and
// that one is the newest.
func (k *Keys) extends(old *Keys, id int) bool {
	before := 0
	if old != nil {
		before = len(old.keys)
	}

	return len(k.keys) == before+1 && int(k.newest().id) == id
}

// freeID is the first id after the newest key's that no key has.
func (k *Keys) freeID() (int, error) {
	for i, id := 0, int(k.newest().id); i < maxKeys; i++ {
		if id++; id > maxKeys {
			id = 1
		}
		if k.byID[id] == nil {
			return id, nil
		}
	}

	return 0, errors.New("the file holds 255 keys; remove the oldest")
}
