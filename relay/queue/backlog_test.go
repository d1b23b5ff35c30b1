package queue

import (
	"context"
	"testing"
	"time"
)

func TestBacklogIsAsOldAsItsOldestCopy(t *testing.T) {
	q := open(t, newDisk(t), nil)
	defer finish(t, q)
	if oldest, size := q.Backlog(); !oldest.IsZero() || size != 0 {
		t.Errorf("empty: got %v and %d bytes, want none", oldest, size)
	}

	old, young := transaction("t1", "a"), transaction("t2", "b")
	old.Created = young.Created.Add(-time.Hour)
	for _, tr := range []*Transaction{young, old} {
		if err := q.Put(context.Background(), tr); err != nil {
			t.Fatal(err)
		}
	}
	oldest, both := q.Backlog()
	if !oldest.Equal(old.Created) || both == 0 {
		t.Errorf("two: got %v and %d bytes, want %v and some", oldest, both, old.Created)
	}

	if err := q.Drop("t1-a"); err != nil {
		t.Fatal(err)
	}
	oldest, one := q.Backlog()
	if !oldest.Equal(young.Created) || one == 0 || one >= both {
		t.Errorf("one left: got %v and %d bytes, want %v and fewer than %d", oldest, one, young.Created, both)
	}
}
