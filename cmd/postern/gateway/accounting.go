package gateway

import (
	"context"
	"io"
	"path/filepath"

	"postern/cmd/postern/config"
	"postern/tracking/accounting"
)

// accountingConfig is [accounting].
func (g *Gateway) AccountingConfig() accounting.Config {
	a := g.C.Accounting
	return accounting.Config{
		Globs:   a.Files,
		Dir:     filepath.Join(g.C.StateDir, "accounting"),
		PipeDir: PipeDir(g.C.Config),
		DropDir: a.PipeDir,
		Settings: accounting.Settings{
			Classes:         a.BounceClass,
			Verify:          g.OurID,
			MessageIDHeader: g.MessageIDHeader,
		},
		Events:  g.Recorder(),
		Log:     g.log,
		Metrics: g.Reg,
	}
}

func PipeDir(c *config.Config) string { return filepath.Join(c.StateDir, "accounting", "pipe") }

// servePipe is [accounting] pipe = true: this process's standard input.
func (g *Gateway) ServePipe(ctx context.Context, in io.Reader) error {
	err := accounting.Pipe(ctx, in, accounting.PipeTarget{Dir: PipeDir(g.C.Config)}, g.log)
	if err == nil && ctx.Err() == nil {
		g.log.Warn("accounting.pipe: standard input has ended, no more records come that way")
	}
	return err
}
