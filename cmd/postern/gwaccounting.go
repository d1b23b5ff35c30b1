package main

import (
	"context"
	"io"
	"path/filepath"

	"postern/cmd/postern/config"
	"postern/tracking/accounting"
)

// accountingConfig is [accounting].
func (g *gateway) accountingConfig() accounting.Config {
	a := g.c.Accounting
	return accounting.Config{
		Globs:   a.Files,
		Dir:     filepath.Join(g.c.StateDir, "accounting"),
		PipeDir: pipeDir(g.c.Config),
		DropDir: a.PipeDir,
		Settings: accounting.Settings{
			Classes:         a.BounceClass,
			Verify:          g.ourID,
			MessageIDHeader: g.messageIDHeader,
		},
		Events:  g.recorder(),
		Log:     g.log,
		Metrics: g.reg,
	}
}

func pipeDir(c *config.Config) string { return filepath.Join(c.StateDir, "accounting", "pipe") }

// servePipe is [accounting] pipe = true: this process's standard input.
func (g *gateway) servePipe(ctx context.Context, in io.Reader) error {
	err := accounting.Pipe(ctx, in, accounting.PipeTarget{Dir: pipeDir(g.c.Config)}, g.log)
	if err == nil && ctx.Err() == nil {
		g.log.Warn("accounting.pipe: standard input has ended, no more records come that way")
	}
	return err
}
