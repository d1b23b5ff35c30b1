package queue_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"postern/relay/envelope"
	"postern/relay/queue"
)

// printer is a Deliverer that prints copies, and calls done after each.
type printer struct{ done func() }

func (p printer) Deliver(_ context.Context, t *queue.Transaction, index, tries int) queue.Verdict {
	fmt.Printf("to %s, after %d attempts: %q\n", t.Copies[index].Recipient.Address, tries, t.Message(index))
	p.done()

	return queue.Verdict{Done: true, Reply: "250 2.0.0 Ok"}
}

func (p printer) GiveUp(context.Context, *queue.Transaction, int, int, queue.Verdict) []*queue.Transaction {
	return nil // no DSN
}

func (p printer) Reachable(context.Context) error { return nil }

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "queue")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	q, err := queue.Open(queue.Config{
		Dir: dir,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()

	ctx, stop := context.WithCancel(context.Background())
	err = q.Put(ctx, &queue.Transaction{
		ID:      "t1",
		Created: time.Now(),
		From:    envelope.Address{Local: "ann", Domain: "example.com"},
		Copies: []queue.Copy{{
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "bob", Domain: "example.net"}},
			MessageID: "m1",
			Own:       [][]byte{[]byte("Subject: Hello, "), []byte("\r\n\r\nWelcome.\r\n")},
		}},
		Shared: [][]byte{[]byte("Bob")},
	})
	if err != nil {
		log.Fatal(err)
	}

	// Serve returns when its context ends, here after the first attempt.
	if err := q.Serve(ctx, printer{done: stop}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(q.Len(), "copies are waiting")

	// Output:
	// to bob@example.net, after 0 attempts: "Subject: Hello, Bob\r\n\r\nWelcome.\r\n"
	// 0 copies are waiting
}
