package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"postern/cmd/postern/config"
	"postern/tracking/accounting"
)

// PipeDir is the folder where records wait that came through a pipe.
func PipeDir(c *config.Config) string { return filepath.Join(c.StateDir, "accounting", "pipe") }

// addAccounting adds the reader of PowerMTA's accounting records. A pipe may
// bring records at any time, so that there always is one.
func (g *Gateway) addAccounting(ev *events) error {
	a := g.cfg.Accounting
	if err := preparePipeDir(a.PipeDir, a.PipeGroup); err != nil {
		return named("accounting.pipe_dir", err)
	}
	follower, err := accounting.New(g.accountingConfig(ev))
	if err != nil {
		return err
	}
	g.add(intake, "accounting", follower.Serve)

	dir := PipeDir(g.cfg.Config)
	if a.Pipe {
		g.add(intake, "accounting.pipe", func(ctx context.Context) error {
			return servePipe(ctx, os.Stdin, dir, g.log)
		})
	}
	g.bindSocket(socket{
		key:   "accounting.pipe_socket",
		path:  a.PipeSocket,
		group: a.PipeGroup,
		stage: intake,
		serve: func(ctx context.Context, l net.Listener) error {
			return accounting.HandOver(ctx, l, dir, g.log)
		},
	})

	return nil
}

func (g *Gateway) accountingConfig(ev *events) accounting.Config {
	c := g.cfg.Accounting
	return accounting.Config{
		Globs:   c.Files,
		Dir:     filepath.Join(g.cfg.StateDir, "accounting"),
		PipeDir: PipeDir(g.cfg.Config),
		DropDir: c.PipeDir,
		Settings: accounting.Settings{
			Classes:         c.BounceClass,
			Verify:          g.isOurID,
			MessageIDHeader: g.messageIDHeader,
		},
		Events:  ev.log,
		Log:     g.log,
		Metrics: g.reg,
	}
}

// isOurID reports whether a message id verifies under the keys in use.
func (g *Gateway) isOurID(id string) bool {
	_, err := g.current.Load().keys.ParseID(id)
	return err == nil
}

// messageIDHeader is the field that holds message ids now: a reload may change it.
func (g *Gateway) messageIDHeader() string {
	return string(g.current.Load().cfg.Relay.MessageIDHeader)
}

// servePipe is [accounting] pipe = true: this process's standard input.
func servePipe(ctx context.Context, in io.Reader, dir string, log *slog.Logger) error {
	err := accounting.Pipe(ctx, in, accounting.PipeTarget{Dir: dir}, log)
	if err == nil && ctx.Err() == nil {
		log.Warn("accounting.pipe: standard input has ended, no more records come that way")
	}

	return err
}
