package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
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

// binder reads one TOML file into a struct, by the struct's toml tags, and
// collects every problem with the line that it stands on. Two further tags:
// `secret` lets KEY_file and the environment give the value too; `retired` says
// why a key has no effect any more, which is a warning where it is present.
type binder struct {
	file     string
	dir      string
	lines    map[string]int // dotted key, with [n] for arrays of tables, to its line
	env      func(string) string
	root     reflect.Type // of what is bound
	problems Problems
	inPlace  []string // keys of secrets that stand in the file itself
}

func newBinder(file string, env func(string) string) *binder {
	return &binder{file: file, dir: filepath.Dir(file), lines: map[string]int{}, env: env}
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

// load reads the file into target, a pointer to a struct.
func (b *binder) load(target any) {
	data, err := os.ReadFile(b.file)
	if err != nil {
		b.problem("", "%v", errors.Unwrap(err))
		return
	}
	b.bind(data, target)
}

func (b *binder) bind(data []byte, target any) {
	tree := map[string]any{}
	if err := toml.Unmarshal(data, &tree); err != nil {
		var d *toml.DecodeError
		p := Problem{File: b.file, Line: 1, Reason: syntaxHelp(strings.TrimPrefix(err.Error(), "toml: "))}
		if errors.As(err, &d) {
			p.Line, _ = d.Position()
			p.Key = strings.Join(d.Key(), ".")
		}
		if first := b.firstLine(data, p.Key, p.Line); first > 0 && strings.Contains(p.Reason, "already") {
			p.Reason = fmt.Sprintf("defined already, on line %d: keep one of the two", first)
		}
		b.problems = append(b.problems, p)
		return
	}

	b.locate(data)
	b.root = reflect.TypeOf(target).Elem()
	b.table(tree, "", reflect.ValueOf(target).Elem())
}

// syntaxHelp says what to do about an error of the TOML reader, where its own
// words are about characters.
func syntaxHelp(reason string) string {
	switch {
	case strings.Contains(reason, "strings cannot have new lines"):
		return "the text has no closing quote on this line"
	case strings.Contains(reason, "at start of value"):
		return `not a value: text is written in quotes, for example "mail.example.com"`
	}

	return reason
}

// tablesWith returns the tables that have a key of that name, for a hint to
// whoever wrote it into another one.
func (b *binder) tablesWith(name string) []string {
	var out []string
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			f := t.Field(i)
			tag := f.Tag.Get("toml")
			if tag == "" {
				continue
			}

			if tag == name && prefix == "" {
				out = append(out, "at the top of the file, before the first table")
			} else if tag == name {
				out = append(out, "in "+prefix)
			}

			switch ft := f.Type; {
			case ft.Kind() == reflect.Struct && ft.NumField() > 0 && ft.Field(0).Tag.Get("toml") != "":
				walk(ft, "["+strings.Trim(join(strings.Trim(prefix, "[]"), tag), "[]")+"]")
			case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
				walk(ft.Elem(), "[["+join(strings.Trim(prefix, "[]"), tag)+"]]")
			}
		}
	}
	walk(b.root, "")

	return out
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

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// table binds one TOML table.
func (b *binder) table(tree map[string]any, prefix string, v reflect.Value) {
	t := v.Type()
	known := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}

		known[name] = true
		key := join(prefix, name)
		raw, given := tree[name]

		if f.Tag.Get("secret") != "" {
			known[name+"_file"] = true
			raw, given = b.secret(tree, prefix, name, raw, given)
		}

		if !given {
			continue
		}

		if why := f.Tag.Get("retired"); why != "" {
			b.warn(key, "%s", why)
			continue
		}
		if _, isString := raw.(string); f.Tag.Get("secret") != "" && !isString {
			b.problem(key, "want a string") // and no word of what it is
			continue
		}

		b.value(raw, key, v.Field(i))
	}

	var unknown []string
	for name := range tree {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}

	sort.Slice(unknown, func(i, j int) bool { return b.line(join(prefix, unknown[i])) < b.line(join(prefix, unknown[j])) })
	for _, name := range unknown {
		reason := "unknown key"
		if near := nearest(name, known); near != "" {
			reason += fmt.Sprintf(", did you mean %s?", near)
		} else if others := b.tablesWith(name); len(others) > 0 {
			reason += "; there is one of that name " + strings.Join(others, " and ")
		}
		b.problem(join(prefix, name), "%s", reason)
	}
}

// secret finds a secret's value: in place, in a file of its own, or in the
// environment.
func (b *binder) secret(tree map[string]any, prefix, name string, raw any, given bool) (any, bool) {
	key := join(prefix, name)
	env := "POSTERN_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))

	file, inFile := tree[name+"_file"]
	if given && inFile {
		b.problem(key+"_file", "%s is given already, take one of the two out", key)
		return raw, given
	}

	if inFile {
		path, ok := file.(string)
		if !ok {
			b.problem(key+"_file", "want the path of a file")
			return nil, false
		}
		data, err := os.ReadFile(b.Path(path))
		if err != nil {
			b.problem(key+"_file", "%v", err)
			return nil, false
		}
		return strings.TrimRight(string(data), "\r\n"), true
	}

	if v := b.env(env); v != "" {
		return v, true
	}

	if given {
		b.inPlace = append(b.inPlace, key)
	}

	return raw, given
}

// Path makes a path of the file absolute: relative ones are relative to it.
func (b *binder) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(b.dir, p)
}

// value binds one value.
func (b *binder) value(raw any, key string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}

	if t, ok := v.Addr().Interface().(*Tristate); ok {
		if yes, ok := raw.(bool); ok {
			*t = Tristate(strconv.FormatBool(yes))
			return
		}
	}

	if p, ok := v.Addr().Interface().(parser); ok {
		s, ok := raw.(string)
		if _, isSize := p.(*Size); isSize && !ok {
			if n, isInt := raw.(int64); isInt && n >= 0 {
				s, ok = strconv.FormatInt(n, 10), true
			}
		}
		if !ok {
			b.problem(key, "%s, not %s", wantString(p, raw), kindOf(raw))
		} else if err := p.parse(s); err != nil {
			b.problem(key, "%v", err)
		}
		return
	}

	switch v.Kind() {
	case reflect.String:
		s, ok := raw.(string)
		if !ok {
			b.problem(key, "want a string, not %s", kindOf(raw))
			return
		}
		v.SetString(s)
	case reflect.Bool:
		s, ok := raw.(bool)
		if !ok {
			b.problem(key, "want true or false, not %s", kindOf(raw))
			return
		}
		v.SetBool(s)
	case reflect.Int, reflect.Int64:
		n, ok := raw.(int64)
		if !ok || n < 0 || v.OverflowInt(n) {
			b.problem(key, "want a whole number from 0 on, not %s", kindOf(raw))
			return
		}
		v.SetInt(n)
	case reflect.Uint32:
		n, ok := raw.(int64)
		if !ok || n < 0 || n > 1<<32-1 {
			b.problem(key, "want a whole number from 0 to 4294967295, not %s", kindOf(raw))
			return
		}
		v.SetUint(uint64(n))
	case reflect.Slice:
		b.slice(raw, key, v)
	case reflect.Map:
		b.mapping(raw, key, v)
	case reflect.Struct:
		m, ok := raw.(map[string]any)
		if !ok {
			b.problem(key, "want a table, [%s], not %s", key, kindOf(raw))
			return
		}
		b.table(m, key, v)
	default:
		panic("config: no binding for " + v.Type().String())
	}
}

// wantString says what a value that is not a string should have been, with the
// number that was given where there is one.
func wantString(p parser, raw any) string {
	n, isInt := raw.(int64)
	if !isInt || n < 0 {
		return "want a string"
	}

	switch p.(type) {
	case *Duration:
		return fmt.Sprintf(`want a duration in quotes with its unit, for example "%ds"`, n)
	case *Rate:
		return fmt.Sprintf(`want a rate in quotes, for example "%d/min"`, max(n, 1))
	case *Addr, *OptAddr:
		return fmt.Sprintf(`want "HOST:PORT", for example "127.0.0.1:%d"`, n)
	}

	return "want a string"
}

func (b *binder) slice(raw any, key string, v reflect.Value) {
	list, ok := raw.([]any)
	if _, isTable := raw.(map[string]any); isTable && v.Type().Elem().Kind() == reflect.Struct {
		b.problem(key, "there may be several: write [[%s]], in double brackets", key)
		return
	}
	if !ok {
		b.problem(key, "want a list, in square brackets, not %s", kindOf(raw))
		return
	}

	out := reflect.MakeSlice(v.Type(), len(list), len(list))
	for i, one := range list {
		k := fmt.Sprintf("%s[%d]", key, i)
		if v.Type().Elem().Kind() == reflect.Struct {
			b.defaults(out.Index(i))
		}
		b.value(one, k, out.Index(i))
	}

	v.Set(out)
}

func (b *binder) mapping(raw any, key string, v reflect.Value) {
	m, ok := raw.(map[string]any)
	if !ok {
		b.problem(key, "want a table, [%s], not %s", key, kindOf(raw))
		return
	}

	out := reflect.MakeMap(v.Type())
	for name, one := range m {
		e := reflect.New(v.Type().Elem()).Elem()
		b.value(one, key+"."+name, e)
		out.SetMapIndex(reflect.ValueOf(name), e)
	}
	v.Set(out)
}

// defaults lets an element of a list of tables begin with its defaults.
func (b *binder) defaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ setDefaults() }); ok {
		d.setDefaults()
	}
}

func kindOf(raw any) string {
	switch v := raw.(type) {
	case string:
		return fmt.Sprintf("the string %.40q", v)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date"
}

// nearest finds a known key that differs by little, for a hint.
func nearest(name string, known map[string]bool) string {
	best, at := "", 3
	var keys []string
	for k := range known {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if d := distance(name, k); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			prev, row[j] = row[j], min(row[j]+1, row[j-1]+1, prev+cost)
		}
	}
	return row[len(b)]
}
