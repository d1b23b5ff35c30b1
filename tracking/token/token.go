package token

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrToken is wrapped by every error about a token that does not open.
var ErrToken = errors.New("not a token of ours")

// ErrUnknownKey is an ErrToken: the token names a key that is not in the key
// file.
var ErrUnknownKey = fmt.Errorf("%w: no such key", ErrToken)

// Kind is what a token is for. It opens for nothing else.
type Kind byte

// The numbers stand in tokens that live for years: never reuse one.
const (
	Click           Kind = 1
	Open            Kind = 2
	InitialOpen     Kind = 3
	LinkUnsubscribe Kind = 4
	ListUnsubscribe Kind = 5
	AmpClick        Kind = 6
	AmpOpen         Kind = 7
	AmpInitialOpen  Kind = 8
	Probe           Kind = 9 // of `postern check --online`: is it our tracker that answers?
)

var kindNames = map[Kind]string{
	Click:           "click",
	Open:            "open",
	InitialOpen:     "initial_open",
	LinkUnsubscribe: "link_unsubscribe",
	ListUnsubscribe: "list_unsubscribe",
	AmpClick:        "amp_click",
	AmpOpen:         "amp_open",
	AmpInitialOpen:  "amp_initial_open",
	Probe:           "probe",
}

func (k Kind) String() string { return kindNames[k] }

// Token is what a link or a pixel remembers.
type Token struct {
	Kind       Kind
	Host       string // that it is sealed for, in the form of Host; or Mail, Probing
	MessageID  ID
	Recipient  string
	Subaccount uint32
	Target     string // for Click and LinkUnsubscribe: where the link leads
	LinkName   string // data-msys-linkname; empty: none given
	Unreported bool   // the message's events are not reported
}

// Issued is when the message's copy was made, from which the expiry counts.
func (t Token) Issued() time.Time { return t.MessageID.Time() }

// MaxLength bounds the text of a token that Open looks at: a target of 4096
// bytes, a recipient, a name, and room.
const MaxLength = 8192

// PathPrefix stands in front of every token in a tracked URL.
const PathPrefix = "/t/"

// URL is the address that a token is reached at, base being tracking.url.
func URL(base, text string) string { return strings.TrimSuffix(base, "/") + PathPrefix + text }

// SubURL is URL with path segments of the sender's own in front of the token,
// which apps match that open such links (data-msys-sublink).
func SubURL(base, sublink, text string) string {
	if sublink == "" {
		return URL(base, text)
	}

	return URL(base, sublink+"/"+text)
}

// FromPath takes the token out of a tracked URL's path, the sender's own path
// segments in front of it and what a program made part of the link behind it
// (punctuation, a query without its question mark) left out.
func FromPath(path string) (text string, ok bool) {
	rest, ok := strings.CutPrefix("/"+strings.TrimLeft(path, "/"), PathPrefix)
	if !ok {
		return "", false
	}

	if end := strings.IndexFunc(rest, isForeign); end >= 0 {
		rest = rest[:end] // with its slashes
	}

	rest = strings.TrimRightFunc(rest, func(r rune) bool { return !isAlnum(r) })
	text = rest[strings.LastIndexByte(rest, '/')+1:]
	if end := strings.IndexAny(text, ".~"); end >= 0 {
		text = text[:end]
	}

	return strings.TrimRight(text, "-_"), true
}

// isForeign reports whether a character is in no tracked URL behind its host.
func isForeign(r rune) bool { return !isAlnum(r) && !strings.ContainsRune("/-_.~", r) }

func isAlnum(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// Squeezed is how many bytes of a token a text takes.
func Squeezed(text string) int { return squeezedLen(text) }

// MaxURL bounds the length of SubURL for a token of a message's copies, whose
// recipients take no more than recipient bytes (Squeezed) each.
func MaxURL(base string, recipient int, target, name, sublink string) int {
	var b [binary.MaxVarintLen64]byte
	n := 1 + aesBlock + 1 + len(ID{}) + binary.MaxVarintLen32 +
		binary.PutUvarint(b[:], uint64(recipient)) + recipient + squeezedLen(target)
	if name != "" {
		l := squeezedLen(name)
		n += binary.PutUvarint(b[:], uint64(l)) + l
	}

	prefix := len(strings.TrimSuffix(base, "/")) + len(PathPrefix)
	if sublink != "" {
		prefix += len(sublink) + 1
	}

	return prefix + tokenEncoding.EncodedLen(n) + len(filler)
}

// aesBlock is the length of AES-SIV's synthetic IV.
const aesBlock = 16

// associated begins the data that a token is bound to; the key's id and the
// host that it is sealed for follow.
const associated = "postern token 2"

// A token's text is unpadded base64url (and a "0" where that could end in "-" or
// "_", which programs that look for URLs in text leave out) of
//
//	key id (1) | AES-SIV of: head (1), message id (10 or 16), uvarint subaccount where the head says so,
//	             uvarint length and recipient, uvarint length and link name where the head says so, target
//
// with the texts squeezed (squeeze.go). The head is the kind (4 bits) and the
// flags below. The MAC of a message id (its last 6 bytes) is left out where the
// token's own key makes it. The kinds go up to 11: a head whose kind is 12 to 15
// will be that of another format, so that links of this one go on opening. The host
// is not in the token: it is AES-SIV's associated data, so that a token opens for
// no other.
//
// AES-SIV (RFC 5297) is deterministic: the signing pass and the sending pass
// of a copy, and every retry, make the same bytes.
var tokenEncoding = base64.RawURLEncoding.Strict()

// Flags of the head.
const (
	kindBits      = 0x0f
	hasSubaccount = 0x10
	hasName       = 0x20
	wholeID       = 0x40
	unreported    = 0x80 // the message's events are not reported
)

// usualPlain is how long the plaintext of a token hardly ever is.
const usualPlain = 512

// Seal makes the text of a token under the newest key.
func (k *Keys) Seal(t Token) string {
	key := k.newest()
	plain := make([]byte, 0, usualPlain)
	head := byte(t.Kind) & kindBits
	if t.Unreported {
		head |= unreported
	}

	id := t.MessageID[:idSigned]
	if mac := key.idMAC(id); !bytes.Equal(mac[:], t.MessageID[idSigned:]) {
		head |= wholeID
		id = t.MessageID[:]
	}
	if t.Subaccount != 0 {
		head |= hasSubaccount
	}
	if t.LinkName != "" {
		head |= hasName
	}

	plain = append(append(plain, head), id...)
	if t.Subaccount != 0 {
		plain = binary.AppendUvarint(plain, uint64(t.Subaccount))
	}

	plain = appendString(plain, t.Recipient)
	if t.LinkName != "" {
		plain = appendString(plain, t.LinkName)
	}

	plain = squeeze(plain, t.Target)
	sealed, err := key.siv.EncryptDeterministically(plain, key.associated(t.Host))
	if err != nil { // only for a plaintext near the size of memory
		panic(fmt.Sprintf("token: seal: %v", err))
	}

	return encodeText(slices.Insert(sealed, 0, key.id))
}

// associated is what a token for a host is bound to.
func (k *key) associated(host string) []byte {
	return append(k.ad[:len(k.ad):len(k.ad)], host...)
}

// filler ends the text of a token whose length is a multiple of three bytes.
// Only the last character of such a text stands for six bits of it, and may be
// "-" or "_".
const filler = "0"

func encodeText(raw []byte) string {
	text := tokenEncoding.EncodeToString(raw)
	if len(raw)%3 == 0 {
		text += filler
	}

	return text
}

// decodeText undoes encodeText; ok is false for what that never returns.
func decodeText(text string) (raw []byte, ok bool) {
	switch len(text) % 4 {
	case 0: // without the filler
		return nil, false
	case 1:
		if text, ok = strings.CutSuffix(text, filler); !ok {
			return nil, false
		}
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder passes over
		return nil, false
	}
	raw, err := tokenEncoding.DecodeString(text)
	return raw, err == nil && len(raw) > 0
}

// Open reads a token's text, where it is sealed for one of the hosts (in the
// form of Host; none given: for no host). Every failure is ErrToken; the detail
// is for the log of an operator, not for the world.
func (k *Keys) Open(text string, hosts ...string) (Token, error) {
	if len(text) > MaxLength {
		return Token{}, fmt.Errorf("%w: too long", ErrToken)
	}

	raw, ok := decodeText(text)
	if !ok {
		return Token{}, fmt.Errorf("%w: not base64url", ErrToken)
	}

	key := k.byID[raw[0]]
	if key == nil {
		return Token{}, fmt.Errorf("%w: %d", ErrUnknownKey, raw[0])
	}

	if len(hosts) == 0 {
		hosts = []string{""}
	}

	for _, host := range hosts {
		plain, err := key.siv.DecryptDeterministically(raw[1:], key.associated(host))
		if err != nil {
			continue
		}
		t, err := key.decode(plain)
		if err != nil {
			return Token{}, err
		}
		t.Host = host
		return t, nil
	}

	return Token{}, fmt.Errorf("%w: it does not verify for this host", ErrToken)
}

func (k *key) decode(p []byte) (t Token, err error) {
	short := fmt.Errorf("%w: short or of another format", ErrToken)
	if len(p) < 1+idSigned {
		return Token{}, short
	}

	head := p[0]
	p = p[1:]
	t.Kind = Kind(head & kindBits)
	t.Unreported = head&unreported != 0
	if t.Kind.String() == "" {
		return Token{}, fmt.Errorf("%w: kind %d", ErrToken, t.Kind)
	}
	if head&wholeID != 0 {
		if len(p) < len(ID{}) {
			return Token{}, short
		}
		t.MessageID, p = ID(p), p[len(ID{}):]
	} else {
		copy(t.MessageID[:], p[:idSigned])
		mac := k.idMAC(p[:idSigned])
		copy(t.MessageID[idSigned:], mac[:])
		p = p[idSigned:]
	}
	if head&hasSubaccount != 0 {
		sub, n := binary.Uvarint(p)
		if n <= 0 || sub > 1<<32-1 {
			return Token{}, short
		}
		t.Subaccount, p = uint32(sub), p[n:]
	}

	t.Recipient, p, err = cutString(p)
	if err == nil && head&hasName != 0 {
		t.LinkName, p, err = cutString(p)
	}
	if err == nil {
		t.Target, err = unsqueeze(p)
	}
	if err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}

	return t, nil
}

// appendString appends a squeezed text with its length in front.
func appendString(b []byte, s string) []byte {
	var buf [128]byte
	short := squeeze(buf[:0], s)
	return append(binary.AppendUvarint(b, uint64(len(short))), short...)
}

func cutString(p []byte) (string, []byte, error) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return "", nil, errSqueezed
	}

	s, err := unsqueeze(p[w : w+int(n)])
	return s, p[w+int(n):], err
}
