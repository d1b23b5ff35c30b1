package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

const (
	messageHead = "From: News <news@example.com>\r\n" +
		"To: Reader <reader@example.net>\r\n" +
		"Subject: A newsletter\r\n" +
		"Date: Tue, 24 Nov 2026 08:00:00 +0000\r\n" +
		"Message-ID: <bench@example.com>\r\n" +
		"X-Job: bench\r\n" +
		"MIME-Version: 1.0\r\n"

	htmlHead = "<!DOCTYPE html>\r\n<html>\r\n<head>\r\n<title>Newsletter</title>\r\n<style>\r\n"
	htmlBody = "</style>\r\n</head>\r\n<body class=\"mail\">\r\n"
	htmlEnd  = "</body>\r\n</html>\r\n"
	style    = "  .button { color: #ffffff; padding: 12px 24px; }\r\n"

	// article is a part of the newsletter: its text and the number in its link.
	article = "<table width=\"600\" cellpadding=\"0\">\r\n" +
		"  <tr>\r\n" +
		"    <td style=\"font-family: Arial, sans-serif\">\r\n" +
		"%s" +
		"      <a class=\"button\" href=\"https://www.example.com/articles/%d" +
		"?utm_source=newsletter&amp;utm_campaign=spring\">Read on</a></td>\r\n" +
		"  </tr>\r\n" +
		"</table>\r\n"

	htmlLine    = "      Words that readers like to read, and a few more of them.\r\n"
	textLine    = "The plain words of the newsletter, on lines of their own.\r\n"
	receiptLine = "The plain words of a receipt, on lines of their own.\r\n"
)

// message returns the message of a kind.
func message(kind string) ([]byte, error) {
	switch kind {
	case "text2k":
		return []byte(messageHead + "Content-Type: text/plain\r\n\r\n" + strings.Repeat(receiptLine, 36)), nil
	case "html30k":
		return []byte(messageHead + newsletter()), nil
	case "attach1m":
		return withAttachment(768 << 10), nil
	case "attach25m":
		return withAttachment(18 << 20), nil
	}

	return nil, fmt.Errorf("unknown kind %q", kind)
}

// newsletter returns a multipart/alternative entity with 20 links.
func newsletter() string {
	var b strings.Builder
	b.WriteString("Content-Type: multipart/alternative; boundary=\"alt==\"\r\n\r\n")
	b.WriteString("--alt==\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	b.WriteString(strings.Repeat(textLine, 30))

	b.WriteString("--alt==\r\nContent-Type: text/html; charset=utf-8\r\n\r\n")
	b.WriteString(htmlHead + strings.Repeat(style, 60) + htmlBody)
	for i := range 20 {
		fmt.Fprintf(&b, article, strings.Repeat(htmlLine, 16), i)
	}
	b.WriteString(htmlEnd)
	b.WriteString("--alt==--\r\n")

	return b.String()
}

// withAttachment returns the newsletter with an attachment of size bytes, always
// the same ones.
func withAttachment(size int) []byte {
	raw := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(raw)
	coded := base64.StdEncoding.EncodeToString(raw)

	var b bytes.Buffer
	b.WriteString(messageHead + "Content-Type: multipart/mixed; boundary=\"mix==\"\r\n\r\n")
	b.WriteString("--mix==\r\n" + newsletter())
	b.WriteString("--mix==\r\nContent-Type: application/pdf\r\n" +
		"Content-Disposition: attachment; filename=a.pdf\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n")
	for len(coded) > 0 {
		n := min(76, len(coded))
		b.WriteString(coded[:n] + "\r\n")
		coded = coded[n:]
	}
	b.WriteString("--mix==--\r\n")

	return b.Bytes()
}
