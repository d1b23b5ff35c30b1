package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"postern/relay/reply"
)

// What the reader and the writer refuse. Each is wrapped in a *reply.Fault.
var (
	ErrBareCR   = errors.New("bare CR in the message")
	ErrBareLF   = errors.New("bare LF in the message")
	ErrNUL      = errors.New("NUL in the message")
	ErrTooLarge = errors.New("message too large")
	ErrCut      = errors.New("message cut off before its end")
)

// ReadConfig holds the settings of ReadMessage.
type ReadConfig struct {
	MaxBytes    int64 // 0: no limit
	NormaliseLF bool  // turn a bare LF into CRLF instead of refusing it
	SizeHint    int64 // bytes to allocate at once, up to 64 MiB; 0: unknown
	// Grow is called before memory for n bytes is allocated, and its error ends
	// ReadMessage; nil: memory is not limited.
	Grow func(n int64) error
}

const (
	minBuffer   = 4096
	maxSizeHint = 64 << 20
	readSize    = 32 << 10
)

// FirstBuffer returns how many bytes ReadMessage allocates at first for a message
// with a SizeHint of size bytes.
func FirstBuffer(size int64) int64 { return min(max(size, minBuffer), maxSizeHint) + 512 }

// ReadMessage reads a message from r, which has undone dot-stuffing and returns
// io.EOF at the end of the message. It holds the message to RFC 5321 section
// 2.3.8: CR and LF appear only together, and there is no NUL.
//
// If r fails with another error than io.EOF, only a part of a message has
// arrived: the error is ErrCut, or the *reply.Fault that r returned. The caller
// owns the returned slice.
func ReadMessage(r io.Reader, c ReadConfig) ([]byte, error) {
	s := scanner{normalise: c.NormaliseLF}
	if c.SizeHint > 0 {
		if err := s.allocate(FirstBuffer(c.SizeHint), c.Grow); err != nil {
			return nil, err
		}
	}

	buf := make([]byte, minBuffer) // in addition to what Grow is called for: never much more than that
	for {
		if len(buf) < readSize && len(s.out) >= readSize {
			buf = make([]byte, readSize)
		}

		n, err := r.Read(buf)
		if e := s.makeRoom(buf[:n], c); e != nil {
			return nil, e
		}
		if e := s.add(buf[:n]); e != nil {
			return nil, e
		}
		if c.MaxBytes > 0 && int64(len(s.out)) > c.MaxBytes {
			return nil, tooLarge()
		}

		if err == io.EOF {
			return s.end()
		}
		if err != nil {
			return nil, cut(err)
		}
	}
}

func tooLarge() error {
	return &reply.Fault{
		Class: reply.Permanent,
		Reply: reply.Reply{
			Code:     552,
			Enhanced: reply.EnhancedCode{5, 3, 4},
			Text:     "Message exceeds the maximum size",
		},
		Err: ErrTooLarge,
	}
}

// cut returns the error of a message whose transport failed.
func cut(cause error) error {
	var f *reply.Fault
	if errors.As(cause, &f) {
		return f
	}

	return &reply.Fault{Class: reply.Cut, Err: fmt.Errorf("%w: %w", ErrCut, cause)}
}

// scanner checks line ends across reads.
type scanner struct {
	normalise bool
	pendingCR bool // the last read ended with a CR, which is not in out yet
	out       []byte
}

// makeRoom makes sure that p can be added. The buffer grows with what arrives, by
// half its size at a time, and hardly beyond the largest message.
func (s *scanner) makeRoom(p []byte, c ReadConfig) error {
	need := len(s.out) + len(p) + 1 // and a pending CR
	if s.normalise {
		need += bytes.Count(p, []byte("\n"))
	}
	if need <= cap(s.out) {
		return nil
	}

	size := int64(cap(s.out) + cap(s.out)/2)
	if c.MaxBytes > 0 {
		size = min(size, c.MaxBytes+readSize)
	}

	return s.allocate(max(size, int64(need), minBuffer), c.Grow)
}

// allocate moves the message into a buffer of size bytes, if grow allows it.
func (s *scanner) allocate(size int64, grow func(int64) error) error {
	if grow != nil {
		if err := grow(size); err != nil {
			return err
		}
	}

	next := make([]byte, len(s.out), size)
	copy(next, s.out)
	s.out = next

	return nil
}

func refuseBytes(cause error, text string) error {
	return &reply.Fault{
		Class: reply.Permanent,
		Reply: reply.Reply{Code: 550, Enhanced: reply.EnhancedCode{5, 6, 0}, Text: text},
		Err:   cause,
	}
}

func nulByte() error { return refuseBytes(ErrNUL, "Message contains a NUL byte") }

func bareCR() error {
	return refuseBytes(ErrBareCR, "Message contains a bare CR; lines end with CRLF (RFC 5321 section 2.3.8)")
}

func bareLF() error {
	return refuseBytes(ErrBareLF, "Message contains a bare LF; lines end with CRLF (RFC 5321 section 2.3.8)")
}

// bareLFAdvice returns bareLF for a client, with what its programmer or the
// server's operator can do. It fits in a reply line (RFC 5321 section 4.5.3.1.5).
func bareLFAdvice() error {
	return refuseBytes(ErrBareLF, "Message contains a bare LF; lines end with CRLF (RFC 5321 section 2.3.8). "+
		"In Python use smtplib's send_message(msg), or sendmail(..., msg.as_bytes(policy=email.policy.SMTP)); "+
		"or set bare_newlines = \"normalise\" on the server")
}

// add checks p and appends it to the message.
func (s *scanner) add(p []byte) error {
	if bytes.IndexByte(p, 0) >= 0 {
		return nulByte()
	}

	for len(p) > 0 {
		if s.pendingCR {
			if p[0] != '\n' {
				return bareCR()
			}
			s.pendingCR = false
			s.out = append(s.out, '\r', '\n')
			p = p[1:]
			continue
		}

		lf := bytes.IndexByte(p, '\n')
		line := p
		if lf >= 0 {
			line = p[:lf]
		}
		cr := bytes.IndexByte(line, '\r')

		switch {
		case cr >= 0 && cr != len(line)-1:
			return bareCR()
		case lf < 0 && cr >= 0: // the CR may be the first half of a CRLF
			s.out = append(s.out, line[:cr]...)
			s.pendingCR = true
			return nil
		case lf < 0:
			s.out = append(s.out, line...)
			return nil
		case cr >= 0:
			s.out = append(s.out, p[:lf+1]...)
		case s.normalise:
			s.out = append(append(s.out, line...), '\r', '\n')
		default:
			return bareLFAdvice()
		}

		p = p[lf+1:]
	}

	return nil
}

// end returns the message.
func (s *scanner) end() ([]byte, error) {
	if s.pendingCR {
		return nil, bareCR()
	}
	return s.out, nil
}
