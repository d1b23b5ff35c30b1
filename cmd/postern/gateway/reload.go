package gateway

import (
	"log/slog"
	"time"

	"postern/cmd/postern/config"
)

// swap puts a configuration to use. Where it returns an error nothing has
// changed.
func (g *Gateway) Swap(n *live) error {
	if g.Users != nil {
		if err := g.Users.Replace(UserEntries(n.C.Users)); err != nil {
			return err
		}
	}

	if n.UseCerts != nil {
		n.UseCerts()
	}
	setLevel(g.Level, n.C.Config)
	old := g.Live.Swap(n)
	g.totals.Use(n.metrics, time.Now())
	if old != nil && old.Pool != nil {
		old.Pool.Retire()
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
func (g *Gateway) Reload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()

	l, problems := config.Load(g.C.File, g.C.Role)
	for _, p := range problems.Fatal() {
		g.log.Error("reload refused, the old configuration goes on", "problem", p.Error())
	}
	if len(problems.Fatal()) > 0 {
		return
	}

	kept := l.KeepFrom(g.C.Config)
	n, err := g.Prepare(l)
	if err == nil {
		if err = g.Swap(n); err != nil {
			n.Discard()
		}
	}
	if err != nil {
		g.log.Error("reload refused, the old configuration goes on", "err", err)
		return
	}

	for _, p := range problems {
		g.log.Warn("in the configuration", "problem", p.Error())
	}
	g.CheckDescriptors(l)
	for _, key := range kept {
		g.log.Warn("this change takes effect at the next start", "key", key)
	}
	g.log.Info("configuration reloaded", "file", l.File)
}
