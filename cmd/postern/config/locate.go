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

// line is where a key stands, else where its table begins, else 1.
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

// firstLine finds the last definition of a key before a line, whatever table it
// is in; 0: none. The file need not be good TOML.
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

// locate notes the line of every key.
func (b *binder) locate(data []byte) {
	p := unstable.Parser{}
	p.Reset(data)
	counts := map[string]int{}
	prefix := ""
	note := func(key string, n *unstable.Node) {
		if _, ok := b.lines[key]; !ok {
			b.lines[key] = p.Shape(n.Raw).Start.Line
		}
	}

	for p.NextExpression() {
		e := p.Expression()
		var path []string
		var first *unstable.Node
		for it := e.Key(); it.Next(); {
			if first == nil {
				first = it.Node()
			}
			path = append(path, string(it.Node().Data))
		}

		key := strings.Join(path, ".")
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
