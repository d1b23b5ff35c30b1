package main

import (
	"os/signal"
	"syscall"

	"postern/cmd/postern/demo"
)

type demoCmd struct {
	StateDir string `type:"path" help:"Where keys, spool and configuration stay; a temporary folder otherwise." placeholder:"DIR"`
	Verbose  bool   `short:"v" help:"Show the gateway's log."`
}

func (c *demoCmd) Help() string {
	return "Starts a submission listener, a sink in the place of PowerMTA, the tracker, an ingest endpoint and a page that shows what arrives. Ctrl-C ends it."
}

func (c *demoCmd) Run(e *env) error {
	// A terminal's Ctrl-C reaches `go run` and us alike; HUP is a closed window.
	ctx, stop := signal.NotifyContext(e.ctx, syscall.SIGHUP)
	defer stop()

	cfg := demo.Config{StateDir: c.StateDir, Out: e.stdout}
	if c.Verbose {
		cfg.Log = e.stderr
	}

	return demo.Run(ctx, cfg)
}
