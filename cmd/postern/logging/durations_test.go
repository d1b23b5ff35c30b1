package logging

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDurationsAreSeconds checks the durations of libraries, too.
func TestDurationsAreSeconds(t *testing.T) {
	s := &sink{}
	l := New(Config{Writer: s, Level: slog.LevelInfo, JSON: true})
	l.Logger().With("pause", 1500*time.Millisecond).Info("x", "took", 2297*time.Microsecond, "n", 1)
	l.Close(long)

	var line map[string]any
	if err := json.Unmarshal([]byte(s.text()), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"pause_seconds": 1.5,
		"took_seconds":  0.002297,
		"n":             1.0,
		"took":          nil,
		"pause":         nil,
	} {
		if line[key] != want {
			t.Errorf("%s: got %v, want %v in %v", key, line[key], want, line)
		}
	}
}

// durationCalls are functions and methods that return durations.
var durationCalls = map[string]bool{
	"Round":    true,
	"Since":    true,
	"Sub":      true,
	"Truncate": true,
	"Until":    true,
}

// logCalls are the methods of a logger, with the number of arguments before the
// attributes.
var logCalls = map[string]int{
	"Debug": 1,
	"Info":  1,
	"Warn":  1,
	"Error": 1,
	"Log":   3,
	"log":   2,
}

// TestNoLineHasADurationWithoutUnit searches the source for log lines that have
// a time.Duration, or a key that lacks a unit.
func TestNoLineHasADurationWithoutUnit(t *testing.T) {
	unitless := map[string]bool{"took": true, "in": true, "every": true, "pause": true, "wait": true, "after": true, "age": true}
	fset := token.NewFileSet()
	files := 0
	check := func(call *ast.CallExpr) {
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return
		}
		if name, ok := sel.X.(*ast.Ident); ok && name.Name == "slog" && sel.Sel.Name == "Duration" {
			t.Errorf("%s: slog.Duration has no unit in JSON; write seconds", fset.Position(call.Pos()))
			return
		}
		skip, ok := logCalls[sel.Sel.Name]
		if !ok {
			return
		}
		for i := skip; i+1 < len(call.Args); i++ {
			key, ok := call.Args[i].(*ast.BasicLit)
			if !ok || key.Kind != token.STRING {
				continue
			}
			if s, err := strconv.Unquote(key.Value); err == nil && unitless[s] {
				t.Errorf("%s: the key %q has no unit", fset.Position(key.Pos()), s)
			}
			if value, ok := call.Args[i+1].(*ast.CallExpr); ok {
				if f, ok := value.Fun.(*ast.SelectorExpr); ok && durationCalls[f.Sel.Name] {
					t.Errorf("%s: a duration as it is; write seconds", fset.Position(value.Pos()))
				}
			}
		}
	}

	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		files++
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				check(call)
			}
			return true
		})
		return nil
	})
	if err != nil || files < 100 {
		t.Fatalf("%d files read: %v", files, err)
	}
}
