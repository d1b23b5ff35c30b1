package main

import (
	"fmt"
	"io"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/online"
)

type checkCmd struct {
	configFile
	Role   string `enum:"all,tracker" default:"all" help:"Role to check: all or tracker."`
	Strict bool   `help:"Treat warnings as errors."`
	Online bool   `help:"Also check upstreams, DNS, tracking hosts and the ingest service."`
	DNS    string `name:"dns" help:"DNS server for --online. Default: the system's." placeholder:"HOST:PORT"`
}

func (c *checkCmd) Help() string {
	return `Prints errors (what cannot work) and warnings (what is dangerous) as
file:line: key: reason, then a summary of the configuration.
Exit status 1 if there are errors, or warnings with --strict.
Example: postern check --online`
}

func (c *checkCmd) Run(e *env) error {
	l, problems := c.read(config.Role(c.Role))
	for _, p := range problems {
		fmt.Fprintln(e.stderr, p)
	}

	fatal := len(problems.Fatal())
	warnings := len(problems) - fatal
	if fatal > 0 {
		return fmt.Errorf("%s in the configuration", count(fatal, "error"))
	}

	for _, p := range checkLimits(l) {
		fmt.Fprintln(e.stderr, p) // no matter for --strict: it is this shell's
	}
	printSummary(e.stdout, l)
	if c.Online {
		if err := online.Check(e.ctx, e.stdout, l, c.DNS); err != nil {
			return err
		}
	}
	if c.Strict && warnings > 0 {
		return fmt.Errorf("%s in the configuration, and --strict", count(warnings, "warning"))
	}

	return nil
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}

	return fmt.Sprintf("%d %ss", n, noun)
}

func printSummary(out io.Writer, l *config.Loaded) {
	for _, s := range l.Summary(time.Now()) {
		fmt.Fprintf(out, "%s\n", s.Title)
		for _, line := range s.Lines {
			fmt.Fprintf(out, "  %s\n", line)
		}
	}
}

// checkLimits warns of connections that the limit of open files does not
// allow. That is the limit here; the one of the service may differ.
func checkLimits(l *config.Loaded) config.Problems {
	limit, err := config.DescriptorLimit()
	if err != nil {
		return nil
	}

	_, problems := l.Connections(limit)
	for i := range problems {
		problems[i].Warn = true
		problems[i].Reason = "if the service has the limits of this shell: " + problems[i].Reason
	}
	return problems
}
