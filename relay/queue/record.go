package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The records of the queue, one kind a letter, then a space:
//
//	T LENGTH JSON LF bytes   a transaction: the record's length in 10 digits, so
//	                         that a start need not read the bytes; its JSON, then
//	                         Shared, then each copy's Own. A later one with the
//	                         same id takes the place of the earlier
//	S JSON                   a copy's state after an attempt
//	D JSON                   a copy that is done with, one way or the other
//
// LF inside is written as \n, a backslash as \\.
const (
	kindTransaction = 'T'
	kindState       = 'S'
	kindDone        = 'D'
)

// lengthEnd is where a transaction's JSON begins: behind `T`, a space, ten
// digits, a space.
const lengthEnd = 2 + 10 + 1

type stateRecord struct {
	ID       string    `json:"id"`
	Copy     string    `json:"copy"` // message id
	Tries    int       `json:"tries"`
	Next     time.Time `json:"next"`
	Away     bool      `json:"away,omitempty"` // the upstream was not reachable
	Reply    string    `json:"reply,omitempty"`
	LastTry  time.Time `json:"last_try"`
	Upstream string    `json:"upstream,omitempty"`
}

type doneRecord struct {
	ID   string `json:"id"`
	Copy string `json:"copy"`
	Why  string `json:"why"`
}

var errRecord = errors.New("queue: record cannot be read")

func encodeTransaction(t *Transaction) ([]byte, error) {
	t.SharedLengths = lengths(t.Shared)
	for i := range t.Copies {
		t.Copies[i].OwnLengths = lengths(t.Copies[i].Own)
	}
	head, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}

	out := make([]byte, 0, encodedSize(t, head))
	out = append(out, "T 0000000000 "...)
	out = escape(out, head)
	out = append(out, `\n`...)
	for _, b := range t.Shared {
		out = escape(out, b)
	}
	for i := range t.Copies {
		for _, b := range t.Copies[i].Own {
			out = escape(out, b)
		}
	}
	copy(out[2:], fmt.Sprintf("%010d", len(out)))

	return out, nil
}

// encodedSize is how long a transaction's record is.
func encodedSize(t *Transaction, head []byte) int {
	n := lengthEnd + Escaped(head) + len(`\n`)
	for _, b := range t.Shared {
		n += Escaped(b)
	}
	for i := range t.Copies {
		for _, b := range t.Copies[i].Own {
			n += Escaped(b)
		}
	}

	return n
}

// Escaped is how many bytes b takes in a record, where a line end and a
// backslash are two.
func Escaped(b []byte) int {
	return len(b) + bytes.Count(b, []byte{'\n'}) + bytes.Count(b, []byte{'\\'})
}

// recordLength reads a transaction's length from its beginning.
func recordLength(beginning []byte) int {
	if len(beginning) < lengthEnd || beginning[0] != kindTransaction {
		return 0
	}
	n, err := strconv.Atoi(string(beginning[2 : lengthEnd-1]))
	if err != nil || n < lengthEnd {
		return 0
	}

	return n
}

func lengths(bs [][]byte) []int {
	out := make([]int, len(bs))
	for i, b := range bs {
		out[i] = len(b)
	}

	return out
}

func total(ns []int) int {
	sum := 0
	for _, n := range ns {
		sum += n
	}

	return sum
}

func encodeJSON(kind byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return escape([]byte{kind, ' '}, b), nil
}

// escape keeps line ends out of a record.
func escape(dst, b []byte) []byte {
	for {
		i := bytes.IndexAny(b, "\n\\")
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		if b[i] == '\n' {
			dst = append(dst, `\n`...)
		} else {
			dst = append(dst, `\\`...)
		}
		b = b[i+1:]
	}
}

// unescape undoes escape, over b itself.
func unescape(b []byte) ([]byte, error) {
	out := b[:0]
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(out, b...), nil
		}
		out = append(out, b[:i]...)

		switch {
		case i+1 == len(b):
			return nil, errRecord
		case b[i+1] == 'n':
			out = append(out, '\n')
		case b[i+1] == '\\':
			out = append(out, '\\')
		default:
			return nil, errRecord
		}

		b = b[i+2:]
	}
}

// headEnd finds where a transaction's JSON ends in its escaped record.
func headEnd(record []byte) int {
	for i := lengthEnd; i+1 < len(record); i++ {
		if record[i] != '\\' {
			continue
		}
		if record[i+1] == 'n' {
			return i
		}
		i++
	}

	return -1
}

// decodeJSON reads what follows the kind of a record.
func decodeJSON(record []byte, v any) error {
	raw, err := unescape(bytes.Clone(record[2:]))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}

	return nil
}

// decodeHead reads a transaction without its bytes.
func decodeHead(record []byte) (*Transaction, error) {
	end := headEnd(record)
	if end < 0 {
		return nil, errRecord
	}
	head, err := unescape(bytes.Clone(record[lengthEnd:end]))
	if err != nil {
		return nil, err
	}

	t := &Transaction{}
	if err := json.Unmarshal(head, t); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if t.ID == "" || len(t.Copies) == 0 {
		return nil, errRecord
	}

	return t, nil
}

// decodeInPlace reads a transaction whose bytes are parts of record, which is
// overwritten.
func decodeInPlace(record []byte) (*Transaction, error) {
	t, err := decodeHead(record)
	if err != nil {
		return nil, err
	}
	data, err := unescape(record[headEnd(record)+2:])
	if err != nil {
		return nil, err
	}

	cut := func(ns []int) ([][]byte, error) {
		out := make([][]byte, len(ns))
		for i, n := range ns {
			if n < 0 || n > len(data) {
				return nil, errRecord
			}
			out[i], data = data[:n:n], data[n:]
		}
		return out, nil
	}

	if t.Shared, err = cut(t.SharedLengths); err != nil {
		return nil, err
	}
	for i := range t.Copies {
		if t.Copies[i].Own, err = cut(t.Copies[i].OwnLengths); err != nil {
			return nil, err
		}
		if len(t.Copies[i].Own) != len(t.Shared)+1 {
			return nil, errRecord
		}
	}

	return t, nil
}
