package gateway

import (
	"errors"
	"slices"

	"postern/cmd/postern/config"
)

// usersWatch decides when a changed users file is read.
type UsersWatch struct {
	file          string
	tried         config.FileStamp // what was read last, whatever came of it
	inUse         config.FileStamp // what the users in use were read from
	pending       config.FileStamp // what the last look saw, where that is news
	pendingExists bool
}

// look reports whether the file is to be read: it is another than the one that
// was read last, and it has stood still since the look before, for it may be
// one that is being written.
func (w *UsersWatch) Look(file string, inUse, now config.FileStamp) bool {
	if file != w.file || inUse != w.inUse { // a reload has read one
		*w = UsersWatch{file: file, tried: inUse, inUse: inUse}
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
func (w *UsersWatch) Again() { w.tried = w.inUse }

// errStillChanging: the file changed while it was read.
var errStillChanging = errors.New("the file is being written")

// errNoUsers: a list without users is likely one that is being written.
var errNoUsers = errors.New("it holds no user; SIGHUP or the next start takes it all the same")

// lookAtUsers takes the users file where it has changed; a bad one is not
// taken.
func (g *Gateway) LookAtUsers(w *UsersWatch) {
	if g.Users == nil {
		return
	}

	l := g.Live.Load().C
	file := l.Submission.UsersFile
	if !w.Look(file, l.UsersStamp, config.StampFile(file)) {
		return
	}

	n, err := g.TakeUsers(l)
	switch {
	case errors.Is(err, errStillChanging):
		w.Again()
	case err != nil:
		g.log.Error("changed users file not taken, the old users go on", "file", file, "err", err)
	case n != nil:
		g.log.Info("users file taken", "file", file, "users", len(n.Users))
	}
}

// takeUsers reads the users file of the configuration l anew and puts the
// users to use, unless another configuration came in between.
func (g *Gateway) TakeUsers(l *config.Loaded) (*config.Loaded, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()

	old := g.Live.Load()
	if old.C != l {
		return nil, nil //nolint:nilnil // the reload has read it
	}

	n, problems := l.WithUsers()
	if config.StampFile(l.Submission.UsersFile) != n.UsersStamp {
		return nil, errStillChanging
	}
	fatal := problems.Fatal()
	reads := !slices.ContainsFunc(fatal, func(p config.Problem) bool { return p.File == l.Submission.UsersFile })
	if reads && len(n.Users) == 0 && len(l.Users) > 0 {
		return nil, errNoUsers
	}
	if len(fatal) > 0 {
		return nil, fatal
	}
	if err := g.Users.Replace(UserEntries(n.Users)); err != nil {
		return nil, err
	}

	now := *old
	now.C = n
	g.Live.Store(&now)
	return n, nil
}
