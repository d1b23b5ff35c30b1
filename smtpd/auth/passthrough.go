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

// Passthrough authenticates clients at the upstream (submission.auth =
// "upstream"): each session logs in there with the client's credentials, and its
// mail goes over that connection. Failed logins are bounded here, as with a users
// file. It is safe for concurrent use.
type Passthrough struct {
	cfg      PassthroughConfig
	throttle *throttle
	delay    func(context.Context, time.Duration)
}

// PassthroughConfig is what a Passthrough needs.
type PassthroughConfig struct {
	// Login logs in at the upstream. answer is the upstream's reply, 235 where it
	// accepts the credentials; err says that it could not be asked. end is called
	// at the end of the session, and may be nil.
	Login func(ctx context.Context, user, password string) (
		via relay.Sender, end func(), answer reply.Reply, err error)
	// Offered returns the mechanisms that the upstream offered last, if it was
	// connected to before.
	Offered func() (mechanisms []string, known bool)
	// Users has the settings of users; nil: there are none.
	Users Settings
	// DefaultUser names the user whose settings apply to logins that Users does
	// not list. Without it they get default settings, unless any user is held to
	// domains.
	DefaultUser string
	Rate        Rate
}

// Settings finds the settings of users; *Users is one.
type Settings interface {
	Directory
	// HasFromDomains reports whether any user is held to domains.
	HasFromDomains() bool
}

// loginTimeout is how long a client may wait for the answer to its credentials.
const loginTimeout = time.Minute

// NewPassthrough returns a Passthrough.
func NewPassthrough(c PassthroughConfig) *Passthrough {
	return &Passthrough{
		cfg:      c,
		throttle: newThrottle(c.Rate, time.Now),
		delay:    wait,
	}
}

// Mechanisms implements Authenticator. It returns those that the upstream
// offers, too; all where it was not connected to yet.
func (p *Passthrough) Mechanisms() (out []string) {
	offered, known := p.cfg.Offered()
	for _, m := range []string{sasl.Plain, sasl.Login} {
		if !known || slices.Contains(offered, m) {
			out = append(out, m)
		}
	}

	return out
}

// Authenticate implements Authenticator. The upstream gets the name as the
// client gave it, without a subaccount.
func (p *Passthrough) Authenticate(ctx context.Context, l Credentials) (*Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()

	name, malformed := parseLogin(l)
	a, err := p.throttle.begin(ctx, l.Source, name.key())
	if err != nil {
		return nil, notBegun(err)
	}
	defer a.withdraw() // where nobody knows whether it was right
	if malformed != nil {
		return nil, p.fail(ctx, a, errFailed.Reply, malformed)
	}

	via, end, answer, err := p.cfg.Login(ctx, name.user, l.Password)
	if err != nil {
		return nil, notNow(err)
	}
	if answer.Code == 235 {
		return p.accept(ctx, a, name, &Identity{Via: via, Close: end})
	}

	cause := fmt.Errorf("upstream answered %s", answer)
	switch {
	case answer.Code/100 == 5 && !betweenServers(answer.Code):
		return nil, p.fail(ctx, a, p.refusal(answer), cause)
	case answer.Code/100 == 4:
		return nil, &reply.Fault{
			Class: reply.Temporary,
			Reply: answer,
			Err:   cause,
		}
	}

	return nil, notNow(cause)
}

// betweenServers reports whether a refusal of AUTH is not about the client's
// credentials: the upstream does not know the command or the mechanism, or
// requires TLS (RFC 4954 section 6).
func betweenServers(code int) bool {
	return slices.Contains([]int{500, 502, 503, 504, 530, 534, 538}, code)
}

// refusal returns the reply to credentials that the upstream refused. It is the
// upstream's, unless credentials that it accepts may be refused here: then the
// reply would tell right passwords from wrong ones.
func (p *Passthrough) refusal(answer reply.Reply) reply.Reply {
	if _, ok := p.unlisted(); ok {
		return answer
	}

	return errFailed.Reply
}

// fail counts a failure, waits, longer after each, and returns its fault.
func (p *Passthrough) fail(ctx context.Context, a *attempt, answer reply.Reply, cause error) error {
	p.delay(ctx, delayFor(a.fail()))

	return &reply.Fault{
		Class: reply.Permanent,
		Reply: answer,
		Err:   cause,
	}
}

// errNoSettings is the cause where a login that the upstream accepts is refused.
var errNoSettings = errors.New(
	"the upstream accepted the login, but users_file does not list it, and there is no default_user")

// accept accepts a login that the upstream accepted, if there are settings for
// it.
func (p *Passthrough) accept(ctx context.Context, a *attempt, name loginName, who *Identity) (*Identity, error) {
	user, ok := p.settings(name)
	if !ok {
		if who.Close != nil {
			who.Close()
		}
		return nil, p.fail(ctx, a, errFailed.Reply, errNoSettings)
	}

	a.succeed()
	who.User = user

	return who, nil
}

// settings returns the settings of a login, if there are any.
func (p *Passthrough) settings(name loginName) (relay.User, bool) {
	if p.cfg.Users != nil {
		if listed, ok := p.cfg.Users.Lookup(name.user); ok {
			return name.withSubaccount(listed), true
		}
	}

	user, ok := p.unlisted()
	user.Name = name.key()

	return name.withSubaccount(user), ok
}

// unlisted returns the settings of logins that are not listed. Where any user is
// held to domains there are none but the default user's: another spelling of a
// name must not lift the limit.
func (p *Passthrough) unlisted() (relay.User, bool) {
	defaults := relay.User{Tracking: true}
	if p.cfg.Users == nil {
		return defaults, true
	}
	if p.cfg.DefaultUser != "" {
		return p.cfg.Users.Lookup(p.cfg.DefaultUser)
	}

	return defaults, !p.cfg.Users.HasFromDomains()
}
