package accounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStateFails: whichever call fails for offsets.json or bad.csv, once or from
// then on, each record makes its event once, the bad line is there when the disk
// is well again, and after a restart nothing is read again.
func TestStateFails(t *testing.T) {
	t.Parallel()

	for _, what := range []string{"offsets", "bad lines"} {
		for _, kind := range []string{"once", "for a while"} {
			t.Run(what+" "+kind, func(t *testing.T) {
				for at := 1; ; at++ {
					d := &disk{fail: once(at)}
					if kind != "once" {
						d.fail = during(at, 3) // bad lines hold up the rest quarantineTries times
					}
					stateFails(t, what, at, d)
					if d.which == "" {
						if at < 8 {
							t.Errorf("only %d calls", at)
						}
						return
					}
				}
			})
		}
	}
}

func stateFails(t *testing.T, what string, at int, d *disk) {
	t.Helper()

	dir, m := t.TempDir(), &memory{}
	file := filepath.Join(dir, "acct.csv")
	c := Config{
		Globs:        []string{file},
		Dir:          filepath.Join(dir, "state"),
		Settings:     Settings{Verify: good},
		Events:       m,
		OffsetsFS:    &disk{},
		QuarantineFS: &disk{},
		Log:          silent,
	}
	if what == "offsets" {
		c.OffsetsFS = d
	} else {
		c.QuarantineFS = d
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}

	appendTo(t, file, header)
	for i := range 3 {
		appendTo(t, file, clean(i)+"zz,bad line\r\n")
		for range 4 {
			before, was := d.calls, d.which
			err := f.Poll(context.Background())
			failed := d.which != was || d.fail(before+1) && d.calls > before
			if failed && d.which != "close" && d.which != "remove" && !errors.Is(err, errDisk) {
				t.Errorf("call %d (%s) fails: Poll says %v", at, d.which, err)
			}
		}
	}
	poll(t, f)
	f.closeAll()
	d.held(t)

	f, err = New(c)
	if err != nil {
		t.Fatal(err)
	}
	poll(t, f)
	f.closeAll()

	if got := ids(m); len(m.events) != 3 || len(got) != 3 {
		t.Errorf("call %d (%s) fails: %d events with %d ids, want 3", at, d.which, len(m.events), len(got))
	}
	if n := strings.Count(badLines(t, dir), "zz,bad line"); n < 3 {
		t.Errorf("call %d (%s) fails: %d bad lines, want 3", at, d.which, n)
	}
}

// TestStateAfterPowerLoss cuts the power at each call for offsets.json and
// bad.csv. Every record makes an event, of one id though it be read twice, and
// every bad line that was passed is there.
func TestStateAfterPowerLoss(t *testing.T) {
	t.Parallel()

	for _, tail := range []int{0, 1000} {
		for at := 1; ; at++ {
			dir, m := t.TempDir(), &memory{}
			file := filepath.Join(dir, "acct.csv")
			d := powerless(at)
			c := Config{
				Globs:        []string{file},
				Dir:          filepath.Join(dir, "state"),
				Settings:     Settings{Verify: good},
				Events:       m,
				OffsetsFS:    d,
				QuarantineFS: d,
				Log:          silent,
			}
			f, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			appendTo(t, file, header)
			for i := range 3 {
				appendTo(t, file, clean(i)+fmt.Sprintf("zz,bad line %d\r\n", i))
				for range 2 {
					_ = f.Poll(context.Background()) // power may be gone
				}
			}
			f.closeAll()
			d.left(t, tail)

			c.OffsetsFS, c.QuarantineFS = &disk{}, &disk{}
			if f, err = New(c); err != nil {
				t.Fatal(err)
			}
			poll(t, f)
			f.closeAll()
			if got := ids(m); len(got) != 3 {
				t.Errorf("cut at %d, tail %d: %d records made events, want 3", at, tail, len(got))
			}
			bad := badLines(t, dir)
			for i := range 3 {
				if !strings.Contains(bad, fmt.Sprintf("zz,bad line %d\n", i)) {
					t.Errorf("cut at %d, tail %d: bad line %d is lost: %q", at, tail, i, bad)
				}
			}

			if d.which == "" {
				if at < 15 {
					t.Errorf("only %d calls", at)
				}
				break
			}
		}
	}
}

// TestPipeOnAFailingDisk: whichever call of a pipe's disk fails, once or for a
// while, each record makes its event, once, and nothing is left behind.
func TestPipeOnAFailingDisk(t *testing.T) {
	t.Parallel()

	const records = 4

	for _, times := range []int{1, 9} {
		t.Run(fmt.Sprint(times, " in a row"), func(t *testing.T) {
			pauses := 100 * time.Millisecond
			if times > 1 {
				pauses = 6500 * time.Millisecond // 0.1, 0.2, 0.4, 0.8, and five times a second
			}
			for at := 1; ; at++ {
				d := &disk{fail: during(at, times)}
				synctest.Test(t, func(t *testing.T) {
					dir, m := t.TempDir(), &memory{}
					to := PipeTarget{Dir: filepath.Join(dir, "pipe"), FS: d}
					begun := time.Now()
					err := Pipe(t.Context(), slowly(header+cleans(records)), to, silent)
					if err != nil && d.which != "close" { // what is closed is synced
						t.Errorf("call %d (%s) fails: %v", at, d.which, err)
					}
					if took := time.Since(begun); took > pauses {
						t.Errorf("call %d (%s) fails: tried again for %s, want at most %s", at, d.which, took, pauses)
					}
					d.held(t)
					if times == 1 {
						if names := unfinished(t, to.Dir); len(names) != 0 {
							t.Errorf("call %d (%s) fails: left %v", at, d.which, names)
						}
					}

					f := piped(t, dir, m)
					poll(t, f)
					poll(t, f)
					// A file that can neither be synced nor truncated has what the next one has as well.
					if got := messages(m); len(got) != records || times == 1 && len(m.events) != records {
						t.Errorf("call %d (%s) fails: %d events of %d messages, want %d", at, d.which, len(m.events), len(got), records)
					}
					if names := pipeFiles(t, dir); len(names) != 0 {
						t.Errorf("call %d (%s) fails: files are left: %v", at, d.which, names)
					}
				})
				if d.which == "" {
					if at < 12 {
						t.Errorf("only %d calls", at)
					}
					return
				}
			}
		})
	}
}

// messages counts events by their messages.
func messages(m *memory) map[string]int {
	out := map[string]int{}
	for _, e := range m.events {
		out[e.MessageID]++
	}

	return out
}

// TestPipeAfterPowerLoss cuts the power at each call: every record whose write
// was acknowledged makes an event, and none of a part of one.
func TestPipeAfterPowerLoss(t *testing.T) {
	t.Parallel()

	const records = 6

	for _, tail := range []int{0, 1000} {
		for at := 1; ; at++ {
			dir, m := t.TempDir(), &memory{}
			d := powerless(at)
			p := newPipe(PipeTarget{Dir: filepath.Join(dir, "pipe"), FS: d}, silent)
			if err := os.MkdirAll(p.to.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			p.header = []byte(header)
			var kept []string
			for i := range records {
				if p.put([]byte(clean(i))) != nil {
					p.drop()
					continue
				}
				kept = append(kept, fmt.Sprint("good-", i))
				if i%2 == 1 {
					p.size = maxPipeBytes + 1 // the next one goes to another file
				}
			}
			p.close()
			d.held(t)
			d.left(t, tail)

			f := piped(t, dir, m)
			poll(t, f)
			poll(t, f)
			got := messages(m)
			for _, id := range kept {
				if got[id] == 0 {
					t.Errorf("cut at %d, tail %d: record of %s was durable and is gone", at, tail, id)
				}
			}
			if d.which == "" {
				if at < 15 || len(kept) != records {
					t.Errorf("only %d calls, %d records kept", at, len(kept))
				}
				break
			}
		}
	}
}

// TestPipeEndsOnADeadDisk: where the disk never comes back, the end of the
// context is the end of the pipe, with the disk's error.
func TestPipeEndsOnADeadDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var log bytes.Buffer
		d := &disk{fail: from(1)}
		to := PipeTarget{Dir: filepath.Join(t.TempDir(), "pipe"), FS: d}

		err := Pipe(ctx, strings.NewReader(header+clean(1)), to, textLog(&log))
		if !errors.Is(err, errDisk) {
			t.Errorf("got %v, want %v", err, errDisk)
		}
		// After 0.1, 0.3, 0.7, 1.5 seconds, and each second from then on.
		if d.calls < 55 || d.calls > 65 || strings.Count(log.String(), "cannot write the pipe's records") != d.calls {
			t.Errorf("tried %d times in a minute and said it %d times, want 62 of both",
				d.calls, strings.Count(log.String(), "cannot write the pipe's records"))
		}
	})
}
