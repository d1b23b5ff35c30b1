package main

import (
	"context"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sample = `package sample

import "strings"

var table = []string{"a", "b"}

func (t *T) f(x int) error {
	if x < 10 && t.open {
		t.file.Sync()
	}
	defer t.mu.Unlock()
	for _, s := range table {
		if s == "" {
			continue
		}
		t.name = strings.ToLower(s)
	}
	if err := t.g(); err != nil {
		return err
	}
	return nil
}
`

// mutate collects the mutants of the sample, as "kind: what -> text".
func mutateSample(t *testing.T) []mutant {
	t.Helper()

	file := filepath.Join(t.TempDir(), "sample.go")
	if err := os.WriteFile(file, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := collect(file, "sample/sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}

	return list
}

func TestCollect(t *testing.T) {
	var got []string
	for _, m := range mutateSample(t) {
		got = append(got, m.kind+": "+m.was+" -> "+m.text)
	}

	for _, want := range []string{
		"negate: x < 10 && t.open -> !(x < 10 && t.open)",
		"never: err != nil -> (err != nil) && false",
		"to <= in x < 10: < -> <=",
		"to || in x < 10 && t.open: && -> ||",
		"to 11: 10 -> 11",
		"drop call: t.file.Sync() -> ",
		"succeed: t.file.Sync() -> error(nil)",
		"drop defer: defer t.mu.Unlock() -> ",
		"to break: continue -> break",
		"drop assignment: t.name = strings.ToLower(s) -> ",
		"unwrap: strings.ToLower(s) -> s",
		"return nil: err -> nil",
		`drop element: "a",  -> `,
		`drop element: , "b" -> `,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q among\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// TestMutantsParse: a change leaves Go behind, whatever the compiler says of it.
func TestMutantsParse(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range mutateSample(t) {
		src, err := m.apply()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0); err != nil {
			t.Errorf("%s: %v", m.id(), err)
		}
		if string(src) == sample {
			t.Errorf("%s changes nothing", m.id())
		}
		if seen[m.id()] {
			t.Errorf("two mutants are named %s", m.id())
		}
		seen[m.id()] = true
	}
}

func TestDrawIsTheSameForASeed(t *testing.T) {
	list := mutateSample(t)
	ids := func(seed uint64) string {
		var out []string
		for _, m := range draw(list, 5, seed) {
			out = append(out, m.id())
		}
		return strings.Join(out, "\n")
	}

	if first, second := ids(1), ids(1); first != second {
		t.Error("two draws with one seed differ")
	}
	if ids(1) == ids(2) {
		t.Error("two seeds draw the same")
	}
	if got := len(draw(list, 0, 1)); got != len(list) {
		t.Errorf("all: %d of %d", got, len(list))
	}
}

func TestParseDiff(t *testing.T) {
	const diff = `diff --git a/x.go b/x.go
--- a/x.go
+++ b/x.go
@@ -1,2 +3,2 @@ func f() {
+a
+b
@@ -9 +10,0 @@
-gone
@@ -20,0 +21 @@
+c
`
	changed := parseDiff([]byte(diff))
	for line, want := range map[int]bool{2: false, 3: true, 4: true, 5: false, 10: false, 21: true} {
		if got := changed["x.go"].has(line); got != want {
			t.Errorf("line %d: %v", line, got)
		}
	}
}

func TestParseEquivalent(t *testing.T) {
	got, err := parseEquivalent("# about\n\na/b.go:f: negate: x -- it is logged only\n")
	if err != nil || got["a/b.go:f: negate: x"] != "it is logged only" || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseEquivalent("a/b.go:f: negate: x\n"); err == nil {
		t.Error("a line without a reason is accepted")
	}
}

// TestTry runs tests against one change that they notice, one that they do
// not, and one that does not compile.
func TestTry(t *testing.T) {
	dir := t.TempDir()
	const code = `package tiny

func Sign(n int) int {
	if n < 0 {
		return 2 - 3
	}
	return 1
}
`
	for name, text := range map[string]string{
		"go.mod":       "module tiny\n\ngo 1.26\n",
		"tiny.go":      code,
		"tiny_test.go": "package tiny\n\nimport \"testing\"\n\nfunc TestSign(t *testing.T) {\n\tif Sign(-5) != -1 || Sign(5) != 1 {\n\t\tt.Fatal()\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)

	ctx := context.Background()
	pkgs, err := listPackages(ctx)
	if err != nil || len(pkgs.list) != 1 {
		t.Fatalf("packages %v, %v", pkgs, err)
	}
	mutants, err := pkgs.list[0].mutants(nil)
	if err != nil {
		t.Fatal(err)
	}

	want := map[string]outcome{
		"negate: n < 0":     killed,
		"to <= in n < 0: <": survived, // no test asks for 0
		"to + in 2 - 3: -":  killed,
		"never: n < 0":      killed,
	}
	tried := 0
	for _, m := range mutants {
		_, what, _ := strings.Cut(m.id(), "Sign: ")
		expected, ok := want[what]
		if !ok {
			continue
		}

		tried++
		got, err := pkgs.try(ctx, pkgs.list[0], m, options{timeout: 30e9})
		if err != nil || got != expected {
			t.Errorf("%s: %s, %v, want %s", what, got, err, expected)
		}
	}
	if tried != 4 {
		t.Errorf("%d of the expected mutants were made", tried)
	}
}
