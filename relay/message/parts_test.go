package message

import (
	"bufio"
	"bytes"
	"errors"
	"testing"
)

// written is what WriteData makes of parts.
func written(parts ...[]byte) (string, error) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	err := WriteData(w, parts...)
	w.Flush()

	return b.String(), err
}

// TestWriteDataInPartsIsTheSame cuts messages at every two places: what goes
// out is what goes out of the whole, and what is refused is refused.
func TestWriteDataInPartsIsTheSame(t *testing.T) {
	for _, c := range []struct {
		name, msg string
		err       error
	}{
		{"lines", "a: b\r\n\r\nhello\r\nworld\r\n", nil},
		{"dots", ".a\r\n..\r\n.\r\nx.\r\n.", nil},
		{"no line end at the end", "a\r\n.b", nil},
		{"empty", "", nil},
		{"empty lines", "\r\n\r\n\r\n", nil},
		{"bare CR", "a\rb\r\n", ErrBareCR},
		{"bare CR at the end", "a\r\nb\r", ErrBareCR},
		{"bare LF", "a\nb\r\n", ErrBareLF},
		{"LF first", "\na\r\n", ErrBareLF},
		{"CR CR LF", "a\r\r\n", ErrBareCR},
		{"LF CR", "a\n\rb", ErrBareLF},
		{"NUL", "a\x00b\r\n", ErrNUL},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := []byte(c.msg)
			want, err := written(msg)
			if !errors.Is(err, c.err) {
				t.Fatalf("whole: %v, want %v", err, c.err)
			}

			for i := 0; i <= len(msg); i++ {
				for j := i; j <= len(msg); j++ {
					got, err := written(msg[:i], nil, msg[i:j], msg[j:])
					if (err == nil) != (c.err == nil) || got != want {
						t.Errorf("cut at %d and %d: got %q, %v, want %q, %v", i, j, got, err, want, c.err)
					}
				}
			}
		})
	}
}

func FuzzWriteDataInParts(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\n"), 3, 4)
	f.Add([]byte("a\r\n\r\n."), 2, 2)
	f.Add([]byte("\r\r\n\n"), 1, 3)
	f.Fuzz(func(t *testing.T, msg []byte, i, j int) {
		if i < 0 || j < i || j > len(msg) {
			return
		}

		want, wantErr := written(msg)
		got, err := written(msg[:i], msg[i:j], msg[j:])
		if (err == nil) != (wantErr == nil) || got != want {
			t.Errorf("%q cut at %d and %d: got %q, %v, want %q, %v", msg, i, j, got, err, want, wantErr)
		}
	})
}
