package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The records of the queue begin with a letter for the kind, and a space:
//
//	T LENGTH JSON LF bytes   a transaction: the length of the record in 10
//	                         digits, so that the bytes need not be read at
//	                         startup; its JSON, then Shared, then the Own of
//	                         each copy. A later record replaces an earlier one
//	                         with the same id
//	S JSON                   the state of a copy after an attempt
//	D JSON                   the end of a copy, whatever the outcome
//
// LF inside a record is written as \n, a backslash as \\.
const (
	kindTransaction = 'T'
	kindState       = 'S'
	kindDone        = 'D'
)

// lengthEnd is the offset of a transaction's JSON: after `T`, a space, ten digits
// and a space.
const lengthEnd = 2 + 10 + 1

// stateRecord is the state of a copy after an attempt.
type stateRecord struct {
	ID       string    `json:"id"`
	Copy     string    `json:"copy"` // message id
	Tries    int       `json:"tries"`
	Next     time.Time `json:"next"`
	Away     bool      `json:"away,omitempty"` // no upstream was reachable
	Reply    string    `json:"reply,omitempty"`
	LastTry  time.Time `json:"last_try"`
	Upstream string    `json:"upstream,omitempty"`
}

// doneRecord is the end of a copy.
type doneRecord struct {
	ID   string `json:"id"`
	Copy string `json:"copy"`
	Why  string `json:"why"`
}

var errRecord = errors.New("queue: malformed record")

// encodeTransaction returns the record of a transaction, and sets the lengths in it.
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

// encodedSize returns the length of a transaction's record.
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

// Escaped returns the number of bytes that b takes in a record, in which LF and
// backslash are two bytes each.
func Escaped(b []byte) int {
	return len(b) + bytes.Count(b, []byte{'\n'}) + bytes.Count(b, []byte{'\\'})
}

// recordLength returns the length that a transaction's record states at its
// beginning, or 0 for any other record.
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

// encodeJSON returns a record that consists of its kind and JSON.
func encodeJSON(kind byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}

	return escape([]byte{kind, ' '}, b), nil
}

// escape appends b to dst, without the line ends that would end a record.
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

// unescape reverses escape. It overwrites b.
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

// headEnd returns where the JSON of a transaction ends in its record, or -1 if it
// does not.
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

// decodeJSON decodes what follows the kind of a record.
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

// decodeHead decodes a transaction without its bytes, and does not change record.
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

// decodeInPlace decodes a transaction. It overwrites record, which then belongs to
// the transaction.
func decodeInPlace(record []byte) (*Transaction, error) {
	t, err := decodeHead(record)
	if err != nil {
		return nil, err
	}

	data, err := unescape(record[headEnd(record)+2:])
	if err != nil {
		return nil, err
	}

	t.Shared, data, err = split(data, t.SharedLengths)
	if err != nil {
		return nil, err
	}

	for i := range t.Copies {
		c := &t.Copies[i]
		c.Own, data, err = split(data, c.OwnLengths)
		if err != nil {
			return nil, err
		}
		if len(c.Own) != len(t.Shared)+1 {
			return nil, errRecord
		}
	}

	return t, nil
}

// split cuts parts with the lengths given from the beginning of data, and returns
// them and the rest.
func split(data []byte, lengths []int) (parts [][]byte, rest []byte, err error) {
	parts = make([][]byte, len(lengths))
	for i, n := range lengths {
		if n < 0 || n > len(data) {
			return nil, nil, errRecord
		}
		parts[i] = data[:n:n]
		data = data[n:]
	}

	return parts, data, nil
}
