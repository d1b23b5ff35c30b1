// Package token seals everything that a link or a pixel needs to know into the URL
// itself, so that trackers need nothing but the keys, and issues message ids that
// can be verified with the same keys.
//
// Tokens are encrypted and authenticated. Nobody without the keys can read the
// address in a link, forge an open, or turn the tracker into an open redirector.
// Sealing is deterministic: the same Token has the same text under the same key.
//
// Keys are immutable and safe for concurrent use.
//
// # Key file
//
// A key file is text with one key a line, the newest last. Lines that begin with #
// are comments.
//
//	ID DATE KEY
//
// ID is a number from 1 to 255 that precedes each token. DATE is the day on which
// the key was made, and not used. KEY is 64 bytes in standard base64. The last key
// seals, and all keys open. Without the file, links that have been sent cannot be
// opened any more.
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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"

	"postern/tracking/spool/atomicfile"
)

// maxKeys is how many ids there are.
const maxKeys = 255

// Keys is a set of token keys, of which the newest seals.
type Keys struct {
	keys    []key // in the order of the file
	byID    [256]*key
	counter atomic.Uint32 // of message ids
}

// key is a token key.
type key struct {
	id    byte
	siv   *subtle.AESSIV // RFC 5297, with two keys of 256 bits
	ad    []byte         // associated data of all tokens, without their host
	idKey []byte         // for the MAC of message ids
	macs  *sync.Pool     // of HMACs under idKey, which are costly to set up
}

// newest returns the key that seals.
func (k *Keys) newest() *key { return &k.keys[len(k.keys)-1] }

// ReadKeys reads a key file. Errors have the form "token: FILE:LINE: reason".
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

// errNoKey is the error for a file that is empty or has only comments.
var errNoKey = errors.New("1: no key in the file; `postern token keygen` makes one")

// parseKeys reads the content of a key file. Errors begin with the line number.
func parseKeys(data []byte) (*Keys, error) {
	k := &Keys{}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		added, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		if slices.ContainsFunc(k.keys, func(other key) bool { return other.id == added.id }) {
			return nil, fmt.Errorf("%d: key id %d appears twice", n, added.id)
		}

		k.keys = append(k.keys, added)
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

// parseKey reads a line of a key file.
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

	siv, err := subtle.NewAESSIV(raw) // checks the length
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

// keyFileHead begins a new key file.
const keyFileHead = `# Postern's token keys: ID DATE KEY, the newest last. The last seals, all open.
# Keep a copy: without this file, links that were sent cannot be opened. Keep it secret:
# with it, links can be forged.
`

// KeyFile is a key file to be changed.
type KeyFile struct {
	Path string

	// OwnerLost is called, unless it is nil, if the owner of the file could not
	// be preserved.
	OwnerLost func(uid, gid int, err error)

	FS atomicfile.FS // nil: that of the operating system
}

// AddKey calls KeyFile.Add for the file at a path.
func AddKey(file string, now time.Time) (byte, error) { return KeyFile{Path: file}.Add(now) }

// Add adds a new key to the file, or creates the file with one, and returns the id
// of the key. The file is replaced atomically, symbolic links are followed, and
// mode and owner are preserved. Add locks the file against other processes that
// add keys.
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

// appendKey returns the content of a key file with a new key at its end, and the id
// of that.
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

	date := now.UTC().Format(time.DateOnly)
	data = fmt.Appendf(data, "%d %s %s\n", id, date, base64.StdEncoding.EncodeToString(raw))

	grown, err := parseKeys(data)
	if err != nil || !grown.extends(old, id) {
		return nil, 0, errors.New("1: the file would not read as intended; add the key by hand")
	}

	return data, byte(id), nil
}

// extends reports whether k has one key more than old, which may be nil, and its
// newest key has that id.
func (k *Keys) extends(old *Keys, id int) bool {
	before := 0
	if old != nil {
		before = len(old.keys)
	}

	return len(k.keys) == before+1 && int(k.newest().id) == id
}

// freeID returns the first unused id after that of the newest key.
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
