package config

import "fmt"

// check validates the bound configuration beyond single values, makes paths
// absolute, and reads the files that are named, so that `postern check` reports
// what `postern serve` would. Each section has its rules beside its struct.
func (b *binder) check(c *Config, role Role) {
	b.checkGlobal(c)
	b.checkLog(&c.Log)
	b.checkTracking(&c.Tracking)
	if role == All || c.Tracking.Web.TLS {
		b.checkCerts(c)
	}

	if role == All {
		b.checkSubmission(&c.Submission)
		b.checkRelay(&c.Relay)
		b.checkPassthrough(c)
		b.checkVirtualMTAs(c.VirtualMTA, b.checkPools(c.Pools))
		b.checkRewrite(&c.Relay)
		b.checkTrackingRules(&c.Tracking)
		b.checkDKIM(c)
		b.checkReports(c)
	}
	if role != All && len(c.Tracking.Web.Listen) == 0 {
		b.problem("tracking.web.listen", `is empty, write for example ["0.0.0.0:8080"]`)
	}

	b.checkAccounting(&c.Accounting)
	b.checkSignals(&c.Signals)
	b.checkSockets(c)
	b.checkListeners(c, role)
	b.checkAccess(c, role)
	b.checkSecrets(c)
}

// checkGlobal checks the keys above the first table.
func (b *binder) checkGlobal(c *Config) {
	if c.Hostname == "" {
		b.problem("hostname", `missing; write for example hostname = "mail.example.com"`)
	}

	c.StateDir = b.Path(c.StateDir)
	if c.StateDir == "" {
		b.problem("state_dir", "missing; the folder for spools and certificates")
	} else {
		b.checkStateDir(c.StateDir)
	}

	if c.MemoryBudget > 0 && c.MemoryBudget < 2*c.Submission.MaxMessageSize {
		b.problem("memory_budget", "smaller than twice submission.max_message_size: such a message could never come in")
	}
}

// oneOf checks that the value of a key is one of words.
func (b *binder) oneOf(key, v string, words ...string) {
	if err := oneOf(v, words...); err != nil {
		b.problem(key, "%v, not %q", err, v)
	}
}

// positive checks that the value of a key is greater than zero.
func (b *binder) positive(key string, n int64) {
	if n <= 0 {
		b.problem(key, "must be greater than zero")
	}
}

// keyOf returns the key of the i-th element of a list.
func keyOf(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
