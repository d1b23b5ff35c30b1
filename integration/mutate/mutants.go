package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mutant is one change of one file: the bytes from begin to end become text.
type mutant struct {
	file     string // path
	short    string // of the module
	line     int
	function string // around it
	kind     string
	begin    int
	end      int
	was      string
	text     string
	nth      int // of the mutants in this function that are otherwise the same
	weight   int
}

// id names a mutant so that it is the same while the function's code is.
func (m mutant) id() string {
	was := strings.Join(strings.Fields(m.was), " ")
	if len(was) > 60 {
		was = was[:57] + "..."
	}

	id := fmt.Sprintf("%s:%s: %s: %s", m.short, m.function, m.kind, was)
	if m.nth > 0 {
		id += fmt.Sprintf(" #%d", m.nth+1)
	}

	return id
}

// apply returns the file's source with the change.
func (m mutant) apply() ([]byte, error) {
	src, err := os.ReadFile(m.file)
	if err != nil {
		return nil, err
	}

	out := append([]byte(nil), src[:m.begin]...)
	out = append(out, m.text...)
	return append(out, src[m.end:]...), nil
}

// collector gathers the mutants of a file.
type collector struct {
	fset     *token.FileSet
	src      []byte
	file     string
	short    string
	function string
	out      []mutant
	seen     map[string]int
}

// collect returns the mutants of a file.
func collect(file, short string, src []byte) ([]mutant, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}

	c := &collector{fset: fset, src: src, file: file, short: short, seen: map[string]int{}}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		switch {
		case ok && fn.Body != nil && fn.Name.Name != "init":
			c.function = functionName(fn)
			c.walk(fn.Body)
		case !ok:
			c.function = "var"
			c.walk(d)
		}
	}

	return c.out, nil
}

func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}

	t := fn.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if i, ok := t.(*ast.IndexExpr); ok {
		t = i.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + fn.Name.Name
	}

	return fn.Name.Name
}

func (c *collector) offset(p token.Pos) int { return c.fset.Position(p).Offset }

func (c *collector) source(n ast.Node) string {
	return string(c.src[c.offset(n.Pos()):c.offset(n.End())])
}

// add notes the change of what lies between two positions.
func (c *collector) add(kind string, weight int, from, to token.Pos, text string) {
	begin, end := c.offset(from), c.offset(to)
	m := mutant{
		file:     c.file,
		short:    c.short,
		line:     c.fset.Position(from).Line,
		function: c.function,
		kind:     kind,
		begin:    begin,
		end:      end,
		was:      string(c.src[begin:end]),
		text:     text,
		weight:   weight,
	}

	key := m.id()
	m.nth = c.seen[key]
	c.seen[key]++
	c.out = append(c.out, m)
}

func (c *collector) replace(kind string, weight int, n ast.Node, text string) {
	c.add(kind, weight, n.Pos(), n.End(), text)
}

// Weights: what fails rarely and is tested least is drawn most.
const (
	rare   = 1
	common = 2
	often  = 4
)

func (c *collector) walk(root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			c.condition(n.Cond)
		case *ast.ForStmt:
			if n.Cond != nil {
				c.replace("negate", rare, n.Cond, "!("+c.source(n.Cond)+")")
			}
		case *ast.CaseClause:
			c.cases(n)
		case *ast.BinaryExpr:
			c.binary(n)
		case *ast.BasicLit:
			c.literal(n)
		case *ast.Ident:
			c.boolean(n)
		case *ast.ExprStmt:
			c.statement(n)
		case *ast.DeferStmt:
			c.replace("drop defer", often, n, "")
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				c.replace("drop assignment", common, n, "")
			}
		case *ast.IncDecStmt:
			c.replace("drop", common, n, "")
		case *ast.BranchStmt:
			c.branch(n)
		case *ast.ReturnStmt:
			c.returned(n)
		case *ast.CallExpr:
			c.call(n)
		case *ast.CompositeLit:
			c.elements(n)
		case *ast.ImportSpec, *ast.FuncType:
			return false
		}

		return true
	})
}

func (c *collector) condition(e ast.Expr) {
	text := c.source(e)
	weight := common
	if strings.Contains(text, "err") || strings.Contains(text, "max") || strings.Contains(text, "len(") {
		weight = often
	}
	c.replace("negate", weight, e, "!("+text+")")
	c.replace("never", weight, e, "("+text+") && false")
	c.replace("always", common, e, "("+text+") || true")
}

// cases turns the conditions of a switch without a value.
func (c *collector) cases(clause *ast.CaseClause) {
	for _, e := range clause.List {
		switch e.(type) {
		case *ast.BinaryExpr, *ast.UnaryExpr, *ast.CallExpr:
			// A case of a switch with a value may be a call, too; then it does not compile.
			c.replace("negate", common, e, "!("+c.source(e)+")")
		}
	}
}

var turned = map[token.Token]string{
	token.LSS:  "<=",
	token.LEQ:  "<",
	token.GTR:  ">=",
	token.GEQ:  ">",
	token.EQL:  "!=",
	token.NEQ:  "==",
	token.LAND: "||",
	token.LOR:  "&&",
	token.ADD:  "-",
	token.SUB:  "+",
	token.MUL:  "+",
}

func (c *collector) binary(e *ast.BinaryExpr) {
	to, ok := turned[e.Op]
	if !ok {
		return
	}

	c.add("to "+to+" in "+c.source(e), common, e.OpPos, e.OpPos+token.Pos(len(e.Op.String())), to)
}

func (c *collector) literal(l *ast.BasicLit) {
	if l.Kind != token.INT {
		return
	}

	n, err := strconv.ParseInt(l.Value, 0, 64)
	if err != nil {
		return
	}
	c.replace("to "+strconv.FormatInt(n+1, 10), common, l, strconv.FormatInt(n+1, 10))
}

func (c *collector) boolean(id *ast.Ident) {
	switch id.Name {
	case "true":
		c.replace("to false", common, id, "false")
	case "false":
		c.replace("to true", common, id, "true")
	}
}

func (c *collector) statement(s *ast.ExprStmt) {
	call, ok := s.X.(*ast.CallExpr)
	if !ok {
		return
	}

	name := c.source(call.Fun)
	logs := strings.Contains(name, "Log.") || strings.Contains(name, "log.")
	if name == "panic" || logs {
		return
	}

	c.replace("drop call", often, s, "")
}

func (c *collector) branch(s *ast.BranchStmt) {
	switch {
	case s.Label != nil:
	case s.Tok == token.CONTINUE:
		c.replace("to break", common, s, "break")
	case s.Tok == token.BREAK:
		c.replace("to continue", rare, s, "continue")
	}
}

// returned replaces an error that is returned by nil.
func (c *collector) returned(s *ast.ReturnStmt) {
	if len(s.Results) == 0 {
		return
	}

	last := s.Results[len(s.Results)-1]
	text := c.source(last)
	if strings.HasPrefix(text, "err") || strings.HasPrefix(text, "fmt.Errorf") || strings.HasPrefix(text, "errors.") {
		c.replace("return nil", often, last, "nil")
	}
}

// wrappers are calls that can be replaced by their first argument.
var wrappers = map[string]bool{
	"strings.ToLower": true, "strings.ToUpper": true, "strings.TrimSpace": true, "strings.TrimSuffix": true,
	"strings.TrimPrefix": true, "strings.TrimRight": true, "bytes.TrimSpace": true, "bytes.TrimSuffix": true,
	"html.EscapeString": true, "html.UnescapeString": true, "url.PathEscape": true, "url.QueryEscape": true,
	"min": true, "max": true, "slices.Clone": true, "event.Clip": true, "bytes.Clone": true,
}

// durable are the methods whose errors mean that something is not durable.
var durable = map[string]bool{
	"Sync": true, "SyncDir": true, "Truncate": true, "Flush": true,
	"Close": true, "Remove": true, "Rename": true,
}

func (c *collector) call(e *ast.CallExpr) {
	name := c.source(e.Fun)
	if wrappers[name] && len(e.Args) > 0 {
		c.replace("unwrap", common, e, c.source(e.Args[0]))
	}

	if sel, ok := e.Fun.(*ast.SelectorExpr); ok && durable[sel.Sel.Name] {
		c.replace("succeed", often, e, "error(nil)")
	}
}

// elements drops what a list names.
func (c *collector) elements(l *ast.CompositeLit) {
	if len(l.Elts) < 2 {
		return
	}

	for i, e := range l.Elts {
		end := e.End()
		if i+1 < len(l.Elts) {
			end = l.Elts[i+1].Pos()
		}
		begin := e.Pos()
		if i+1 == len(l.Elts) {
			begin = l.Elts[i-1].End()
		}
		c.add("drop element", rare, begin, end, "")
	}
}

// mutants are those of a package, on the changed lines alone where changed is
// not nil.
func (p *pkg) mutants(changed map[string]lines) ([]mutant, error) {
	var out []mutant
	for _, name := range p.GoFiles {
		file := filepath.Join(p.Dir, name)
		src, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}

		list, err := collect(file, p.short()+"/"+name, src)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			if changed == nil || changed[m.short].has(m.line) {
				out = append(out, m)
			}
		}
	}

	return out, nil
}
