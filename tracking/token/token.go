package token

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrToken is wrapped by every error about a token that does not open.
var ErrToken = errors.New("not a token of ours")

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
)

var kindNames = map[Kind]string{Click: "click", Open: "open", InitialOpen: "initial_open", LinkUnsubscribe: "link_unsubscribe", ListUnsubscribe: "list_unsubscribe",
	AmpClick: "amp_click", AmpOpen: "amp_open", AmpInitialOpen: "amp_initial_open"}

func (k Kind) String() string { return kindNames[k] }

// Token is what a link or a pixel remembers.
type Token struct {
	Kind       Kind
	MessageID  ID
	Recipient  string
	Subaccount uint32
	Target     string // for Click and LinkUnsubscribe: where the link leads
	LinkName   string // data-msys-linkname; empty: none given
	Unreported bool   // the message's events are not reported
}

// unreported is a bit of the kind's byte.
const unreported = 0x80

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

// FromPath takes the token out of a tracked URL's path.
func FromPath(path string) (text string, ok bool) {
	rest, ok := strings.CutPrefix(path, PathPrefix)
	return rest[strings.LastIndexByte(rest, '/')+1:], ok
}

// MaxURL bounds the length of URL for a token of a message's copy, whose
// recipient, target, link name and sublink have so many bytes.
func MaxURL(base string, recipient, target, name, sublink int) int {
	var b [binary.MaxVarintLen64]byte
	varint := func(n int) int { return binary.PutUvarint(b[:], uint64(n)) }
	n := 1 + aesBlock + 1 + len(ID{}) + varint(1<<32-1) + varint(recipient) + recipient + varint(name) + name + 1 + target
	if sublink > 0 {
		sublink++ // the slash
	}
	return len(base) + len(PathPrefix) + sublink + tokenEncoding.EncodedLen(n)
}

// aesBlock is the length of AES-SIV's synthetic IV.
const aesBlock = 16

// associated binds a token to its format, the key's id is in it again.
const associated = "postern token 1"

// A token's text is unpadded base64url of
//
//	key id (1) | AES-SIV of: kind, with a bit for "unreported" (1), message id (16), uvarint subaccount,
//	             uvarint length and recipient, uvarint length and link name,
//	             prefix code (1), rest of the target
//
// AES-SIV (RFC 5297) is deterministic: the signing pass and the sending pass
// of a copy, and every retry, make the same bytes.
var tokenEncoding = base64.RawURLEncoding.Strict()

// prefixes are the starts of URLs that cost one byte. Append only.
var prefixes = []string{"", "http://", "https://", "http://www.", "https://www."}

// Seal makes the text of a token under the newest key.
func (k *Keys) Seal(t Token) string {
	key := k.newest()
	plain := make([]byte, 0, 32+len(t.Recipient)+len(t.LinkName)+len(t.Target))
	kind := byte(t.Kind)
	if t.Unreported {
		kind |= unreported
	}
	plain = append(plain, kind)
	plain = append(plain, t.MessageID[:]...)
	plain = binary.AppendUvarint(plain, uint64(t.Subaccount))
	plain = appendString(plain, t.Recipient)
	plain = appendString(plain, t.LinkName)
	code := 0
	for i, p := range prefixes {
		if strings.HasPrefix(t.Target, p) && len(p) >= len(prefixes[code]) {
			code = i
		}
	}
	plain = append(plain, byte(code))
	plain = append(plain, t.Target[len(prefixes[code]):]...)

	sealed, err := key.siv.EncryptDeterministically(plain, key.ad())
	if err != nil { // only for a plaintext near the size of memory
		panic(fmt.Sprintf("token: seal: %v", err))
	}
	text := make([]byte, 0, 1+len(sealed))
	return tokenEncoding.EncodeToString(append(append(text, key.id), sealed...))
}

func (k *key) ad() []byte { return append([]byte(associated), k.id) }

// Open reads a token's text. Every failure is ErrToken; the detail is for the
// log of an operator, not for the world.
func (k *Keys) Open(text string) (Token, error) {
	if len(text) > MaxLength {
		return Token{}, fmt.Errorf("%w: too long", ErrToken)
	}
	raw, err := tokenEncoding.DecodeString(text)
	if err != nil || len(raw) < 1 || strings.ContainsAny(text, "\r\n") {
		return Token{}, fmt.Errorf("%w: not base64url", ErrToken)
	}
	key := k.byID[raw[0]]
	if key == nil {
		return Token{}, fmt.Errorf("%w: no key %d", ErrToken, raw[0])
	}
	plain, err := key.siv.DecryptDeterministically(raw[1:], key.ad())
	if err != nil {
		return Token{}, fmt.Errorf("%w: it does not verify", ErrToken)
	}
	return decode(plain)
}

func decode(p []byte) (Token, error) {
	var t Token
	short := fmt.Errorf("%w: short or of another version", ErrToken)
	if len(p) < 1+len(ID{}) {
		return Token{}, short
	}
	t.Kind, t.Unreported = Kind(p[0]&^unreported), p[0]&unreported != 0
	if t.Kind.String() == "" {
		return Token{}, fmt.Errorf("%w: kind %d", ErrToken, p[0])
	}
	t.MessageID = ID(p[1 : 1+len(ID{})])
	p = p[1+len(ID{}):]
	sub, n := binary.Uvarint(p)
	if n <= 0 || sub > 1<<32-1 {
		return Token{}, short
	}
	t.Subaccount, p = uint32(sub), p[n:]
	var ok1, ok2 bool
	t.Recipient, p, ok1 = cutString(p)
	t.LinkName, p, ok2 = cutString(p)
	if !ok1 || !ok2 || len(p) < 1 || int(p[0]) >= len(prefixes) {
		return Token{}, short
	}
	t.Target = prefixes[p[0]] + string(p[1:])
	return t, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutString(p []byte) (string, []byte, bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return "", nil, false
	}
	return string(p[w : w+int(n)]), p[w+int(n):], true
}
