package main

import (
	"log/slog"
	"time"

	"postern/cmd/postern/config"
)

// swap puts a configuration to use. Where it returns an error nothing has
// changed.
func (g *gateway) swap(n *live) error {
	if g.users != nil {
		if err := g.users.Replace(userEntries(n.c.Users)); err != nil {
			return err
		}
	}

	if n.useCerts != nil {
		n.useCerts()
	}
	setLevel(g.level, n.c.Config)
	old := g.live.Swap(n)
	g.totals.use(n.metrics, time.Now())
	if old != nil && old.pool != nil {
		old.pool.Retire()
	}

	return nil
}

func setLevel(v *slog.LevelVar, c *config.Config) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // checked with the configuration
	v.Set(level)
}

// reload reads and checks the whole configuration and puts it to use, or keeps
// the old one (house: all or nothing).
func (g *gateway) reload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()

	l, problems := config.Load(g.c.File, g.c.Role)
	for _, p := range problems.Fatal() {
		g.log.Error("reload refused, the old configuration goes on", "problem", p.Error())
	}
	if len(problems.Fatal()) > 0 {
		return
	}

	kept := l.KeepFrom(g.c.Config)
	n, err := g.prepare(l)
	if err == nil {
		if err = g.swap(n); err != nil {
			n.discard()
		}
	}
	if err != nil {
		g.log.Error("reload refused, the old configuration goes on", "err", err)
		return
	}

	for _, p := range problems {
		g.log.Warn("in the configuration", "problem", p.Error())
	}
	g.checkDescriptors(l)
	for _, key := range kept {
		g.log.Warn("this change takes effect at the next start", "key", key)
	}
	g.log.Info("configuration reloaded", "file", l.File)
}
