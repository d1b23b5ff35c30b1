package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo"
	"postern/cmd/postern/gateway"
	"postern/cmd/postern/logging"
)

type demoCmd struct {
	StateDir string `type:"path" help:"Where keys, spool and configuration stay; a temporary folder otherwise." placeholder:"DIR"`
	Verbose  bool   `short:"v" help:"Show the gateway's log."`
}

func (c *demoCmd) Help() string {
	return "Starts a submission listener, a sink in the place of PowerMTA, the tracker, an ingest endpoint " +
		"and a page that shows what arrives. Ctrl-C ends it."
}

func (c *demoCmd) Run(e *env) error {
	dir := c.StateDir
	if dir == "" {
		tmp, err := os.MkdirTemp("", "postern-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}

	// A terminal's Ctrl-C reaches `go run` and us alike; HUP is a closed window.
	ctx, stop := signal.NotifyContext(e.ctx, syscall.SIGHUP)
	defer stop()

	d, err := demo.Start(ctx, dir)
	if err != nil {
		return err
	}
	defer d.Stop()

	logTo := e.stderr
	if !c.Verbose {
		f, err := os.OpenFile(filepath.Join(dir, "postern.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		logTo = f
	}

	loaded, problems := config.Load(d.ConfigFile, config.All)
	if f := problems.Fatal(); len(f) > 0 {
		return f
	}

	level := new(slog.LevelVar)
	lc := logConfig(loaded.Log, level)
	lc.Writer = logTo
	out := logging.New(lc)
	defer out.Close(flushWithin) //nolint:errcheck // there is nobody left to tell
	g, err := gateway.New(loaded, out.Logger(), level)
	if err != nil {
		return err
	}

	demo.NewDemoPage(d.Box, d.Record).Register(g.Admin.Open)
	d.Announce(e.stdout, g)
	err = g.Serve(ctx)
	fmt.Fprintln(e.stdout, "\nStopped.")
	return err
}
