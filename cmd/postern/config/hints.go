package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// hint returns what may have been meant by an unknown key: one of the known keys
// of its table, or a key of that name in another table.
func (b *binder) hint(name string, known map[string]bool) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf(", did you mean %s?", near)
	}
	if others := b.tablesWith(name); len(others) > 0 {
		return "; there is one of that name " + strings.Join(others, " and ")
	}

	return ""
}

// syntaxHelp returns what to do about an error of the TOML reader whose own words
// are about characters.
func syntaxHelp(reason string) string {
	switch {
	case strings.Contains(reason, "strings cannot have new lines"):
		return "the text has no closing quote on this line"
	case strings.Contains(reason, "at start of value"):
		return `not a value: text is written in quotes, for example "mail.example.com"`
	}

	return reason
}

// tablesWith returns the tables that have a key of a name.
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

			switch {
			case tag == name && prefix == "":
				out = append(out, "at the top of the file, before the first table")
			case tag == name:
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

// wantString returns what a value that is not a string should have been, with the
// number that was given, if it was a number.
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

// kindOf returns the kind of a TOML value, with the value if it is short.
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

// maxDistance is how many edits a key may be away from what was meant.
const maxDistance = 2

// nearest returns the known key that is nearest to a name, "" if none is near.
func nearest(name string, known map[string]bool) string {
	best := ""
	least := maxDistance + 1

	for _, k := range slices.Sorted(maps.Keys(known)) {
		if d := distance(name, k); d < least {
			best = k
			least = d
		}
	}

	return best
}

// distance returns the Levenshtein distance of two words, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}

	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i

		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}

			above := row[j]
			row[j] = min(above+1, row[j-1]+1, diagonal+cost)
			diagonal = above
		}
	}

	return row[len(b)]
}
