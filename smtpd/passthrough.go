package smtpd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"

	"postern/relay"
	"postern/relay/envelope"
)

// Passthrough has the upstream decide who may submit (auth = "upstream"): each
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
	Login func(ctx context.Context, user, password string) (via relay.Sender, close func(), reply envelope.Reply, err error)
	// Offered are the upstream's mechanisms, as it offered them last.
	Offered func() (mechanisms []string, known bool)
	Users   Directory // settings of users, where it has them
	Rate    Rate
}

// loginTimeout is how long a client may wait for the upstream's word.
const loginTimeout = time.Minute

// NewPassthrough makes a Passthrough.
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

// Authenticate implements Authenticator.
func (p *Passthrough) Authenticate(ctx context.Context, l Login) (*Identity, error) {
	name, suffix, _ := strings.Cut(l.Name, subaccountSuffix)
	if p.throttle.locked(l.Source, name) {
		return nil, errNotNow("Too many failed logins, try again later", errLocked)
	}
	user := relay.User{Name: name, Tracking: true}
	if p.c.Users != nil {
		if u, ok := p.c.Users.Lookup(name); ok {
			user = u
		}
	}
	if !withSubaccount(&user, l.Name, suffix) {
		return nil, errFailed
	}
	asking, cancel := context.WithTimeout(ctx, loginTimeout)
	via, end, reply, err := p.c.Login(asking, name, l.Password)
	cancel()
	switch {
	case err != nil:
		return nil, errNotNow("Temporary authentication failure", err)
	case reply.Code == 235:
		p.throttle.succeeded(l.Source, name)
		return &Identity{User: user, Via: via, Close: end}, nil
	case reply.Code/100 == 5:
		p.delay(ctx, delayFor(max(1, p.throttle.fail(l.Source, name))))
		return nil, &envelope.Fault{Class: envelope.Permanent, Reply: reply, Err: fmt.Errorf("upstream answered %s", reply)}
	case reply.Code/100 == 4:
		return nil, &envelope.Fault{Class: envelope.Temporary, Reply: reply, Err: fmt.Errorf("upstream answered %s", reply)}
	}
	return nil, errNotNow("Temporary authentication failure", fmt.Errorf("upstream answered %s", reply))
}
