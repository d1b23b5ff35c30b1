package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	File   string
	Line   int
	Key    string
	Reason string
	Warn   bool // a warning: the configuration can be used
}

// Error returns FILE:LINE: KEY: REASON.
func (p Problem) Error() string {
	s := fmt.Sprintf("%s:%d: ", p.File, p.Line)
	if p.Key != "" {
		s += p.Key + ": "
	}
	if p.Warn {
		s += "warning: "
	}

	return s + p.Reason
}

// Problems are all problems of a configuration.
type Problems []Problem

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}

	return strings.Join(lines, "\n")
}

// byLine sorts the problems of one file by their lines.
func (ps Problems) byLine() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })

	return ps
}

// Fatal returns the problems that are not warnings, nil if there are none.
func (ps Problems) Fatal() Problems {
	var out Problems
	for _, p := range ps {
		if !p.Warn {
			out = append(out, p)
		}
	}

	return out
}

// problem records a problem with a key. Only the first of a key is kept: a value
// that cannot be read is not reported as missing as well.
func (b *binder) problem(key, format string, args ...any) {
	if b.has(key) {
		return
	}

	b.problems = append(b.problems, b.newProblem(key, format, args...))
}

// warn records a warning about a key.
func (b *binder) warn(key, format string, args ...any) {
	p := b.newProblem(key, format, args...)
	p.Warn = true
	b.problems = append(b.problems, p)
}

// newProblem returns a problem with a key, at the line of the key.
func (b *binder) newProblem(key, format string, args ...any) Problem {
	return Problem{
		File:   b.file,
		Line:   b.line(key),
		Key:    key,
		Reason: fmt.Sprintf(format, args...),
	}
}

// has reports whether a key has a problem already.
func (b *binder) has(key string) bool {
	for _, p := range b.problems {
		if key != "" && p.Key == key && !p.Warn {
			return true
		}
	}

	return false
}
