package main

import (
	"os/signal"
	"syscall"

	"postern/cmd/postern/demo"
)

type demoCmd struct {
	StateDir string `type:"path" help:"Folder for keys, spools and configuration. Default: a temporary one." placeholder:"DIR"`
	Verbose  bool   `short:"v" help:"Print the gateway's log."`
}

func (c *demoCmd) Help() string {
	return "Starts a gateway, an SMTP sink in PowerMTA's place, an ingest endpoint and a page that shows what arrives.\n" +
		"Without --state-dir everything is kept in a temporary folder. Ctrl-C ends it."
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
