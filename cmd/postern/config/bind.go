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
)

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
