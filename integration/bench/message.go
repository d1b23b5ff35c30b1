package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// message makes the bytes of a kind.
func message(kind string) ([]byte, error) {
	head := "From: News <news@example.com>\r\nTo: Reader <reader@example.net>\r\nSubject: A newsletter\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\n" +
		"Message-ID: <bench@example.com>\r\nX-Job: bench\r\nMIME-Version: 1.0\r\n"
	var html strings.Builder
	html.WriteString("<!DOCTYPE html>\r\n<html>\r\n<head>\r\n<title>Newsletter</title>\r\n<style>\r\n" + strings.Repeat("  .button { color: #ffffff; padding: 12px 24px; }\r\n", 60) + "</style>\r\n</head>\r\n<body class=\"mail\">\r\n")
	for i := range 20 {
		fmt.Fprintf(&html, "<table width=\"600\" cellpadding=\"0\">\r\n  <tr>\r\n    <td style=\"font-family: Arial, sans-serif\">\r\n%s      <a class=\"button\" href=\"https://www.example.com/articles/%d?utm_source=newsletter&amp;utm_campaign=spring\">Read on</a></td>\r\n  </tr>\r\n</table>\r\n", strings.Repeat("      Words that readers like to read, and a few more of them.\r\n", 16), i)
	}
	html.WriteString("</body>\r\n</html>\r\n")
	text := strings.Repeat("The plain words of the newsletter, on lines of their own.\r\n", 30)
	alternative := "Content-Type: multipart/alternative; boundary=\"alt==\"\r\n\r\n--alt==\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text +
		"--alt==\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.String() + "--alt==--\r\n"
	switch kind {
	case "text2k":
		return []byte(head + "Content-Type: text/plain\r\n\r\n" + strings.Repeat("The plain words of a receipt, on lines of their own.\r\n", 36)), nil
	case "html30k":
		return []byte(head + alternative), nil
	case "attach1m", "attach25m":
		raw := make([]byte, 768<<10)
		if kind == "attach25m" {
			raw = make([]byte, 18<<20)
		}
		r := rand.NewChaCha8([32]byte{})
		r.Read(raw)
		coded := base64.StdEncoding.EncodeToString(raw)
		var b bytes.Buffer
		b.WriteString(head + "Content-Type: multipart/mixed; boundary=\"mix==\"\r\n\r\n--mix==\r\n" + alternative +
			"--mix==\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		for len(coded) > 0 {
			n := min(76, len(coded))
			b.WriteString(coded[:n] + "\r\n")
			coded = coded[n:]
		}
		b.WriteString("--mix==--\r\n")
		return b.Bytes(), nil
	}
	return nil, fmt.Errorf("kind %q", kind)
}
