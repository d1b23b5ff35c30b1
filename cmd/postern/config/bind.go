package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// binder reads one TOML file into a struct, by the struct's toml tags, and
// collects every problem with its line. There are two further tags: with `secret`
// the value may also come from the file that KEY_file names or from the
// environment; `retired` says why a key has no effect any more, which is a
// warning if the key is present.
type binder struct {
	file     string
	dir      string
	lines    map[string]int // by dotted key, with [n] for arrays of tables
	env      func(string) string
	root     reflect.Type // of the target
	problems Problems
	inPlace  []string // keys of secrets that are written in the file itself
}

func newBinder(file string, env func(string) string) *binder {
	return &binder{
		file:  file,
		dir:   filepath.Dir(file),
		lines: map[string]int{},
		env:   env,
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

// bind reads TOML into target, a pointer to a struct.
func (b *binder) bind(data []byte, target any) {
	tree := map[string]any{}
	if err := toml.Unmarshal(data, &tree); err != nil {
		b.problems = append(b.problems, b.syntaxProblem(data, err))
		return
	}

	b.locate(data)
	b.root = reflect.TypeOf(target).Elem()
	b.table(tree, "", reflect.ValueOf(target).Elem())
}

// syntaxProblem returns the problem of data that cannot be read as TOML.
func (b *binder) syntaxProblem(data []byte, err error) Problem {
	p := Problem{
		File:   b.file,
		Line:   1,
		Reason: syntaxHelp(strings.TrimPrefix(err.Error(), "toml: ")),
	}

	var d *toml.DecodeError
	if errors.As(err, &d) {
		p.Line, _ = d.Position()
		p.Key = strings.Join(d.Key(), ".")
	}

	first := b.firstLine(data, p.Key, p.Line)
	if first > 0 && strings.Contains(p.Reason, "already") {
		p.Reason = fmt.Sprintf("defined already, on line %d: keep one of the two", first)
	}

	return p
}

// join returns the dotted name of a key of a table; prefix is the table's.
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
		if f.Tag.Get("secret") != "" {
			known[name+"_file"] = true
		}
		b.field(tree, prefix, f, v.Field(i))
	}

	b.refuseUnknown(tree, prefix, known)
}

// field binds the key of one field of a struct, if the table or, for a secret,
// a file or the environment has a value for it.
func (b *binder) field(tree map[string]any, prefix string, f reflect.StructField, v reflect.Value) {
	name := f.Tag.Get("toml")
	key := join(prefix, name)
	isSecret := f.Tag.Get("secret") != ""

	raw, given := tree[name]
	if isSecret {
		raw, given = b.secret(tree, prefix, name, raw, given)
	}
	if !given {
		return
	}

	if why := f.Tag.Get("retired"); why != "" {
		b.warn(key, "%s", why)
		return
	}
	if _, isString := raw.(string); isSecret && !isString {
		b.problem(key, "want a string") // without the value
		return
	}

	b.value(raw, key, v)
}

// refuseUnknown reports the keys of a table that it cannot have, in the order of
// their lines.
func (b *binder) refuseUnknown(tree map[string]any, prefix string, known map[string]bool) {
	var unknown []string
	for name := range tree {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}

	line := func(name string) int { return b.line(join(prefix, name)) }
	sort.Slice(unknown, func(i, j int) bool { return line(unknown[i]) < line(unknown[j]) })
	for _, name := range unknown {
		b.problem(join(prefix, name), "unknown key%s", b.hint(name, known))
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

// Path returns the absolute form of a path in the file; relative paths are
// relative to the file's folder.
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

	if p, ok := v.Addr().Interface().(parser); ok {
		b.parse(raw, key, p)
		return
	}

	switch v.Kind() {
	case reflect.String, reflect.Bool:
		b.scalar(raw, key, v)
	case reflect.Int, reflect.Int64:
		b.integer(raw, key, v)
	case reflect.Uint32:
		b.unsigned(raw, key, v)
	case reflect.Slice:
		b.slice(raw, key, v)
	case reflect.Map:
		b.mapping(raw, key, v)
	case reflect.Struct:
		b.subtable(raw, key, v)
	default:
		panic("config: no binding for " + v.Type().String())
	}
}

// parse binds a value of a type that parses its own text. A Tristate may also be
// a bool, and a Size a whole number.
func (b *binder) parse(raw any, key string, p parser) {
	switch p := p.(type) {
	case *Tristate:
		if yes, ok := raw.(bool); ok {
			*p = Tristate(strconv.FormatBool(yes))
			return
		}
	case *Size:
		if n, ok := raw.(int64); ok && n >= 0 {
			raw = strconv.FormatInt(n, 10)
		}
	}

	s, ok := raw.(string)
	if !ok {
		b.problem(key, "%s, not %s", wantString(p, raw), kindOf(raw))
		return
	}
	if err := p.parse(s); err != nil {
		b.problem(key, "%v", err)
	}
}

// scalar binds a string or a bool.
func (b *binder) scalar(raw any, key string, v reflect.Value) {
	want := "a string"
	if v.Kind() == reflect.Bool {
		want = "true or false"
	}

	r := reflect.ValueOf(raw)
	if r.Kind() != v.Kind() {
		b.problem(key, "want %s, not %s", want, kindOf(raw))
		return
	}
	v.Set(r.Convert(v.Type()))
}

// integer binds a whole number that is not negative.
func (b *binder) integer(raw any, key string, v reflect.Value) {
	n, ok := raw.(int64)
	if !ok || n < 0 || v.OverflowInt(n) {
		b.problem(key, "want a whole number from 0 on, not %s", kindOf(raw))
		return
	}
	v.SetInt(n)
}

// unsigned binds a whole number of 32 bits.
func (b *binder) unsigned(raw any, key string, v reflect.Value) {
	n, ok := raw.(int64)
	if !ok || n < 0 || n > math.MaxUint32 {
		b.problem(key, "want a whole number from 0 to 4294967295, not %s", kindOf(raw))
		return
	}
	v.SetUint(uint64(n))
}

// subtable binds a table within a table.
func (b *binder) subtable(raw any, key string, v reflect.Value) {
	m, ok := raw.(map[string]any)
	if !ok {
		b.problem(key, "want a table, [%s], not %s", key, kindOf(raw))
		return
	}
	b.table(m, key, v)
}

// slice binds a list.
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

// mapping binds a table with keys of any name.
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

// defaults sets the defaults of an element of a list of tables, if it has any.
func (b *binder) defaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ setDefaults() }); ok {
		d.setDefaults()
	}
}
