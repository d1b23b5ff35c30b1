package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// given reports whether the file has a key.
func (b *binder) given(key string) bool {
	_, ok := b.lines[key]

	return ok
}

// line returns the line of a key, else that of its table, else 1.
func (b *binder) line(key string) int {
	for {
		if n, ok := b.lines[key]; ok {
			return n
		}

		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return 1
		}
		key = key[:i]
	}
}

// firstLine returns the line of the last definition of a key before a line, in
// whatever table, or 0. The data need not be valid TOML.
func (b *binder) firstLine(data []byte, key string, before int) int {
	if key == "" {
		return 0
	}

	b.locate(data)

	first := 0
	for k, n := range b.lines {
		if (k == key || strings.HasSuffix(k, "."+key)) && n < before {
			first = max(first, n)
		}
	}
	b.lines = map[string]int{} // nothing was bound

	return first
}

// locate records the line of every key.
func (b *binder) locate(data []byte) {
	p := unstable.Parser{}
	p.Reset(data)

	note := func(key string, n *unstable.Node) {
		if _, ok := b.lines[key]; !ok {
			b.lines[key] = p.Shape(n.Raw).Start.Line
		}
	}

	prefix := ""               // of the keys of the current table
	counts := map[string]int{} // elements of arrays of tables so far
	for p.NextExpression() {
		e := p.Expression()
		key := keyPath(e)

		it := e.Key()
		it.Next()
		first := it.Node()

		switch e.Kind {
		case unstable.ArrayTable:
			prefix = fmt.Sprintf("%s[%d]", key, counts[key])
			counts[key]++
			note(prefix, first)
			note(key, first)
			prefix += "."
		case unstable.Table:
			note(key, first)
			prefix = key + "."
		case unstable.KeyValue:
			note(prefix+key, first)
		}
	}
}

// keyPath returns the key of an expression with its parts joined by dots, "" if it
// has none.
func keyPath(e *unstable.Node) string {
	if e.Kind != unstable.KeyValue && e.Kind != unstable.Table && e.Kind != unstable.ArrayTable {
		return ""
	}

	var parts []string
	for it := e.Key(); it.Next(); {
		if it.Node().Kind == unstable.Key {
			parts = append(parts, string(it.Node().Data))
		}
	}

	return strings.Join(parts, ".")
}
