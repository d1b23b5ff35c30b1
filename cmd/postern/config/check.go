package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"postern/tracking/event"
)

// check holds the bound configuration to the rules that go beyond one value,
// makes paths absolute, and reads the files that it names, so that `check`
// says what `serve` would.
func (b *binder) check(c *Config, role Role) {
	word := func(key, v string, words ...string) {
		if err := oneOf(v, words...); err != nil {
			b.problem(key, "%v, not %q", err, v)
		}
	}

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

	word("log.level", c.Log.Level, "debug", "info", "warn", "error")
	word("log.format", c.Log.Format, "text", "json")

	b.checkTracking(c)
	if role == All || c.Tracking.Web.TLS {
		b.checkCerts(c, word)
	}

	if role == All {
		b.checkSubmission(&c.Submission, word)
		b.checkRelay(&c.Relay, word)
		b.checkPassthrough(c)
		b.checkRoutes(c)
		b.checkDKIM(c, word)
		b.checkReports(c)
	} else if len(c.Tracking.Web.Listen) == 0 {
		b.problem("tracking.web.listen", `is empty, write for example ["0.0.0.0:8080"]`)
	}

	if c.Signals.Enabled && c.Signals.APIKey == "" {
		b.problem("signals.api_key", "missing; signals.enabled wants the API key, 40 hex digits")
	}

	for i := range c.Accounting.Files {
		c.Accounting.Files[i] = b.Path(c.Accounting.Files[i])
		if _, err := filepath.Match(c.Accounting.Files[i], ""); err != nil {
			b.problem(keyOf("accounting.files", i), "%v", err)
		}
	}

	for name, class := range c.Accounting.BounceClass {
		if !event.KnownBounceClass(class) {
			b.problem("accounting.bounce_class."+name, "%d is not a bounce class, which are 1, 10, 20 to 25, 30, 40, "+
				"50 to 54, 60, 70, 80, 90 and 100", class)
		}
	}

	if !c.Signals.Enabled && c.Signals.APIKey != "" {
		b.warn("signals.api_key", "signals.enabled is false: events are kept, and none is uploaded")
	}

	word("signals.prefetch", c.Signals.Prefetch, "mark", "drop", "person")
	word("signals.scanner", c.Signals.Scanner, "mark", "drop", "person")
	word("signals.privacy_policy", c.Signals.PrivacyPolicy, "retain", "sha1")

	for i, class := range c.Signals.Report {
		if _, err := event.Select([]string{class}); err != nil {
			b.problem(keyOf("signals.report", i), "%v; write some of %s", err, strings.Join(reportClasses, ", "))
		}
	}

	for i, f := range c.Signals.Filters {
		if f.SenderOrFrom == "" {
			b.problem(keyOf("signals.filter", i)+".sender_or_from", `missing; a domain, "*.domain" or "*"`)
		}
	}

	if c.Signals.UploadURL == "" {
		b.problem("signals.upload_url", "must not be empty")
	}
	if s := c.Signals.BatchSize; s < 1<<10 || s > 5_000_000 {
		b.problem("signals.batch_size", `want from "1KiB" to "5MB", the API's limit`)
	}

	b.checkSockets(c)
	b.checkGlobs(c.Accounting)
	b.checkListeners(c, role)
	b.checkAccess(c, role)
	b.checkSecrets(c)

	if c.Signals.BatchAge <= 0 {
		b.problem("signals.batch_age", `must be greater than zero, for example "30s"`)
	}
}

func keyOf(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
