package main

import (
	"fmt"
	"io"
)

// result is a package's row of the table.
type result struct {
	pkg          string
	killed       int
	byTime       int
	notCompiling int
	survivors    []string
	equivalent   []string
}

func (r *result) add(m mutant, o outcome) {
	switch o {
	case killed:
		r.killed++
	case timedOut:
		r.killed++
		r.byTime++
	case notCompiling:
		r.notCompiling++
	default:
		r.survivors = append(r.survivors, fmt.Sprintf("%s (line %d): becomes %q", m.id(), m.line, m.text))
	}
}

func (r *result) tried() int { return r.killed + len(r.survivors) }

func percent(part, whole int) float64 {
	if whole == 0 {
		return 100
	}

	return 100 * float64(part) / float64(whole)
}

type results []*result

// noticed is how many per cent of all mutants that compile and change
// something were noticed.
func (rs results) noticed() float64 {
	part, whole := 0, 0
	for _, r := range rs {
		part += r.killed
		whole += r.tried()
	}

	return percent(part, whole)
}

func (rs results) print(out io.Writer) {
	fmt.Fprintln(out, "| package | mutants | noticed (of these by time-out) | survived | equivalent | "+
		"not compiling | noticed % |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|")
	var sum result
	for _, r := range rs {
		r.row(out)
		sum.killed += r.killed
		sum.byTime += r.byTime
		sum.notCompiling += r.notCompiling
		sum.survivors = append(sum.survivors, r.survivors...)
		sum.equivalent = append(sum.equivalent, r.equivalent...)
	}
	sum.pkg = "all"
	sum.row(out)

	if len(sum.survivors) > 0 {
		fmt.Fprintln(out, "\nSurvivors:")
	}
	for _, s := range sum.survivors {
		fmt.Fprintln(out, " ", s)
	}
	if len(sum.equivalent) > 0 {
		fmt.Fprintln(out, "\nLeft out because they change nothing:")
	}
	for _, s := range sum.equivalent {
		fmt.Fprintln(out, " ", s)
	}
}

func (r *result) row(out io.Writer) {
	all := r.tried() + r.notCompiling + len(r.equivalent)
	fmt.Fprintf(out, "| %s | %d | %d (%d) | %d | %d | %d | %.0f |\n",
		r.pkg, all, r.killed, r.byTime, len(r.survivors), len(r.equivalent), r.notCompiling,
		percent(r.killed, r.tried()))
}
