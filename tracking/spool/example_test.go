package spool_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"postern/tracking/spool"
)

// A spool is opened, appended to and read. Records are durable once Append
// returns; a reader commits the position of what it is done with.
func ExampleSpool() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	s, err := spool.Open(spool.Config{Dir: dir, Readers: []string{"printer"}})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	ctx := context.Background()
	if err := s.Append(ctx, []byte("first"), []byte("second")); err != nil {
		log.Fatal(err)
	}

	r, err := s.Reader("printer")
	if err != nil {
		log.Fatal(err)
	}

	for range 2 {
		rec, err := r.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}

		fmt.Printf("%s, next record at offset %d\n", rec.Data, rec.Next.Offset)

		if err := r.Commit(rec.Next); err != nil {
			log.Fatal(err)
		}
	}

	b, err := s.Backlog("printer")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.Records, "records left")

	// Output:
	// first, next record at offset 15
	// second, next record at offset 31
	// 0 records left
}

// ReadAt is for owners that keep an index of their records.
func ExampleSpool_ReadAt() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	s, err := spool.Open(spool.Config{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	at, err := s.AppendAt(context.Background(), []byte("first"), []byte("second"))
	if err != nil {
		log.Fatal(err)
	}

	record, err := s.ReadAt(at[1], len("second"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", record)

	// Output:
	// second
}
