package message_test

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"postern/relay/message"
)

func ExampleReadMessage() {
	r := strings.NewReader("Subject: Hello\r\n\r\nHi.\r\n")
	msg, err := message.ReadMessage(r, message.ReadConfig{MaxBytes: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}

	header, body, _ := message.Split(msg)
	subject, _ := message.First(message.Fields(header), "subject")
	fmt.Printf("%s: %q\n", subject.Value(), body)

	_, err = message.ReadMessage(strings.NewReader("one\rtwo\r\n"), message.ReadConfig{})
	fmt.Println(err)
	// Output:
	// Hello: "Hi.\r\n"
	// 550 5.6.0 Message contains a bare CR; lines end with CRLF (RFC 5321 section 2.3.8) (bare CR in the message)
}

func ExampleWriteData() {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	if err := message.WriteData(w, []byte("one\r\n"), []byte(".two\r\n")); err != nil {
		fmt.Println(err)
	}
	w.Flush()

	fmt.Printf("%q\n", out.String())
	// Output:
	// "one\r\n..two\r\n.\r\n"
}
