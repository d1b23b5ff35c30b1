package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/relay/envelope"
)

// Fields that are signed where they occur, and those signed once more than
// they occur, so that adding one breaks the signature (promises, Security 11).
var (
	overSigned = []string{"From", "To", "Cc", "Subject", "Date", "Reply-To", "Message-ID", "Content-Type", "MIME-Version"}
	signed     = []string{"Sender", "In-Reply-To", "References", "Content-Transfer-Encoding",
		"Resent-From", "Resent-To", "Resent-Cc", "Resent-Date", "Resent-Message-ID",
		"List-Id", "List-Help", "List-Subscribe", "List-Post", "List-Owner", "List-Archive",
		"List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID"}
)

// Times are the t= and x= of a signature.
type Times struct {
	Signed time.Time
	Expire time.Duration // 0: no x=
}

// Sign gives the DKIM-Signature fields for a message, the first key's first,
// each with its CRLF, to be put before the message. The body has no line ends
// but CRLF. The same arguments make the same bytes.
func Sign(keys []Key, header, body []byte, t Times) ([]byte, error) {
	fields := envelope.Fields(header)
	b := hashers.Get().(*bodyHasher)
	defer hashers.Put(b)
	b.h.Reset()
	b.relaxed(body)
	var sum [sha256.Size]byte
	bodyHash := base64.StdEncoding.EncodeToString(b.h.Sum(sum[:0]))
	names, data := selectFields(fields, b.buf[:0])
	var out []byte
	for _, k := range keys {
		mark := len(data)
		field := signatureField(k, names, bodyHash, t)
		data = appendRelaxedField(data, field)
		digest := sha256.Sum256(data)
		data = data[:mark]
		sig, err := k.sign(digest[:])
		if err != nil {
			return nil, fmt.Errorf("dkim: %s: %w", RecordName(k.Domain, k.Selector), err)
		}
		out = appendFolded(append(out, field...), base64.StdEncoding.EncodeToString(sig))
	}
	b.buf = data[:0]
	return out, nil
}

var hashers = sync.Pool{New: func() any { return &bodyHasher{h: sha256.New(), buf: make([]byte, 0, flushAt+4096)} }}

func (k Key) sign(digest []byte) ([]byte, error) {
	if _, ok := k.Private.Public().(ed25519.PublicKey); ok {
		return k.Private.Sign(rand.Reader, digest, crypto.Hash(0)) // RFC 8463 section 3: the hash is the message
	}
	return k.Private.Sign(rand.Reader, digest, crypto.SHA256)
}

func (k Key) algorithm() string {
	if isRSA(k) {
		return "rsa-sha256"
	}
	return "ed25519-sha256"
}

// selectFields gives h= and the canonical form of what it names: of several
// fields with one name the last is signed first (RFC 6376 section 5.4.2).
func selectFields(fields []envelope.Field, dst []byte) (names []string, data []byte) {
	add := func(name string, over bool) {
		for i := len(fields) - 1; i >= 0; i-- {
			if fields[i].Is(name) {
				names = append(names, name)
				dst = append(appendRelaxedField(dst, fields[i].Raw), crlf...)
			}
		}
		if over {
			names = append(names, name)
		}
	}
	for _, n := range overSigned {
		add(n, true)
	}
	for _, n := range signed {
		add(n, false)
	}
	return names, dst
}

const foldAt = 76

// signatureField is the field as far as b=, folded.
func signatureField(k Key, names []string, bodyHash string, t Times) []byte {
	w := folder{out: []byte("DKIM-Signature: v=1;"), column: len("DKIM-Signature: v=1;")}
	w.tag(" a=" + k.algorithm() + ";")
	w.tag(" c=relaxed/relaxed;")
	w.tag(" d=" + k.Domain + ";")
	w.tag(" s=" + k.Selector + ";")
	w.tag(" t=" + strconv.FormatInt(t.Signed.Unix(), 10) + ";")
	if t.Expire > 0 {
		w.tag(" x=" + strconv.FormatInt(t.Signed.Add(t.Expire).Unix(), 10) + ";")
	}
	for i, n := range names {
		text := n + ":"
		if i == 0 {
			text = " h=" + text
		}
		if i == len(names)-1 {
			text = strings.TrimSuffix(text, ":") + ";"
		}
		w.tag(text)
	}
	w.tag(" bh=" + bodyHash + ";")
	w.newLine()
	w.tag(" b=")
	return w.out
}

// folder writes tags on lines of a bounded length.
type folder struct {
	out    []byte
	column int
}

func (w *folder) newLine() {
	w.out = append(w.out, "\r\n"...)
	w.column = 0
}

func (w *folder) tag(s string) {
	if w.column > 0 && w.column+len(s) > foldAt {
		w.newLine()
		if s[0] != ' ' {
			w.out = append(w.out, ' ')
			w.column++
		}
	}
	w.out = append(w.out, s...)
	w.column += len(s)
}

// appendFolded ends the field with the signature.
func appendFolded(dst []byte, sig string) []byte {
	column := len(dst) - bytes.LastIndexByte(dst, '\n') - 1
	for len(sig) > 0 {
		n := min(len(sig), foldAt-column)
		dst = append(dst, sig[:n]...)
		if sig = sig[n:]; len(sig) > 0 {
			dst = append(dst, "\r\n "...)
			column = 1
		}
	}
	return append(dst, crlf...)
}
