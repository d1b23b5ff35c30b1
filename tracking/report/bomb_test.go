package report

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// bombs are mails that try to cost more than their size, by that size.
var bombs = map[string]func(n int) []byte{
	"recipients": func(n int) []byte {
		var b bytes.Buffer
		b.WriteString("From: <>\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n")
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "Final-Recipient: rfc822; r%d@b.example\nAction: failed\nStatus: 5.1.1\n\n", i)
		}
		return b.Bytes()
	},
	"continuations": func(n int) []byte {
		return []byte("From: <>\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; x@y\nDiagnostic-Code: x" + strings.Repeat("\n x", n/3))
	},
	"one line": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n" + strings.Repeat("<a@b> ", n/6))
	},
	"addresses": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n" + strings.Repeat("<a@b.example>:\n550 no\n", n/22))
	},
	"parts": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", n/7))
	},
	"nesting": func(n int) []byte {
		var b bytes.Buffer
		b.WriteString("From: MAILER-DAEMON\n")
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return b.Bytes()
	},
	"soft breaks and tokens": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n<a@b.example>: 550 no\n\n--- Below this line is a copy of the message.\n\nSubject: x\n\n" + strings.Repeat("https://t/t/AAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", n/43))
	},
	"tags": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\nContent-Type: text/html\n\n" + strings.Repeat("<p><b a=1>", n/10))
	},
	"comments": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nAuto-Submitted: " + strings.Repeat("(", n/4) + "\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n" +
			"Final-Recipient: rfc822; " + strings.Repeat("(x) ", n/16) + "a@b.example\nAction: " + strings.Repeat("(", n/4) + "\nStatus: 5.1.1 " + strings.Repeat("()", n/8) + "\n--b--\n")
	},
	"failing lines": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n" + strings.Repeat("x could not be delivered: it says c@d.example and a@b.example\n", n/60))
	},
	"subjects and quotes": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n<a@b.example>:\n" + strings.Repeat("message \"x Subject: \"y \n message 'z", n/35))
	},
	"header ids": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n<a@b.example>: 550 no\n\n" + strings.Repeat("X-Sp-Message-Id:\n a\n", n/20))
	},
	"mailboxes": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n<a@b.example>: 550 no\n\n" + strings.Repeat("unsubscribe@a.example?subject=", n/30))
	},
	"at signs": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n" + strings.Repeat("a@b.example@", n/12))
	},
	"reply codes": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n" + strings.Repeat("550 5.1.1 mx.a.example [192.0.2.1] ", n/36))
	},
	"transcripts": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n" +
			strings.Repeat("<a@b.example>\n<<< 550-x\nRCPT >>> DATA\nuser unknown\n", n/52))
	},
	"many transcripts": func(n int) []byte {
		var b bytes.Buffer
		b.WriteString("From: MAILER-DAEMON\nSubject: failure notice\n\n")
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "<r%d@b.example>\n", i)
			b.WriteString(strings.Repeat("<<< 550-user unknown\n>>> DATA\n", 60))
		}
		return b.Bytes()
	},
	"sender addresses": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\n\n" +
			strings.Repeat("sender address sender a@b.example\n", n/34))
	},
	"letters": func(n int) []byte {
		return []byte("From: MAILER-DAEMON\nSubject: failure notice\nContent-Type: text/plain; charset=utf-8\n\n" + strings.Repeat("\u00e9\u4e0d\u5728 ", n/9))
	},
	"header": func(n int) []byte { return []byte("From: MAILER-DAEMON\n" + strings.Repeat("X: y\n z\n", n/8)) },
}

// TestBombs logs how the cost grows with the size, which is to be linear
// (promises, Security 6), and wants what comes out to be bounded. POSTERN_BOMBS=1
// makes them larger.
func TestBombs(t *testing.T) {
	f := Finder{Keys: testKeys(t), Header: "X-Sp-Message-Id"}
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			var took [2]time.Duration
			sizes := []int{32 << 10}
			if os.Getenv("POSTERN_BOMBS") != "" {
				sizes = []int{512 << 10, 2 << 20}
			}
			for i, n := range sizes {
				msg := bomb(n)
				start := time.Now()
				r := Parse(msg)
				_, found := f.Find(r, msg, nil)
				took[i] = time.Since(start)
				if found || len(r.Recipients) > maxRecipients {
					t.Errorf("%d recipients, found %v", len(r.Recipients), found)
				}
				for _, c := range r.Recipients {
					if len(c.Diagnostic) > maxReason {
						t.Errorf("a reason of %d bytes", len(c.Diagnostic))
					}
				}
			}
			t.Logf("%d bytes: %s", sizes, took[:len(sizes)])
		})
	}
}
