package queue

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"postern/tracking/spool"
)

// finish checks the index and what is held on disk, and closes the queue, which
// must have nothing left to record.
func finish(t *testing.T, q *Queue) {
	t.Helper()
	checkIndex(t, q)
	if err := q.Flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
	if n := q.unsaved(); n != 0 {
		t.Errorf("%d records are not written", n)
	}
	checkHeld(t, q)
	if q.memory.lent != 0 {
		t.Errorf("%d buffers are lent", q.memory.lent)
	}
	if err := q.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// checkIndex compares the parts of the index with each other. No attempt may be
// in progress.
func checkIndex(t *testing.T, q *Queue) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()

	copies, live := 0, int64(0)
	bytes := map[uint64]int64{}
	entries := map[uint64]int{}
	waiting := map[*copyState]bool{}
	for id, e := range q.entries {
		if e.id != id || len(e.copies) == 0 {
			t.Errorf("entry %s is under %s with %d copies", e.id, id, len(e.copies))
		}
		live += e.weight
		bytes[e.at.Segment] += e.weight
		entries[e.at.Segment]++
		for messageID, c := range e.copies {
			copies++
			waiting[c] = true
			if c.e != e || c.messageID != messageID {
				t.Errorf("copy %s of %s is under %s of %s", c.messageID, c.e.id, messageID, id)
			}
			if c.busy || c.heapIndex < 0 || c.heapIndex >= len(q.due) || q.due[c.heapIndex] != c {
				t.Errorf("copy %s will not come due: busy %v, index %d", messageID, c.busy, c.heapIndex)
			}
		}
	}

	if q.copies != copies || len(q.due) != copies {
		t.Errorf("%d copies are counted and %d come due, want %d", q.copies, len(q.due), copies)
	}
	for i := range q.due {
		if i > 0 && q.due.Less(i, (i-1)/2) {
			t.Errorf("copy %d of the heap is due before its parent", i)
		}
	}
	if q.live != live || len(q.segments) != len(bytes) {
		t.Errorf("%d bytes wait in %d segments, want %d in %d", q.live, len(q.segments), live, len(bytes))
	}
	for segment, u := range q.segments {
		if u.bytes != bytes[segment] || len(u.entries) != entries[segment] {
			t.Errorf("segment %d: %d bytes of %d transactions, want %d of %d", segment, u.bytes, len(u.entries),
				bytes[segment], entries[segment])
		}
	}
	for c := range q.away {
		if !waiting[c] || !c.isAway {
			t.Errorf("copy %s waits for the upstream, in the queue %v, away %v", c.messageID, waiting[c], c.isAway)
		}
	}
	for c := range q.changed {
		if !waiting[c] {
			t.Errorf("the state of copy %s is to be written, which does not wait", c.messageID)
		}
	}
	if len(q.floors) != 0 {
		t.Errorf("segments are held back by nobody: %v", q.floors)
	}
}

// checkHeld compares the room that is held on disk with the room that the ends
// of waiting copies need.
func checkHeld(t *testing.T, q *Queue) {
	t.Helper()
	disk, ok := q.cfg.FS.(*memoryDisk)
	if !ok || disk.size != 0 {
		return
	}

	// A new segment begins with what is held and a step of 256 KiB.
	q.spool.Rotate()
	r, err := encodeJSON(kindDone, doneRecord{"nobody", "nobody", "sent"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.spool.AppendAs(context.Background(), spool.Essential, r); err != nil {
		t.Fatal(err)
	}
	names := disk.names(".seg")
	last := names[len(names)-1]
	disk.mu.Lock()
	held := disk.files[q.cfg.Dir+"/"+last].first - 256<<10
	disk.mu.Unlock()

	q.mu.Lock()
	defer q.mu.Unlock()
	want := int64(baseRoom)
	for _, e := range q.entries {
		for _, c := range e.copies {
			want += c.room()
		}
	}
	for _, e := range q.ends {
		want += e.room
	}
	if held != want {
		t.Errorf("%d bytes are held, want %d", held, want)
	}
}

// records returns the records in the segments of a disk, without checksums.
func records(t *testing.T, disk *memoryDisk) []string {
	t.Helper()
	var out []string
	for _, name := range disk.names(".seg") {
		for line := range strings.Lines(string(disk.read(t, name))) {
			_, record, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			out = append(out, record)
		}
	}

	return out
}

// ends returns the records of ends as "message id: why".
func ends(t *testing.T, disk *memoryDisk) []string {
	t.Helper()
	var out []string
	for _, r := range records(t, disk) {
		if r[0] != kindDone {
			continue
		}
		var d doneRecord
		if err := json.Unmarshal([]byte(r[2:]), &d); err != nil {
			t.Errorf("%s: %v", r, err)
		}
		out = append(out, d.Copy+": "+d.Why)
	}

	return out
}
