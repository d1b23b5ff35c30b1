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

// ErrToken is wrapped by all errors of Keys.Open.
var ErrToken = errors.New("not a token of ours")

// ErrUnknownKey wraps ErrToken, for a token whose key is not in the key file.
var ErrUnknownKey = fmt.Errorf("%w: no such key", ErrToken)

// Kind says what a token is for.
type Kind byte

// The kinds of tokens. The numbers are in links that are valid for years, and must
// never be reused.
const (
	Click           Kind = 1
	Open            Kind = 2
	InitialOpen     Kind = 3
	LinkUnsubscribe Kind = 4
	ListUnsubscribe Kind = 5
	AmpClick        Kind = 6
	AmpOpen         Kind = 7
	AmpInitialOpen  Kind = 8
	Probe           Kind = 9 // finds out whether a tracker has the same keys (`postern check --online`)
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

// String returns the name of the kind, such as "click", or an empty string for an
// unknown one.
func (k Kind) String() string { return kindNames[k] }

// Token is the content of a link or a pixel.
type Token struct {
	Kind       Kind
	Host       string // the host that it is sealed for, in the form of Host; or Mail, Probing
	MessageID  ID
	Recipient  string
	Subaccount uint32
	Target     string // the target of a link
	LinkName   string // the name of a link (data-msys-linkname); empty: none
	Unreported bool   // events of the message are not reported
}

// Issued returns the time at which the copy of the message was made.
func (t Token) Issued() time.Time { return t.MessageID.Time() }

// MaxLength bounds the text of a token that Open accepts, in bytes. There is room
// for a target of 4096 bytes, a recipient and a name.
const MaxLength = 8192

// PathPrefix begins the path of tracked URLs.
const PathPrefix = "/t/"

// URL returns the tracked URL for the text of a token. base is the tracking URL.
func URL(base, text string) string { return strings.TrimSuffix(base, "/") + PathPrefix + text }

// SubURL is URL with path segments in front of the token (data-msys-sublink), by
// which apps select the links that they open. sublink may be empty.
func SubURL(base, sublink, text string) string {
	if sublink == "" {
		return URL(base, text)
	}

	return URL(base, sublink+"/"+text)
}

// FromPath returns the text of the token in the path of a tracked URL, without the
// path segments in front of it and without anything that a program has mistaken for
// a part of the link: punctuation, or a query without its question mark. ok is false
// for other paths.
func FromPath(path string) (text string, ok bool) {
	rest, ok := strings.CutPrefix("/"+strings.TrimLeft(path, "/"), PathPrefix)
	if !ok {
		return "", false
	}

	if end := strings.IndexFunc(rest, isForeign); end >= 0 {
		rest = rest[:end] // what follows may have slashes
	}

	rest = strings.TrimRightFunc(rest, func(r rune) bool { return !isAlnum(r) })
	text = rest[strings.LastIndexByte(rest, '/')+1:]
	if end := strings.IndexAny(text, ".~"); end >= 0 {
		text = text[:end]
	}

	return strings.TrimRight(text, "-_"), true
}

// isForeign reports whether a character does not occur in the path of tracked URLs.
func isForeign(r rune) bool { return !isAlnum(r) && !strings.ContainsRune("/-_.~", r) }

// isAlnum reports whether r is an ASCII letter or digit.
func isAlnum(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// Squeezed returns the number of bytes that a text takes up in a token.
func Squeezed(text string) int { return squeezedLen(text) }

// MaxURL returns an upper bound of the length of SubURL, in bytes, for tokens with
// that target and link name and with a recipient that takes up at most recipient
// bytes (see Squeezed).
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

// aesBlock is the length of the synthetic IV of AES-SIV, in bytes.
const aesBlock = 16

// associated begins the associated data of a token. The id of the key and the host
// follow.
const associated = "postern token 2"

// tokenEncoding is the encoding of tokens in URLs: unpadded base64url. The text of a
// token is the encoding of
//
//	key id (1) | AES-SIV of: head (1), message id (10 or 16), uvarint subaccount if the head says so,
//	             uvarint length and recipient, uvarint length and link name if the head says so, target
//
// and of a "0" where the text could end in "-" or "_", because programs that look
// for URLs in text leave those out.
//
// Texts are squeezed (squeeze.go). The head consists of the kind (4 bits) and the
// flags below. The MAC of a message id, its last 6 bytes, is left out if it was made
// with the key of the token. Kinds go up to 11: a head with one of 12 to 15 is
// reserved for another format, so that links of this one remain valid. The host is
// not in the token but in the associated data of AES-SIV, so that the token does not
// open for another.
//
// AES-SIV (RFC 5297) is deterministic: a copy that is rendered for signing, for
// sending and for a retry has the same bytes each time.
var tokenEncoding = base64.RawURLEncoding.Strict()

// Flags of the head.
const (
	kindBits      = 0x0f
	hasSubaccount = 0x10
	hasName       = 0x20
	wholeID       = 0x40
	unreported    = 0x80
)

// usualPlain is the capacity, in bytes, for the plaintext of a token. It is hardly
// ever exceeded.
const usualPlain = 512

// Seal returns the text of a token, sealed under the newest key for t.Host.
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

	plain = append(plain, head)
	plain = append(plain, id...)
	if t.Subaccount != 0 {
		plain = binary.AppendUvarint(plain, uint64(t.Subaccount))
	}

	plain = appendString(plain, t.Recipient)
	if t.LinkName != "" {
		plain = appendString(plain, t.LinkName)
	}

	plain = squeeze(plain, t.Target)
	sealed, err := key.siv.EncryptDeterministically(plain, key.associated(t.Host))
	if err != nil { // only if the plaintext is nearly as large as the memory
		panic(fmt.Sprintf("token: seal: %v", err))
	}

	return encodeText(slices.Insert(sealed, 0, key.id))
}

// associated returns the associated data of a token for a host.
func (k *key) associated(host string) []byte {
	return append(k.ad[:len(k.ad):len(k.ad)], host...)
}

// filler is appended to the text of a token whose length is a multiple of three
// bytes. Only then does the last character encode six bits, and may be "-" or "_".
const filler = "0"

// encodeText returns the text of a sealed token.
func encodeText(raw []byte) string {
	text := tokenEncoding.EncodeToString(raw)
	if len(raw)%3 == 0 {
		text += filler
	}

	return text
}

// decodeText is the inverse of encodeText. ok is false for a text that encodeText
// does not return.
func decodeText(text string) (raw []byte, ok bool) {
	switch len(text) % 4 {
	case 0: // without the filler
		return nil, false
	case 1:
		text, ok = strings.CutSuffix(text, filler)
		if !ok {
			return nil, false
		}
	}
	if strings.ContainsAny(text, "\r\n") { // the decoder skips them
		return nil, false
	}

	raw, err := tokenEncoding.DecodeString(text)

	return raw, err == nil && len(raw) > 0
}

// Open opens the text of a token that is sealed for one of the hosts, which are in
// the form of Host; without hosts, for one that is sealed for no host. Errors wrap
// ErrToken. Their details are meant for the log, not for the client.
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

// decode reads the plaintext of a token.
func (k *key) decode(p []byte) (t Token, err error) {
	short := fmt.Errorf("%w: truncated, or of another format", ErrToken)
	if len(p) < 1+idSigned {
		return Token{}, short
	}

	head := p[0]
	p = p[1:]
	t.Kind = Kind(head & kindBits)
	t.Unreported = head&unreported != 0
	if t.Kind.String() == "" {
		return Token{}, fmt.Errorf("%w: unknown kind %d", ErrToken, byte(t.Kind))
	}

	if head&wholeID != 0 {
		if len(p) < len(ID{}) {
			return Token{}, short
		}
		t.MessageID = ID(p)
		p = p[len(ID{}):]
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
		t.Subaccount = uint32(sub)
		p = p[n:]
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

// appendString appends a squeezed text, preceded by its length.
func appendString(b []byte, s string) []byte {
	var buf [128]byte
	short := squeeze(buf[:0], s)

	return append(binary.AppendUvarint(b, uint64(len(short))), short...)
}

// cutString reads a text that appendString has appended, and returns what follows.
func cutString(p []byte) (s string, rest []byte, err error) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return "", nil, errSqueezed
	}

	end := w + int(n)
	s, err = unsqueeze(p[w:end])

	return s, p[end:], err
}
