package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-sasl"

	"postern/relay"

	"postern/relay/reply"
)

// Passthrough authenticates clients at the upstream (auth = "upstream"): each
// session logs in there with the client's credentials, and its mail goes over
// that connection. Guessing is throttled here as with a users file. It is safe
// for concurrent use.
type Passthrough struct {
	c        PassthroughConfig
	throttle *throttle
	delay    func(context.Context, time.Duration)
}

// PassthroughConfig is what a Passthrough needs.
type PassthroughConfig struct {
	// Login asks the upstream; reply is its answer, 235 where it takes the
	// credentials, and the error says that it could not be asked.
	Login func(ctx context.Context, user, password string) (
		via relay.Sender, end func(), answer reply.Reply, err error)
	// Offered are the upstream's mechanisms, as it offered them last.
	Offered func() (mechanisms []string, known bool)
	Users   Settings // settings of users, where it has them; may be nil
	// DefaultUser names the user whose settings a login gets that Users does
	// not list. Empty: its own, unless any user is held to domains.
	DefaultUser string
	Rate        Rate
}

// Settings finds the settings of users; *Users is one.
type Settings interface {
	Directory
	// HasFromDomains reports whether any user is held to domains.
	HasFromDomains() bool
}

// loginTimeout is how long a client may wait for the upstream's word.
const loginTimeout = time.Minute

// NewPassthrough returns a Passthrough.
func NewPassthrough(c PassthroughConfig) *Passthrough {
	return &Passthrough{c: c, throttle: newThrottle(c.Rate, time.Now), delay: wait}
}

// Mechanisms implements Authenticator: the upstream's, of those that are known
// here; both where it has not been spoken to yet.
func (p *Passthrough) Mechanisms() (out []string) {
	offered, known := p.c.Offered()
	for _, m := range []string{sasl.Plain, sasl.Login} {
		if !known || slices.Contains(offered, m) {
			out = append(out, m)
		}
	}

	return out
}

// Authenticate implements Authenticator. The upstream gets the name as the
// client gave it, without a subaccount's suffix.
func (p *Passthrough) Authenticate(ctx context.Context, l Credentials) (*Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()

	name, malformed := parseLogin(l)
	a, err := p.throttle.begin(ctx, l.Source, name.key())
	if err != nil {
		return nil, errNotBegun(err)
	}
	defer a.withdraw() // where nobody knows whether it was right
	if malformed != nil {
		return nil, p.fail(ctx, a, errFailed.Reply, malformed)
	}

	via, end, answer, err := p.c.Login(ctx, name.user, l.Password)
	switch {
	case err != nil:
		return nil, errNotNow("Temporary authentication failure", err)
	case answer.Code == 235:
		return p.accept(ctx, a, name, &Identity{Via: via, Close: end})
	case answer.Code/100 == 5 && !ours(answer.Code):
		return nil, p.fail(ctx, a, p.refusal(answer), fmt.Errorf("upstream answered %s", answer))
	case answer.Code/100 == 4:
		return nil, &reply.Fault{
			Class: reply.Temporary,
			Reply: answer,
			Err:   fmt.Errorf("upstream answered %s", answer),
		}
	}

	return nil, errNotNow("Temporary authentication failure", fmt.Errorf("upstream answered %s", answer))
}

// ours reports whether a refusal of AUTH is between the upstream and us: it
// does not know the command or the mechanism, or wants TLS (RFC 4954 section 6).
func ours(code int) bool {
	return slices.Contains([]int{500, 502, 503, 504, 530, 534, 538}, code)
}

// refusal is what a client hears whose credentials the upstream refused: its
// words, but where a login that it takes may be refused here, for then they
// would tell a right password from a wrong one.
func (p *Passthrough) refusal(answer reply.Reply) reply.Reply {
	if _, ok := p.unlisted(); ok {
		return answer
	}

	return errFailed.Reply
}

// fail counts a failure and answers it, a little later each time.
func (p *Passthrough) fail(ctx context.Context, a *attempt, answer reply.Reply, cause error) error {
	p.delay(ctx, delayFor(a.fail()))

	return &reply.Fault{Class: reply.Permanent, Reply: answer, Err: cause}
}

// accept lets a login in that the upstream took, if there are settings for it.
func (p *Passthrough) accept(ctx context.Context, a *attempt, name loginName, who *Identity) (*Identity, error) {
	user, ok := p.settings(name)
	if !ok {
		if who.Close != nil {
			who.Close()
		}
		return nil, p.fail(ctx, a, errFailed.Reply,
			errors.New("the upstream took the login, but users_file does not list it, and there is no default_user"))
	}

	a.succeed()
	who.User = user

	return who, nil
}

// settings returns those of a login.
func (p *Passthrough) settings(name loginName) (relay.User, bool) {
	if p.c.Users != nil {
		if listed, ok := p.c.Users.Lookup(name.user); ok {
			return name.withSubaccount(listed), true
		}
	}

	user, ok := p.unlisted()
	user.Name = name.key()

	return name.withSubaccount(user), ok
}

// unlisted returns the settings of logins that are not listed. Where any user
// is held to domains there are none, but for those of the default user: a limit
// must not end with another spelling of a name.
func (p *Passthrough) unlisted() (relay.User, bool) {
	switch {
	case p.c.Users == nil:
		return relay.User{Tracking: true}, true
	case p.c.DefaultUser != "":
		return p.c.Users.Lookup(p.c.DefaultUser)
	}

	return relay.User{Tracking: true}, !p.c.Users.HasFromDomains()
}
