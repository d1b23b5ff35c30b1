// Command mutate measures what the unit tests notice: it changes the code, one
// small change at a time (a condition turned, an fsync, a lock or an error
// return removed), runs the tests of the changed package and of those that
// import it, and prints how many changes they noticed and which they did not.
//
//	go run ./integration/mutate ./relay ./relay/queue
//	go run ./integration/mutate -since main -n 0
//	go run ./integration/mutate -e2e 'TestReload|TestDemo' ./cmd/postern
//
// The tree is not touched: the go command reads changed files by -overlay. The
// changes are drawn with a fixed seed. Those that change nothing that a test
// could see are listed with a reason in equivalent.txt and left out.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"time"
)

//go:embed equivalent.txt
var equivalentList string

// options are what the command line says.
type options struct {
	seed      uint64
	perPkg    int // mutants drawn for each package; 0: all
	since     string
	timeout   time.Duration
	race      bool
	importers bool
	e2e       string
	list      bool
	minimum   float64
	patterns  []string
}

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the random choice")
	flag.IntVar(&o.perPkg, "n", 30, "number of changes per package; 0: all that are possible")
	flag.StringVar(&o.since, "since", "", "change only lines that differ from this revision")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "time limit for one run of the tests of a package")
	flag.BoolVar(&o.race, "race", false, "run the tests with the race detector, which alone notices some missing locks")
	flag.BoolVar(&o.importers, "importers", true,
		"if the tests of a package notice nothing, run those of the packages that import it")
	flag.StringVar(&o.e2e, "e2e", "", "if those notice nothing either, run the end-to-end tests that match")
	flag.BoolVar(&o.list, "list", false, "print the changes and run nothing")
	flag.Float64Var(&o.minimum, "min", 0, "exit with status 1 if fewer per cent of all are noticed")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./integration/mutate [flags] [packages]")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.patterns = flag.Args()
	if len(o.patterns) == 0 {
		o.patterns = []string{"./..."}
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	noticed, err := run(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
	if noticed < o.minimum {
		fmt.Fprintf(os.Stderr, "mutate: %.0f %% noticed, want %.0f %%\n", noticed, o.minimum)
		os.Exit(1)
	}
}

// run makes the changes and prints the table. It returns how many per cent of
// the changes were noticed.
func run(ctx context.Context, o options, out io.Writer) (float64, error) {
	pkgs, err := listPackages(ctx)
	if err != nil {
		return 0, err
	}
	wanted, err := match(ctx, o.patterns)
	if err != nil {
		return 0, err
	}
	changed, err := changedLines(ctx, o.since)
	if err != nil {
		return 0, err
	}
	equivalent, err := parseEquivalent(equivalentList)
	if err != nil {
		return 0, err
	}

	var table results
	for _, p := range pkgs.list {
		if !wanted[p.ImportPath] || !pkgs.mutable(p) {
			continue
		}

		mutants, err := p.mutants(changed)
		if err != nil {
			return 0, err
		}

		row := &result{pkg: p.short()}
		table = append(table, row)
		for _, m := range draw(mutants, o.perPkg, o.seed) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if o.list {
				fmt.Fprintln(out, m.id())
				continue
			}
			if reason, ok := equivalent[m.id()]; ok {
				row.equivalent = append(row.equivalent, fmt.Sprintf("%s: %s", m.id(), reason))
				continue
			}

			outcome, err := pkgs.try(ctx, p, m, o)
			if err != nil {
				return 0, err
			}
			row.add(m, outcome)
			fmt.Fprintf(os.Stderr, "%-14s %s\n", outcome, m.id())
		}
	}
	if o.list {
		return 100, nil
	}

	table.print(out)
	return table.noticed(), nil
}

// draw picks n of the mutants by their weights, the same ones for a seed. The
// choice for one package does not depend on the others.
func draw(list []mutant, n int, seed uint64) []mutant {
	if n == 0 || n >= len(list) {
		return list
	}

	rest := append([]mutant(nil), list...)
	r := rand.New(rand.NewPCG(seed, uint64(len(list))))
	var out []mutant
	for len(out) < n {
		total := 0
		for _, m := range rest {
			total += m.weight
		}

		at := r.IntN(total)
		for i, m := range rest {
			at -= m.weight
			if at < 0 {
				out = append(out, m)
				rest = append(rest[:i], rest[i+1:]...)
				break
			}
		}
	}

	return out
}

// parseEquivalent parses lines of the form MUTANT -- REASON. Empty lines and those
// that begin with # are ignored.
func parseEquivalent(text string) (map[string]string, error) {
	out := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		id, reason, ok := strings.Cut(line, " -- ")
		if !ok || reason == "" {
			return nil, fmt.Errorf("equivalent.txt:%d: want MUTANT -- REASON", i+1)
		}
		out[id] = reason
	}

	return out, nil
}
