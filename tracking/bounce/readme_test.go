package bounce

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

//go:embed README.md
var readme string

var (
	statusRow = regexp.MustCompile(`(?m)^\| ([45]\.\d+\.\d+) \| (\d+ (?:hard|soft)) \| (strong)? ?\|`)
	listRow   = regexp.MustCompile(`(?m)^\| ([a-z_]+) \| (\d+ (?:hard|soft)) \| (first)? ?\|`)
)

func (v Verdict) String() string {
	if v.Hard {
		return fmt.Sprint(v.Class, " hard")
	}

	return fmt.Sprint(v.Class, " soft")
}

// TestReadmeTables: the tables of the documentation are those of the code.
func TestReadmeTables(t *testing.T) {
	rows := statusRow.FindAllStringSubmatch(readme, -1)
	if len(rows) < 20 {
		t.Fatalf("%d status codes", len(rows))
	}
	for _, row := range rows {
		if got := Classify(Refusal{Status: row[1]}); got.String() != row[2] {
			t.Errorf("%s: got %s, want %s", row[1], got, row[2])
		}
		_, detail, _ := strings.Cut(row[1], ".")
		if _, strong := strongStatus[detail]; strong != (row[3] != "") {
			t.Errorf("%s: strong is %v", row[1], strong)
		}
	}

	rows = listRow.FindAllStringSubmatch(readme, -1)
	if len(rows) != len(lists) {
		t.Fatalf("%d lists, want %d", len(rows), len(lists))
	}
	for i, row := range rows {
		if l := lists[i]; l.file != row[1] || l.String() != row[2] || l.first != (row[3] != "") {
			t.Errorf("%s: got %s %s, first %v, want %v", row[1], l.file, l.Verdict, l.first, row[1:])
		}
	}
}
