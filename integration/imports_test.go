package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport says which packages of the module each package may import: those
// named, and those below its own folder. Lines are ordered by floors; arrows
// point downwards only. .github/ARCHITECTURE.md draws it.
var mayImport = map[string]string{
	"tracking": "", // the room's map

	// Floor 0: what knows nothing of the others.
	"relay/message":             "relay/reply",
	"relay/envelope":            "relay/reply",
	"relay/reply":               "",
	"tracking/bounce":           "",
	"tracking/spool":            "",
	"tracking/spool/atomicfile": "",
	"tracking/agent":            "",
	"certs":                     "tracking/spool/atomicfile",
	"tracking/token":            "tracking/spool/atomicfile",

	// Floor 1: one thing each, on top of floor 0.
	"dkim":                      "relay/message relay/envelope",
	"tracking/rewrite":          "relay/message",
	"tracking/rewrite/htmledit": "",
	"tracking/event":            "tracking/spool tracking/bounce tracking/agent",
	"relay/dialect":             "floor0",

	// Floor 2: the ways in and out. None knows another.
	"tracking/web":        "floor0 floor1 tracking/rewrite",
	"tracking/web/pages":  "",
	"tracking/report":     "floor0 floor1",
	"tracking/accounting": "floor0 floor1",
	"tracking/ingest":     "floor0 floor1",
	"relay/upstream":      "floor0 floor1",
	"relay/queue":         "floor0 floor1",
	"relay/dsn":           "floor0 floor1",

	// Floor 3: the journey of a message.
	"relay": "floor0 floor1 relay/upstream relay/queue relay/dsn",

	// Floor 4: what SMTP clients talk to.
	"smtpd/wire": "floor0",
	"smtpd/auth": "floor0 relay",
	"smtpd":      "floor0 relay",

	// Floor 5: what makes a process of it all.
	"cmd/postern/health":      "",
	"cmd/postern/logging":     "",
	"cmd/postern/localsocket": "",
	"cmd/postern/systemd":     "",
	"cmd/postern/config":      "floor0 floor1 floor2 relay smtpd smtpd/auth cmd/postern/localsocket",
	"cmd/postern/admin":       "floor0 floor1 floor2 relay cmd/postern/config cmd/postern/localsocket",
	"cmd/postern/gateway": "floor0 floor1 floor2 relay smtpd smtpd/auth cmd/postern/config cmd/postern/systemd " +
		"cmd/postern/admin cmd/postern/health cmd/postern/localsocket",
	"cmd/postern/online":       "floor0 floor1 floor2 relay cmd/postern/config cmd/postern/gateway",
	"cmd/postern/demo/sink":    "floor0 floor1",
	"cmd/postern/demo/ingestd": "floor0 floor1",
	"cmd/postern/demo": "floor0 floor1 smtpd smtpd/auth cmd/postern/config cmd/postern/gateway " +
		"cmd/postern/logging",

	// Floor 6: arguments in, words out.
	"cmd/postern": "floor0 floor1 floor2 relay smtpd smtpd/auth cmd/postern/config cmd/postern/admin " +
		"cmd/postern/gateway cmd/postern/demo cmd/postern/logging cmd/postern/localsocket",
}

var floors = map[string][]string{
	"floor0": {"relay/message", "relay/envelope", "relay/reply", "tracking/bounce", "tracking/spool",
		"tracking/spool/atomicfile", "tracking/agent", "certs", "tracking/token"},
	"floor1": {"dkim", "tracking/rewrite", "tracking/event", "relay/dialect"},
	"floor2": {"tracking/web", "tracking/report", "tracking/accounting", "tracking/ingest", "relay/upstream",
		"relay/queue", "relay/dsn"},
}

// forTests are what external test packages may import beside.
var forTests = []string{"cmd/postern/demo/sink", "cmd/postern/demo/ingestd", "integration/faultfs"}

type listedPackage struct {
	ImportPath   string
	Imports      []string
	XTestImports []string
}

const module = "postern/"

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}

	seen := map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}

		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		for _, bad := range badImports(name, p) {
			t.Error(bad)
		}
	}

	for name := range mayImport {
		if !seen[name] {
			t.Errorf("package %s is in the table, but not in the tree", name)
		}
	}
}

// badImports says what a package imports and may not.
func badImports(name string, p listedPackage) []string {
	if strings.HasPrefix(name, "integration") {
		return nil
	}
	rule, ok := mayImport[name]
	if !ok {
		return []string{fmt.Sprintf("package %s is not in the table of floors", name)}
	}

	var bad []string
	allowed := expand(rule)
	for _, path := range p.Imports {
		target, ours := strings.CutPrefix(path, module)
		if ours && !mayUse(name, target, allowed) {
			bad = append(bad, fmt.Sprintf("%s imports %s", name, target))
		}
	}
	for _, path := range p.XTestImports {
		target, ours := strings.CutPrefix(path, module)
		if ours && target != name && !mayUse(name, target, slices.Concat(allowed, forTests)) {
			bad = append(bad, fmt.Sprintf("an external test of %s imports %s", name, target))
		}
	}

	return bad
}

// expand writes out the floors of a rule.
func expand(rule string) []string {
	var out []string
	for _, name := range strings.Fields(rule) {
		if floor, ok := floors[name]; ok {
			out = append(out, floor...)
			continue
		}
		out = append(out, name)
	}

	return out
}

func mayUse(name, target string, allowed []string) bool {
	return slices.Contains(allowed, target) || strings.HasPrefix(target, name+"/")
}

func TestImportRuleRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		pkg     string
		imports []string
		xtest   []string
		want    int
	}{
		{"a floor down", "relay", []string{"postern/dkim"}, nil, 0},
		{"below its own folder", "smtpd", []string{"postern/smtpd/wire"}, nil, 0},
		{"a floor up", "dkim", []string{"postern/relay"}, nil, 1},
		{"its neighbour", "tracking/report", []string{"postern/tracking/web"}, nil, 1},
		{"the end-to-end tests", "cmd/postern", []string{"postern/integration"}, nil, 1},
		{"another module", "dkim", []string{"golang.org/x/net/html"}, nil, 0},
		{"a stand-in", "relay/upstream", []string{"postern/cmd/postern/demo/sink"}, nil, 1},
		{"a stand-in for a test", "relay/upstream", nil, []string{"postern/cmd/postern/demo/sink"}, 0},
		{"unknown package", "tracking/new", nil, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := badImports(c.pkg, listedPackage{Imports: c.imports, XTestImports: c.xtest})
			if len(got) != c.want {
				t.Errorf("got %q, want %d", got, c.want)
			}
		})
	}
}
