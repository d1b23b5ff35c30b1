package wire

import (
	"strconv"
	"strings"
)

// command is a command line in parts. A line is parsed once, and the library
// gets it written anew.
type command struct {
	verb string // in upper case; what precedes the first space or tab
	arg  string // without white space around it
}

func parseCommand(line []byte) command {
	s := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
	verb, arg := s, ""
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		verb, arg = s[:i], s[i:]
	}

	return command{verb: upper(verb), arg: strings.Trim(arg, " \t")}
}

// upper returns s with its ASCII letters in upper case. Letters outside ASCII
// whose upper case is an ASCII letter stay as they are.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}

	return string(b)
}

// line returns the command as the library gets it.
func (c command) line() []byte {
	if c.arg == "" {
		return []byte(c.verb + "\r\n")
	}

	return []byte(c.verb + " " + c.arg + "\r\n")
}

// chunk is the argument of BDAT (RFC 3030 section 2).
type chunk struct {
	size int64
	last bool
}

func parseChunk(arg string) (chunk, error) {
	f := strings.Fields(arg)
	if len(f) == 0 || len(f) > 2 {
		return chunk{}, errBadChunk
	}
	if len(f) == 2 && upper(f[1]) != "LAST" {
		return chunk{}, errBadChunk
	}

	n, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil || n > maxChunk {
		return chunk{}, errBadChunk
	}

	return chunk{size: int64(n), last: len(f) == 2}, nil
}
