package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/relay"
	"postern/relay/reply"
	"postern/relay/upstream"
)

// way is a session's own way upstream.
type way struct{ closed bool }

func (w *way) Send(context.Context, *upstream.Transaction) upstream.Outcome {
	return upstream.Outcome{}
}

// fakeUpstream answers logins as it is told.
type fakeUpstream struct {
	reply reply.Reply
	err   error
	asked int
	way   *way
}

func (f *fakeUpstream) config() PassthroughConfig {
	return PassthroughConfig{
		Login: func(context.Context, string, string) (relay.Sender, func(), reply.Reply, error) {
			f.asked++
			f.way = &way{}
			w := f.way
			return w, func() { w.closed = true }, f.reply, f.err
		},
		Offered: func() ([]string, bool) { return []string{"CRAM-MD5", "PLAIN"}, true },
		Rate:    Rate{N: 3, Per: time.Minute},
	}
}

func TestPassthrough(t *testing.T) {
	t.Parallel()
	source := netip.MustParseAddr("192.0.2.1")
	users := newUsers(t, Rate{}, []Entry{{User: relay.User{Name: "known", Job: "news", Subaccount: 5}}})
	for _, c := range []struct {
		name, login string
		reply       reply.Reply
		err         error
		want        string // the answer; empty: taken
		user        relay.User
	}{
		{"taken", "ann", reply.Reply{Code: 235, Text: "welcome"}, nil, "", relay.User{Name: "ann", Tracking: true}},
		{"with settings of the users file", "known", reply.Reply{Code: 235}, nil, "", relay.User{Name: "known", Job: "news", Subaccount: 5}},
		{"with a subaccount", "ann:X-MSYS-SUBACCOUNT=7", reply.Reply{Code: 235}, nil, "", relay.User{Name: "ann", Tracking: true, Subaccount: 7}},
		{"refused, in the upstream's words", "ann", reply.Reply{Code: 535, Enhanced: reply.EnhancedCode{5, 7, 9}, Text: "go away"}, nil, "535 5.7.9 go away", relay.User{}},
		{"not now, in the upstream's words", "ann", reply.Reply{Code: 454, Enhanced: reply.EnhancedCode{4, 7, 0}, Text: "database asleep"}, nil, "454 4.7.0 database asleep", relay.User{}},
		{"away", "ann", reply.Reply{}, errors.New("no route"), "454 4.7.0 Temporary authentication failure", relay.User{}},
		{"nonsense", "ann", reply.Reply{Code: 250}, nil, "454 4.7.0 Temporary authentication failure", relay.User{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeUpstream{reply: c.reply, err: c.err}
			conf := f.config()
			conf.Users = users
			p := NewPassthrough(conf)
			p.delay = func(context.Context, time.Duration) {}
			who, err := p.Authenticate(context.Background(), credentials(c.login, "x", source))
			if c.want != "" {
				if r := reply.For(err); r.String() != c.want {
					t.Errorf("%s, want %s", r, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(who.User, c.user) || who.Via != relay.Sender(f.way) {
				t.Errorf("%+v %v", who, err)
			}
		})
	}
}

// TestPassthroughMechanisms checks that only known mechanisms of the upstream are offered.
func TestPassthroughMechanisms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		offered []string
		known   bool
		want    string
	}{
		{nil, false, "PLAIN LOGIN"},
		{[]string{"CRAM-MD5", "PLAIN"}, true, "PLAIN"},
		{[]string{"LOGIN", "PLAIN"}, true, "PLAIN LOGIN"},
		{[]string{"GSSAPI"}, true, ""},
	} {
		p := NewPassthrough(PassthroughConfig{Offered: func() ([]string, bool) { return c.offered, c.known }})
		if got := strings.Join(p.Mechanisms(), " "); got != c.want {
			t.Errorf("%v: %q, want %q", c.offered, got, c.want)
		}
	}
}

// TestPassthroughThrottle checks that the rate ends guesses before the upstream.
func TestPassthroughThrottle(t *testing.T) {
	t.Parallel()
	f := &fakeUpstream{reply: reply.Reply{Code: 535, Text: "no"}}
	p := NewPassthrough(f.config())
	p.delay = func(context.Context, time.Duration) {}
	for range 10 {
		p.Authenticate(context.Background(), credentials("ann", "x", home))
	}
	if f.asked != 3 {
		t.Errorf("the upstream was asked %d times", f.asked)
	}
}

// TestPassthroughGuessesAtOnce: guesses that are made at the same moment are
// not looked at more often than those made one after the other.
func TestPassthroughGuessesAtOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	enough := make(chan struct{})
	p := NewPassthrough(PassthroughConfig{
		Login: func(context.Context, string, string) (relay.Sender, func(), reply.Reply, error) {
			asked.Add(1)
			<-enough
			return nil, nil, reply.Reply{Code: 535, Text: "no"}, nil
		},
		Rate: Rate{N: 5, Per: time.Hour},
	})
	p.delay = func(context.Context, time.Duration) {}

	var wg sync.WaitGroup
	var locked atomic.Int32
	for i := range 60 {
		wg.Go(func() {
			name := fmt.Sprintf("user%d", i)
			_, err := p.Authenticate(context.Background(), credentials(name, "x", home))
			if reply.For(err).Code == 454 {
				locked.Add(1)
			}
		})
	}
	for asked.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	close(enough)
	wg.Wait()
	if asked.Load() != 5 || locked.Load() != 55 {
		t.Errorf("the upstream was asked %d times, %d were locked; want 5, 55", asked.Load(), locked.Load())
	}
}

// TestPassthroughLoginsAtOnce: a client that opens many connections at once,
// with the right password, is let in on all.
func TestPassthroughLoginsAtOnce(t *testing.T) {
	t.Parallel()
	p := NewPassthrough(PassthroughConfig{
		Login: func(context.Context, string, string) (relay.Sender, func(), reply.Reply, error) {
			return nil, nil, reply.Reply{Code: 235}, nil
		},
		Rate: Rate{N: 2, Per: time.Hour},
	})
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			if _, err := p.Authenticate(context.Background(), credentials("ann", "x", home)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestPassthroughUnlistedUsers checks that no spelling of a name lifts a limit.
func TestPassthroughUnlistedUsers(t *testing.T) {
	t.Parallel()
	held := Entry{User: relay.User{Name: "tester", FromDomains: []string{"allowed.example"}}}
	free := Entry{User: relay.User{Name: "free", Job: "j"}}
	others := Entry{User: relay.User{Name: "others", Job: "o", FromDomains: []string{"others.example"}, Subaccount: 3}}
	for _, c := range []struct {
		name, login string
		users       []Entry
		standard    string
		want        string // name, job and domains; empty: refused
	}{
		{"listed", "tester", []Entry{held}, "", "tester  [allowed.example]"},
		{"listed, in capitals", "TESTER", []Entry{held}, "", "tester  [allowed.example]"},
		{"listed, with a subaccount", "Tester:X-MSYS-SUBACCOUNT=9", []Entry{held}, "", "tester  [allowed.example]"},
		{"unlisted, nobody held", "Someone", []Entry{free}, "", "someone  []"},
		{"unlisted, somebody held", "someone", []Entry{free, held}, "", ""},
		{"another spelling", "tester ", []Entry{held}, "", ""},
		{"full width letters", "ｔｅｓｔｅｒ", []Entry{held}, "", ""},
		{"unlisted, with a default", "Someone", []Entry{held, others}, "Others", "someone o [others.example]"},
		{"unlisted, the default is gone", "someone", []Entry{free}, "others", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			users := newUsers(t, Rate{}, c.users)
			f := &fakeUpstream{reply: reply.Reply{Code: 235}}
			conf := f.config()
			conf.Users, conf.DefaultUser = users, c.standard
			p := NewPassthrough(conf)
			p.delay = func(context.Context, time.Duration) {}

			who, err := p.Authenticate(context.Background(), credentials(c.login, "x", home))
			if c.want == "" {
				if r := reply.For(err); err == nil || r.String() != errFailed.Reply.String() {
					t.Errorf("%+v, %v; want %v", who, err, errFailed.Reply)
				}
				if f.way == nil || !f.way.closed {
					t.Error("the login at the upstream was left open")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%s %s %v", who.User.Name, who.User.Job, who.User.FromDomains); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestPassthroughRefusalsAreAlike: where a login that the upstream takes may be
// refused here, its answer does not tell a right password from a wrong one.
func TestPassthroughRefusalsAreAlike(t *testing.T) {
	t.Parallel()
	held := Entry{User: relay.User{Name: "tester", FromDomains: []string{"allowed.example"}}}
	free := Entry{User: relay.User{Name: "free"}}
	own := reply.Reply{Code: 535, Enhanced: reply.EnhancedCode{5, 7, 0}, Text: "upstream says no"}
	for _, c := range []struct {
		name     string
		user     Entry
		standard string
		want     reply.Reply // to a wrong password
	}{
		{"somebody held", held, "", errFailed.Reply},
		{"somebody held, with a default", held, "tester", own},
		{"the default is gone", free, "others", errFailed.Reply},
		{"nobody refused here", free, "", own},
	} {
		t.Run(c.name, func(t *testing.T) {
			users := newUsers(t, Rate{}, []Entry{c.user})
			f := &fakeUpstream{reply: own}
			conf := f.config()
			conf.Users, conf.DefaultUser, conf.Rate = users, c.standard, Rate{}
			p := NewPassthrough(conf)
			p.delay = func(context.Context, time.Duration) {}

			for _, login := range []string{"someone", c.user.Name} {
				_, err := p.Authenticate(context.Background(), credentials(login, "x", home))
				if got := reply.For(err); err == nil || got.String() != c.want.String() {
					t.Errorf("%s: got %s, want %s", login, got, c.want)
				}
			}
		})
	}
}

// TestPassthroughHandsOnTheName checks that the upstream gets the name as it was given.
func TestPassthroughHandsOnTheName(t *testing.T) {
	t.Parallel()
	var got string
	p := NewPassthrough(PassthroughConfig{
		Login: func(_ context.Context, user, _ string) (relay.Sender, func(), reply.Reply, error) {
			got = user
			return nil, nil, reply.Reply{Code: 235}, nil
		},
	})
	for login, want := range map[string]string{"Ann": "Ann", "Ann:x-msys-subaccount=7": "Ann"} {
		if _, err := p.Authenticate(context.Background(), Credentials{Name: login, Password: "x"}); err != nil || got != want {
			t.Errorf("%s: the upstream was given %q, %v; want %q", login, got, err, want)
		}
	}
}

// TestPassthroughOwnTrouble: what the upstream wants of us is not the client's
// fault.
func TestPassthroughOwnTrouble(t *testing.T) {
	t.Parallel()
	for _, code := range []int{500, 502, 503, 504, 530, 534, 538} {
		f := &fakeUpstream{reply: reply.Reply{Code: code, Text: "Must issue a STARTTLS command first"}}
		p := NewPassthrough(f.config())
		p.delay = func(context.Context, time.Duration) {}
		for range 4 { // more than the failures of a period
			_, err := p.Authenticate(context.Background(), credentials("ann", "x", home))
			if got, want := reply.For(err).String(), "454 4.7.0 Temporary authentication failure"; got != want {
				t.Errorf("upstream %d: %s, want %s", code, got, want)
			}
		}
		if f.asked != 4 {
			t.Errorf("upstream %d: asked %d times, want 4", code, f.asked)
		}
	}
}

// TestPassthroughWaits as long for the upstream as a client may wait, and a
// little longer after each failure.
func TestPassthroughWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var begun time.Time
		var end time.Time
		f := &fakeUpstream{reply: reply.Reply{Code: 535, Text: "no"}}
		conf := f.config()
		conf.Rate.N = 9
		login := conf.Login
		conf.Login = func(ctx context.Context, user, password string) (relay.Sender, func(), reply.Reply, error) {
			end, _ = ctx.Deadline()
			if user != "ann" || password != "x" {
				t.Errorf("asked for %s with %s", user, password)
			}
			return login(ctx, user, password)
		}
		p := NewPassthrough(conf)
		for i, want := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond} {
			begun = time.Now()
			_, err := p.Authenticate(t.Context(), credentials("ann", "x", home))
			if got := reply.For(err).String(); got != "535 no" {
				t.Errorf("got %s, want the upstream's words", got)
			}
			if got := time.Since(begun); got != want {
				t.Errorf("failure %d was answered after %s, want %s", i+1, got, want)
			}
			if got := end.Sub(begun); got != time.Minute {
				t.Errorf("the upstream has %s, want a minute", got)
			}
		}
	})
}

// TestPassthroughFaults: the log learns the upstream's words, and the class of
// a fault is that of its code.
func TestPassthroughFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reply reply.Reply
		err   error
		class reply.Class
		want  string // of the error
	}{
		{reply.Reply{Code: 535, Text: "no"}, nil, reply.Permanent, "535 no (upstream answered 535 no)"},
		{reply.Reply{Code: 599, Text: "no"}, nil, reply.Permanent, "599 no (upstream answered 599 no)"},
		{reply.Reply{Code: 400, Text: "later"}, nil, reply.Temporary, "400 later (upstream answered 400 later)"},
		{reply.Reply{Code: 499, Text: "later"}, nil, reply.Temporary, "499 later (upstream answered 499 later)"},
		{reply.Reply{Code: 334, Text: "more"}, nil, reply.Temporary, "454 4.7.0 Temporary authentication failure (upstream answered 334 more)"},
		{reply.Reply{Code: 600, Text: "what"}, nil, reply.Temporary, "454 4.7.0 Temporary authentication failure (upstream answered 600 what)"},
		{reply.Reply{Code: 535}, errors.New("no route"), reply.Temporary, "454 4.7.0 Temporary authentication failure (no route)"},
	} {
		t.Run(c.want, func(t *testing.T) {
			f := &fakeUpstream{reply: c.reply, err: c.err}
			p := NewPassthrough(f.config())
			p.delay = noDelay
			_, err := p.Authenticate(t.Context(), credentials("ann", "x", home))
			var fault *reply.Fault
			if !errors.As(err, &fault) || fault.Class != c.class || err.Error() != c.want {
				t.Errorf("got %#v, want class %v and %s", err, c.class, c.want)
			}
			for key, c := range p.throttle.counts {
				if c.asking != 0 {
					t.Errorf("an attempt of %s is under way", key)
				}
			}
		})
	}
}

// TestPassthroughKnowsWhoLoggedIn: others' guesses do not lock a user out of
// where it logged in before.
func TestPassthroughKnowsWhoLoggedIn(t *testing.T) {
	t.Parallel()
	f := &fakeUpstream{reply: reply.Reply{Code: 235}}
	p := NewPassthrough(f.config())
	p.delay = noDelay
	login := func(source netip.Addr) reply.Reply {
		_, err := p.Authenticate(t.Context(), credentials("ann", "x", source))
		if err == nil {
			return reply.Reply{Code: 235}
		}
		return reply.For(err)
	}

	login(home)
	f.reply = reply.Reply{Code: 535, Text: "no"}
	for range 3 {
		login(away)
	}
	f.reply = reply.Reply{Code: 235}
	if got, want := login(third).String(), "454 4.7.0 Too many failed logins, try again later"; got != want {
		t.Errorf("from elsewhere: %s, want %s", got, want)
	}
	if got := login(home); got.Code != 235 {
		t.Errorf("from where it logged in before: %s", got)
	}
}

// TestPassthroughWithoutAnEnd: a login that the upstream took and that is
// refused here need not have anything to close.
func TestPassthroughWithoutAnEnd(t *testing.T) {
	t.Parallel()
	conf := (&fakeUpstream{}).config()
	conf.Login = func(context.Context, string, string) (relay.Sender, func(), reply.Reply, error) {
		return nil, nil, reply.Reply{Code: 235}, nil
	}
	conf.Users = newUsers(t, Rate{}, testUsers())
	p := NewPassthrough(conf)
	p.delay = noDelay
	_, err := p.Authenticate(t.Context(), credentials("nobody", "x", home))
	if got := reply.For(err).String(); err == nil || got != errFailed.Reply.String() {
		t.Errorf("got %v, want %s", err, errFailed.Reply)
	}
	if !strings.Contains(err.Error(), "users_file does not list it") {
		t.Errorf("the log does not learn why: %v", err)
	}
}

// TestPassthroughWithoutUsersTracks: where there is no users file a login has
// the settings of nobody, with tracking.
func TestPassthroughWithoutUsersTracks(t *testing.T) {
	t.Parallel()
	p := NewPassthrough((&fakeUpstream{reply: reply.Reply{Code: 235}}).config())
	who, err := p.Authenticate(t.Context(), credentials("Ann:X-MSYS-SUBACCOUNT=3", "x", home))
	if err != nil || who.User.Name != "ann" || !who.User.Tracking || who.User.Subaccount != 3 {
		t.Errorf("got %+v, %v", who, err)
	}
}
