package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"postern/cmd/postern/config"
	"postern/cmd/postern/gateway"
)

type serveCmd struct {
	configFile
	Role string `enum:"all,tracker" default:"all" help:"Role: all or tracker (serves links only)."`
}

func (c *serveCmd) Help() string { return "Example: postern serve --config ./postern.toml" }

func (c *serveCmd) Run(e *env) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // first: until then it would end the process
	defer signal.Stop(hup)

	l, problems := c.read(config.Role(c.Role))
	level := new(slog.LevelVar)
	out := e.useLog(logConfig(l.Log, level))
	for _, p := range problems {
		fmt.Fprintln(e.stderr, p)
	}
	if n := len(problems.Fatal()); n > 0 {
		return fmt.Errorf("%d problems in the configuration", n)
	}

	slog.SetDefault(out.Logger()) // libraries that know no other log must not block either
	g, err := gateway.New(l, out.Logger(), level)
	if err != nil {
		return err
	}
	out.Register(g.Registry())

	gateway.BoundHeap(gateway.HeapBudget(l.Config))
	return g.ServeWithReload(e.ctx, hup)
}
