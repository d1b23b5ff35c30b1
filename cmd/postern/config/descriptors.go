package config

import (
	"fmt"
	"syscall"
)

// Descriptors that are reserved, so that connections of clients never use up what the
// gateway itself needs.
const (
	diskDescriptors  = 48 // segments, cursors, ledgers, accounting files
	otherDescriptors = 32 // listeners, standard streams, uploads, the resolver

	// AdminConnections and ACMEConnections bound the connections to the admin
	// listener, and to those that only answer ACME's challenges.
	AdminConnections = 32
	ACMEConnections  = 16

	// SocketConnections bounds the connections to each of the Unix sockets.
	SocketConnections = 16
	sockets           = 2 // admin.socket, accounting.pipe_socket

	// leastConnections is the least number of connections of a useful listener.
	leastConnections = 8
)

// Connections is how many connections of clients may be open at once.
type Connections struct {
	Submission int // all listeners of submission together
	Reports    int
	Tracker    int
	PerSource  int  // to submission, and to reports, from one source
	Cut        bool // fewer than the configuration asks for
}

// DescriptorLimit raises the limit of open files (RLIMIT_NOFILE) as far as the process
// may, and returns it.
func DescriptorLimit() (uint64, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}

	if r.Cur < r.Max {
		higher := syscall.Rlimit{Cur: r.Max, Max: r.Max}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &higher) == nil {
			return higher.Cur, nil
		}
	}

	return r.Cur, nil
}

// keptDescriptors returns how many descriptors are not for connections of clients.
func (l *Loaded) keptDescriptors() uint64 {
	kept := uint64(diskDescriptors + otherDescriptors + sockets*SocketConnections)
	if l.Admin.Listen != "" {
		kept += AdminConnections
	}
	if l.Certs.Mode == "acme" {
		kept += 2 * ACMEConnections
	}
	if l.Role == All {
		kept += uint64(l.Relay.MaxConnections) * uint64(len(l.Relay.Upstream))
	}

	return kept
}

// Connections returns how many connections of clients a limit of open files allows:
// those of the configuration or, if the limit is lower, a share for each listener in
// the same proportion. Fewer connections than configured are a problem, which is a
// warning as long as every listener has a useful number.
func (l *Loaded) Connections(limit uint64) (Connections, Problems) {
	c := Connections{
		Tracker:   l.Tracking.Web.MaxConnections,
		PerSource: l.Submission.MaxConnectionsPerSource,
	}
	each := uint64(1) // descriptors for a submission session
	if l.Role == All {
		c.Submission = l.Submission.MaxConnections
		if l.Submission.Auth == "upstream" {
			each = 2 // its own connection upstream
		}
		if l.Reports.On() {
			c.Reports = l.Submission.MaxConnections
		}
	}

	kept := l.keptDescriptors()
	wanted := each*uint64(c.Submission) + uint64(c.Reports) + uint64(c.Tracker)
	if kept+wanted <= limit {
		return c, nil
	}

	left := limit - min(kept, limit)
	share := func(n int) int { return int(float64(n) * float64(left) / float64(wanted)) }
	cut := Connections{
		Submission: share(c.Submission),
		Reports:    share(c.Reports),
		Tracker:    share(c.Tracker),
		Cut:        true,
	}
	cut.PerSource = min(c.PerSource, max(1, cut.Submission/2))

	text := fmt.Sprintf("the limit of open files is %d, and %d are kept for disk, upstream and administration: "+
		"%d connections of submission, %d of reports and %d of the tracker at once, not %d, %d and %d; "+
		"raise it to %d (LimitNOFILE=, ulimit -n)",
		limit, kept, cut.Submission, cut.Reports, cut.Tracker, c.Submission, c.Reports, c.Tracker, kept+wanted)
	p := l.problem("submission.max_connections", text)
	p.Warn = enough(cut.Submission, c.Submission) && enough(cut.Reports, c.Reports) && enough(cut.Tracker, c.Tracker)

	return cut, Problems{p}
}

// enough reports whether a listener has a useful number of connections left.
func enough(cut, wanted int) bool { return cut >= min(wanted, leastConnections) }

// problem returns a problem with a key of the configuration.
func (l *Loaded) problem(key, reason string) Problem {
	return Problem{
		File:   l.File,
		Line:   l.binder.line(key),
		Key:    key,
		Reason: reason,
	}
}
