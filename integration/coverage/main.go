// Command coverage prints how much of each package its own tests run, and exits
// with status 1 where that is less than the product promises: 80 % of everything
// and 70 % of cmd/postern. It reads a profile that `go test -coverprofile` wrote.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Least coverage, in per cent of statements.
const (
	leastOfAll      = 80
	leastOfCommands = 70
)

const (
	module   = "postern/"
	commands = "cmd/postern"
	tests    = "integration" // the end-to-end tests and their programs do not count
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./integration/coverage PROFILE")
		os.Exit(2)
	}

	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
		os.Exit(1)
	}
	defer f.Close()

	rooms, err := read(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
		os.Exit(1)
	}
	if !report(os.Stdout, rooms) {
		os.Exit(1)
	}
}

// count is statements.
type count struct {
	covered int
	all     int
}

func (c count) percent() float64 {
	if c.all == 0 {
		return 100
	}

	return 100 * float64(c.covered) / float64(c.all)
}

func (c *count) add(o count) {
	c.covered += o.covered
	c.all += o.all
}

// read sums up a profile by package. A block that several test runs list is
// covered where one of them ran it.
func read(profile io.Reader) (map[string]count, error) {
	type block struct {
		statements int
		ran        bool
	}
	blocks := map[string]block{}

	sc := bufio.NewScanner(profile)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}

		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %d: want POSITION STATEMENTS COUNT", n)
		}
		statements, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		b := blocks[fields[0]]
		b.statements = statements
		b.ran = b.ran || fields[2] != "0"
		blocks[fields[0]] = b
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}

	rooms := map[string]count{}
	for position, b := range blocks {
		file, _, _ := strings.Cut(position, ":")
		room := strings.TrimPrefix(path.Dir(file), module)
		if strings.HasPrefix(room, tests) {
			continue
		}

		c := count{all: b.statements}
		if b.ran {
			c.covered = b.statements
		}
		sum := rooms[room]
		sum.add(c)
		rooms[room] = sum
	}

	return rooms, nil
}

// report prints a line for each package, and reports whether there is enough.
func report(out io.Writer, rooms map[string]count) bool {
	var all, cmd count
	var names []string
	for room, c := range rooms {
		names = append(names, room)
		all.add(c)
		if strings.HasPrefix(room, commands) {
			cmd.add(c)
		}
	}

	slices.Sort(names)
	for _, room := range names {
		fmt.Fprintf(out, "%5.1f %%  %s\n", rooms[room].percent(), room)
	}
	fmt.Fprintf(out, "%5.1f %%  %s/..., want %d %%\n", cmd.percent(), commands, leastOfCommands)
	fmt.Fprintf(out, "%5.1f %%  all, want %d %%\n", all.percent(), leastOfAll)

	return all.percent() >= leastOfAll && cmd.percent() >= leastOfCommands
}
