package gateway

import (
	"context"
	"errors"
	"slices"

	"postern/cmd/postern/config"
	"postern/relay"
	"postern/smtpd/auth"
)

// userList keeps the users in use: those of the configuration, and those of the
// users file, which is read again when it changes.
type userList struct {
	g     *Gateway
	users *auth.Users
	watch usersWatch
}

// addUsers adds the users of a configuration.
func (g *Gateway) addUsers(users *auth.Users) {
	u := &userList{g: g, users: users}
	g.reloadables = append(g.reloadables, u)
	g.everyRound(u.look)
}

// prepare implements reloadable.
func (u *userList) prepare(next *generation) (change, error) {
	use, err := u.users.Prepare(userEntries(next.cfg.Users))
	return change{use: use}, err
}

func userEntries(users []config.User) []auth.Entry {
	out := make([]auth.Entry, len(users))
	for i, u := range users {
		out[i] = auth.Entry{
			Password: u.Password,
			User: relay.User{
				Name:        u.Name,
				VirtualMTA:  u.VirtualMTA,
				Job:         u.Job,
				JobPrefix:   u.JobPrefix,
				Subaccount:  u.Subaccount,
				FromDomains: u.FromDomains,
				Tracking:    u.Tracking,
				DKIMKey:     u.DKIMKey,
			},
		}
	}

	return out
}

// errStillChanging: the file changed while it was read.
var errStillChanging = errors.New("the file is being written")

// errNoUsers: a list without users is likely one that is being written.
var errNoUsers = errors.New("it holds no user; SIGHUP or the next start takes it all the same")

// look puts a changed users file to use; a bad one is refused.
func (u *userList) look(context.Context) {
	cfg := u.g.current.Load().cfg
	file := cfg.Submission.UsersFile
	if !u.watch.look(file, cfg.UsersStamp, config.StampFile(file)) {
		return
	}

	n, err := u.reload(cfg)
	log := u.g.log
	switch {
	case errors.Is(err, errStillChanging):
		u.watch.again()
	case err != nil:
		log.Error("changed users file not taken, the old users go on", "file", file, "err", err)
	case n != nil:
		log.Info("users file taken", "file", file, "users", len(n.Users))
	}
}

// reload reads the users file of a configuration anew and puts the users to
// use. It returns nil where another configuration came in between.
func (u *userList) reload(cfg *config.Loaded) (*config.Loaded, error) {
	u.g.reloading.Lock()
	defer u.g.reloading.Unlock()

	old := u.g.current.Load()
	if old.cfg != cfg {
		return nil, nil //nolint:nilnil // the reload has read it
	}

	n, problems := cfg.WithUsers()
	if config.StampFile(cfg.Submission.UsersFile) != n.UsersStamp {
		return nil, errStillChanging
	}
	fatal := problems.Fatal()
	reads := !slices.ContainsFunc(fatal, func(p config.Problem) bool { return p.File == cfg.Submission.UsersFile })
	if reads && len(n.Users) == 0 && len(cfg.Users) > 0 {
		return nil, errNoUsers
	}
	if len(fatal) > 0 {
		return nil, fatal
	}
	if err := u.users.Replace(userEntries(n.Users)); err != nil {
		return nil, err
	}

	u.g.current.Store(&generation{
		cfg:     n,
		keys:    old.keys,
		metrics: old.metrics,
	})
	return n, nil
}

// usersWatch decides when a changed users file is read.
type usersWatch struct {
	file          string
	tried         config.FileStamp // what was read last, whatever came of it
	inUse         config.FileStamp // what the users in use were read from
	pending       config.FileStamp // what the last look saw, where that is news
	pendingExists bool
}

// look reports whether the file is to be read: it is another than the one that
// was read last, and it has stood still since the look before, for it may be
// one that is being written.
func (w *usersWatch) look(file string, inUse, now config.FileStamp) bool {
	if file != w.file || inUse != w.inUse { // a reload has read one
		*w = usersWatch{
			file:  file,
			tried: inUse,
			inUse: inUse,
		}
	}

	switch {
	case now == w.tried:
		w.pendingExists = false
		return false
	case !w.pendingExists || now != w.pending:
		w.pending = now
		w.pendingExists = true
		return false
	}

	w.tried = now
	w.pendingExists = false
	return true
}

// again has the file read once more, where it changed while it was read.
func (w *usersWatch) again() { w.tried = w.inUse }
