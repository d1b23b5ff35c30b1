package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Module       struct{ Path string }
}

// short is the package's path within the module.
func (p *pkg) short() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")
}

func (p *pkg) tested() bool { return len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 }

func (p *pkg) uses(path string) bool {
	for _, imports := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
		if slices.Contains(imports, path) {
			return true
		}
	}

	return false
}

type packages struct{ list []*pkg }

// e2ePackage holds the end-to-end tests, which are run by name only.
const e2ePackage = "integration"

// mutable reports whether a package is the product's.
func (ps *packages) mutable(p *pkg) bool {
	return !strings.HasPrefix(p.short(), e2ePackage) && len(p.GoFiles) > 0
}

func listPackages(ctx context.Context) (*packages, error) {
	out, err := goCommand(ctx, "list", "-json", "./...")
	if err != nil {
		return nil, err
	}

	ps := &packages{}
	d := json.NewDecoder(bytes.NewReader(out))
	for {
		p := &pkg{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return ps, nil
		} else if err != nil {
			return nil, err
		}
		ps.list = append(ps.list, p)
	}
}

func match(ctx context.Context, patterns []string) (map[string]bool, error) {
	out, err := goCommand(ctx, append([]string{"list"}, patterns...)...)
	if err != nil {
		return nil, err
	}

	wanted := map[string]bool{}
	for _, path := range strings.Fields(string(out)) {
		wanted[path] = true
	}

	return wanted, nil
}

func goCommand(ctx context.Context, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, "go", args...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}

	return out, nil
}

// lines are ranges of lines of a file.
type lines [][2]int

func (l lines) has(line int) bool {
	return slices.ContainsFunc(l, func(r [2]int) bool { return r[0] <= line && line <= r[1] })
}

var hunk = regexp.MustCompile(`^@@ -\S+ \+(\d+)(?:,(\d+))? @@`)

// changedLines are those that differ from a revision, by file; nil: all.
func changedLines(ctx context.Context, since string) (map[string]lines, error) {
	if since == "" {
		return nil, nil
	}

	c := exec.CommandContext(ctx, "git", "diff", "-U0", "--no-color", since, "--", "*.go")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("git diff %s: %w", since, err)
	}

	return parseDiff(out), nil
}

func parseDiff(diff []byte) map[string]lines {
	changed := map[string]lines{}
	file := ""
	sc := bufio.NewScanner(bytes.NewReader(diff))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		if name, ok := strings.CutPrefix(line, "+++ b/"); ok {
			file = name
			continue
		}

		m := hunk.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		first, _ := strconv.Atoi(m[1])
		n := 1
		if m[2] != "" {
			n, _ = strconv.Atoi(m[2])
		}
		if n > 0 {
			changed[file] = append(changed[file], [2]int{first, first + n - 1})
		}
	}

	return changed
}

// outcome is what became of a mutant.
type outcome string

const (
	killed       outcome = "noticed"
	timedOut     outcome = "noticed (time)"
	survived     outcome = "survived"
	notCompiling outcome = "not compiling"
)

// try runs the tests against a mutant.
func (ps *packages) try(ctx context.Context, p *pkg, m mutant, o options) (outcome, error) {
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)

	overlay, err := writeOverlay(dir, m)
	if err != nil {
		return "", err
	}

	if !p.tested() {
		if out := runTests(ctx, overlay, o, "build", p.ImportPath); out != survived {
			return notCompiling, ctx.Err()
		}
	}

	suites := []string{p.ImportPath}
	if o.importers {
		for _, q := range ps.list {
			if q != p && q.tested() && q.short() != e2ePackage && q.uses(p.ImportPath) {
				suites = append(suites, q.ImportPath)
			}
		}
	}
	for _, suite := range suites {
		if out := runTests(ctx, overlay, o, "test", suite); out != survived {
			return out, ctx.Err()
		}
	}

	if o.e2e != "" {
		module := p.Module.Path + "/" + e2ePackage
		return runTests(ctx, overlay, o, "test", module, "-run", o.e2e), ctx.Err()
	}

	return survived, ctx.Err()
}

// writeOverlay writes the changed file and what -overlay wants.
func writeOverlay(dir string, m mutant) (string, error) {
	src, err := m.apply()
	if err != nil {
		return "", err
	}

	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, src, 0o600); err != nil {
		return "", err
	}
	data, err := json.Marshal(map[string]any{"Replace": map[string]string{m.file: changed}})
	if err != nil {
		return "", err
	}

	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}

// runTests builds or tests a package. The overlay goes by GOFLAGS, so that a
// test that builds the program builds the changed one.
func runTests(ctx context.Context, overlay string, o options, verb, pkg string, more ...string) outcome {
	bound := o.timeout + 30*time.Second // building takes a while, too
	if len(more) > 0 {
		bound += 5 * time.Minute
	}
	limited, cancel := context.WithTimeout(ctx, bound)
	defer cancel()

	args := []string{verb}
	if verb == "test" {
		args = append(args, "-count=1", "-vet=off", "-failfast", "-timeout", (bound - 30*time.Second).String())
		if o.race {
			args = append(args, "-race")
		}
		args = append(args, more...)
	} else {
		args = append(args, "-o", os.DevNull)
	}

	c := exec.CommandContext(limited, "go", append(args, pkg)...)
	c.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	c.WaitDelay = 5 * time.Second
	out, err := c.CombinedOutput()
	switch {
	case err == nil:
		return survived
	case limited.Err() != nil, bytes.Contains(out, []byte("panic: test timed out")):
		return timedOut
	case bytes.Contains(out, []byte("[build failed]")):
		return notCompiling
	}

	return killed
}
