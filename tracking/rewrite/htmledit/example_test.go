package htmledit_test

import (
	"fmt"

	"postern/tracking/rewrite/htmledit"
)

func ExampleScanner() {
	doc := []byte(`<!-- <a href="no"> --><p><A HREF='/?a=1&amp;b=2' >text</A>`)

	z := htmledit.NewScanner(doc, 0)
	for {
		t, ok := z.Next()
		if !ok {
			break
		}
		if t.Kind != htmledit.StartTag || !htmledit.EqualFold(t.Name(doc), "a") {
			continue
		}

		for _, a := range htmledit.AppendAttributes(nil, doc[:t.End], t.NameEnd) {
			fmt.Printf("%d: %s=%s\n", a.ValueStart, a.Name(doc), htmledit.Unescape(a.Value(doc)))
		}
	}
	// Output:
	// 34: HREF=/?a=1&b=2
}
