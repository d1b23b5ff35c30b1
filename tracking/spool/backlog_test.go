package spool

import (
	"context"
	"fmt"
	"testing"
)

func TestBacklogCountsWhatWaits(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes = 100 // a few records
	s := open(t, c)
	want := func(step string, records int64, oldest string) {
		t.Helper()
		b, err := s.Backlog("r")
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if b.Records != records || string(b.Oldest) != oldest || (b.Bytes > 0) != (records > 0) {
			t.Errorf("%s: got %d records, %d bytes, the oldest %q; want %d, the oldest %q",
				step, b.Records, b.Bytes, b.Oldest, records, oldest)
		}
	}

	want("empty", 0, "")
	for i := range 20 {
		put(t, s, fmt.Sprintf("record %02d", i))
		want("appended", int64(i+1), "record 00")
	}
	r, err := s.Reader("r")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		rec, err := r.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Commit(rec.Next); err != nil {
			t.Fatal(err)
		}
		want("passed", int64(19-i), fmt.Sprintf("record %02d", i+1))
	}

	s.Close()
	s = open(t, c)
	want("opened again", 5, "record 15")
	put(t, s, "one more")
	want("appended after the restart", 6, "record 15")
	if _, err := s.Backlog("nobody"); err == nil {
		t.Error("a reader that is not configured: got no error")
	}
}
