package smtpd_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"

	"postern/relay"
	"postern/relay/reply"
	"postern/smtpd"
	"postern/smtpd/auth"
)

// printer is a Submitter that prints what it gets.
type printer struct{}

func (printer) Submit(_ context.Context, s *relay.Submission) reply.Reply {
	fmt.Printf("%s submits %d bytes from %s\n", s.User.Name, len(s.Message), s.Envelope.From)
	return reply.Reply{Code: 250, Enhanced: reply.EnhancedCode{2, 0, 0}, Text: "Ok"}
}

func (printer) Reject(_ context.Context, _ *relay.Submission, err error) reply.Reply {
	return reply.For(err)
}

func ExampleNewSubmission() {
	users, err := auth.NewUsers(auth.Rate{})
	if err != nil {
		panic(err)
	}
	if err := users.Replace([]auth.Entry{{User: relay.User{Name: "app"}}}); err != nil {
		panic(err)
	}

	server := smtpd.NewSubmission(smtpd.Config{
		Hostname: "gateway.example.com",
	}, smtpd.Submission{
		Auth:      users,
		Submit:    printer{},
		Directory: users,
		Sources:   []smtpd.SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8"), User: "app"}},
	})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- server.Serve(ctx, l) }()

	message := []byte("From: shop@example.com\r\nSubject: Hello\r\n\r\nHello.\r\n")
	err = smtp.SendMail(l.Addr().String(), nil, "shop@example.com", []string{"ann@example.net"}, message)
	if err != nil {
		fmt.Println(err)
	}

	stop()
	fmt.Println(<-served)
	// Output:
	// app submits 50 bytes from shop@example.com
	// <nil>
}
