package rewrite

import (
	"io"
	"runtime"
	"strings"
	"testing"

	"postern/relay/message"
)

// TestLargeMessagesTakeLittleMemory counts every byte that is allocated to
// parse a message and to render two copies of it, whether the collector has
// freed it or not: at most twenty times the message, so that one of 10 MB adds
// less than 250 MiB to the process.
func TestLargeMessagesTakeLittleMemory(t *testing.T) {
	const size = 1 << 20
	const most = 20 * size
	html := "Content-Type: text/html\r\n"
	base64Head := html + "Content-Transfer-Encoding: base64\r\n\r\n"
	qpHead := html + "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
	fill := func(s string) string { return strings.Repeat(s, size/len(s)+1)[:size] }
	encoded := func(s string) string { return string(transferEncode("base64", []byte(fill(s)[:size*73/100]))) }
	for _, c := range []struct{ name, msg string }{
		{"tags that never end", base64Head + encoded("<a")},
		{"tags with spaces that never end", base64Head + encoded("<a ")},
		{"tags", base64Head + encoded("<a>")},
		{"attributes on one tag", base64Head + encoded("<a ") + "Pg=="},
		{"attributes on one tag that ends", html + "\r\n<a" + fill(" b\r\n") + ">"},
		{"links", base64Head + encoded("<a href=//a.b>")},
		{"links that are wrapped", base64Head + encoded("<a href=http://a.b>")},
		{"removed attributes", base64Head + encoded("<a data-msys-x>")},
		{"removed attributes on one tag", html + "\r\n<a" + fill(" data-msys-x\r\n") + ">"},
		{"scripts", base64Head + encoded("<script></script>")},
		{"scripts with comments", base64Head + encoded("<script><!--</script>")},
		{"tables", base64Head + encoded("<table><td>")},
		{"conditional comments", base64Head + encoded("<!--[if x]>a<![endif]-->")},
		{"template variables", base64Head + encoded("<a href=http://a/{{>")},
		{"a link behind short lines of base64", base64Head + fill("P\r\nH\r\nA\r\n+\r\n") + "PGEgaHJlZj1odHRwOi8vYS5iPg=="},
		{"a link behind short lines of quoted-printable", qpHead + fill("=\r\n") + "<a href=3Dhttp://a.b>"},
		{"a link behind empty lines", qpHead + fill("\r\n") + "<a href=3Dhttp://a.b>"},
		{"a long line", html + "\r\n" + fill("x")},
		{"URLs in a text", "Content-Type: text/plain\r\n\r\n" + fill("http://a.b\r\n")},
		{"unclear URLs in a text", "Content-Type: text/plain; charset=utf-8\r\n\r\n" + fill("http://a/ü\r\n")},
		{"parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + fill("--b\r\n\r\nx\r\n")},
		{"parts with a link each", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
			fill("--b\r\nContent-Type: text/html\r\n\r\n<a href=http://a.b>\r\n")},
		{"a preamble of long lines", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + fill("--b x")},
		{"a part header of one line", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: " + fill("x y") + "\r\n\r\nx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header, body, separated := message.Split([]byte(c.msg))
			o := all()
			o.TextLinks = true

			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			p := Parse(header, body, separated, o)
			for range 2 {
				if err := p.Render(io.Discard, stamps{}); err != nil {
					t.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)

			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("%d MiB were allocated for %d MiB, want at most %d", got>>20, len(c.msg)>>20, most>>20)
			}
		})
	}
}
