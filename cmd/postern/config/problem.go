package config

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	File   string
	Line   int
	Key    string
	Reason string
	Warn   bool // said, but no reason to refuse
}

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

// Problems are all that is wrong.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// byLine puts the problems of one file in the file's order.
func (ps Problems) byLine() Problems {
	sort.SliceStable(ps, func(i, j int) bool { return ps[i].Line < ps[j].Line })
	return ps
}

// Fatal gives those that are more than warnings; nil where there are none.
func (ps Problems) Fatal() Problems {
	var out Problems
	for _, p := range ps {
		if !p.Warn {
			out = append(out, p)
		}
	}
	return out
}

// problem notes what is wrong with a key, once: a value that could not be read
// is not missing besides.
func (b *binder) problem(key, format string, args ...any) {
	if b.has(key) {
		return
	}
	b.problems = append(b.problems, Problem{
		File:   b.file,
		Line:   b.line(key),
		Key:    key,
		Reason: fmt.Sprintf(format, args...),
	})
}

// has reports whether something is wrong with a key already.
func (b *binder) has(key string) bool {
	for _, p := range b.problems {
		if key != "" && p.Key == key && !p.Warn {
			return true
		}
	}

	return false
}

func (b *binder) warn(key, format string, args ...any) {
	b.problems = append(b.problems, Problem{
		File:   b.file,
		Line:   b.line(key),
		Key:    key,
		Reason: fmt.Sprintf(format, args...),
		Warn:   true,
	})
}
