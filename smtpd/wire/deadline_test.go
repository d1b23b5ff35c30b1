package wire

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusedMessagesHaveAnEnd: who goes on sending what was refused gets time
// for a message of twice the largest size, and no more.
func TestRefusedMessagesHaveAnEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		after time.Duration
		sent  int64
		late  bool
	}{
		{15 * time.Minute, 1 << 20, false},
		{30 * time.Minute, 2 << 20, false},
		{40 * time.Minute, 100 << 20, true},
	} {
		p := &phaseReader{
			r:     strings.NewReader("x"),
			conn:  NewConn(&wire{}, Config{MaxMessage: 1 << 20, Idle: time.Minute}),
			limit: MessageTimeout{Base: time.Minute, MinRate: 1 << 10},
			start: time.Now().Add(-c.after),
			n:     c.sent,
		}
		p.Read(make([]byte, 1))
		if late := p.conn.phaseEnd.Before(time.Now().Add(time.Second)); late != c.late {
			t.Errorf("%d bytes after %s: late %v, want %v", c.sent, c.after, late, c.late)
		}
	}
}

// deadlines is a socket that remembers its read deadlines.
type deadlines struct {
	wire
	read []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = append(d.read, t)
	return nil
}

// TestPhasesBoundDeadlines: whoever sets a read deadline, and to what, it is
// never beyond the phase's end, and no phase takes another one's.
func TestPhasesBoundDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, c := range []struct {
			name  string
			phase time.Duration
			set   time.Time
			want  time.Time
		}{
			{"none", 0, time.Time{}, time.Time{}},
			{"no phase", 0, now.Add(time.Hour), now.Add(time.Hour)},
			{"within", time.Minute, now.Add(time.Second), now.Add(time.Second)},
			{"at the end", time.Minute, now.Add(time.Minute), now.Add(time.Minute)},
			{"beyond", time.Minute, now.Add(time.Hour), now.Add(time.Minute)},
			{"without a deadline", time.Minute, time.Time{}, now.Add(time.Minute)},
			{"the shortest phase", 1, time.Time{}, now.Add(1)},
		} {
			sock := &deadlines{}
			conn := NewConn(sock, Config{})
			conn.BeginPhase(time.Hour)
			conn.BeginPhase(c.phase)
			if c.phase > 0 && !sock.read[1].Equal(now.Add(c.phase)) {
				t.Errorf("%s: the phase's own deadline is %s", c.name, sock.read[1].Sub(now))
			}
			if c.phase == 0 && len(sock.read) != 1 {
				t.Errorf("%s: a phase without an end sets a deadline", c.name)
			}
			conn.SetReadDeadline(c.set)
			if got := sock.read[len(sock.read)-1]; !got.Equal(c.want) {
				t.Errorf("%s: the deadline is after %s, want %s", c.name, got.Sub(now), c.want.Sub(now))
			}
		}
	})
}

// TestMessageTime checks the time for a message by what has arrived of it.
func TestMessageTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, c := range []struct {
			name    string
			limit   MessageTimeout
			most    int64 // of a message; 0: no limit
			n       int64
			started time.Duration // ago
			idle    time.Duration
			want    time.Duration
		}{
			{"at the beginning", MessageTimeout{Base: time.Minute, MinRate: 1024}, 1 << 20, 0, 0, time.Hour, time.Minute},
			{"of some size", MessageTimeout{Base: time.Minute, MinRate: 1024}, 1 << 20, 3071, 0, time.Hour, time.Minute + 2*time.Second},
			{"half over", MessageTimeout{Base: time.Minute, MinRate: 1024}, 1 << 20, 3072, 30 * time.Second, time.Hour, 33 * time.Second},
			{"over", MessageTimeout{Base: time.Minute, MinRate: 1024}, 1 << 20, 0, 2 * time.Minute, time.Hour, time.Millisecond},
			{"idle before", MessageTimeout{Base: time.Minute, MinRate: 1024}, 1 << 20, 0, 0, time.Second, time.Second},
			{"too large", MessageTimeout{Base: time.Minute, MinRate: 1024}, 1 << 20, 9 << 20, 0, 3 * time.Hour, time.Minute + 2048*time.Second},
			{"without a limit", MessageTimeout{Base: time.Minute, MinRate: 1024}, 0, 9 << 20, 0, 3 * time.Hour, time.Minute + 9216*time.Second},
			{"at a byte a second", MessageTimeout{Base: time.Minute, MinRate: 1}, 1, 2, 0, time.Hour, time.Minute + 2*time.Second},
			{"on port 25", MessageTimeout{Base: time.Minute}, 1 << 20, 9 << 20, 0, time.Hour, time.Minute},
		} {
			sock := &deadlines{}
			p := &phaseReader{
				r:     strings.NewReader("xy"),
				conn:  NewConn(sock, Config{MaxMessage: c.most, Idle: c.idle}),
				limit: c.limit,
				start: now.Add(-c.started),
				n:     c.n,
			}
			n, err := p.Read(make([]byte, 5))
			if n != 2 || err != nil || p.n != c.n+2 {
				t.Errorf("%s: read %d, %v, %d in all", c.name, n, err, p.n)
			}
			if got := sock.read[len(sock.read)-1].Sub(now); got != c.want {
				t.Errorf("%s: has %s, want %s", c.name, got, c.want)
			}
			if _, err := p.Read(make([]byte, 5)); !errors.Is(err, io.EOF) {
				t.Errorf("%s: at the end %v, want %v", c.name, err, io.EOF)
			}
		}
	})
}
