package gateway

import (
	"log/slog"
	"time"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/tracking/token"
)

// generation is a configuration in use, with what all reloadable parts share. A
// message or a request finishes with the generation that it began with.
type generation struct {
	cfg     *config.Loaded
	keys    *token.Keys
	metrics *admin.Collected // exported once the generation is in use

	changes []change
}

// change is what one part makes of a new generation. Either of its functions is
// called, once; both may be nil.
type change struct {
	use     func() // puts it to use
	discard func() // gives it back unused
}

// reloadable is a part that a reload changes.
type reloadable interface {
	// prepare builds what a generation wants, of which nothing is in use yet.
	prepare(next *generation) (change, error)
}

// prepare builds a whole generation. Where a part fails, nothing is left of it.
func (g *Gateway) prepare(cfg *config.Loaded) (*generation, error) {
	keys, err := token.ReadKeys(cfg.Tracking.KeyFile)
	if err != nil {
		return nil, err
	}

	next := &generation{
		cfg:     cfg,
		keys:    keys,
		metrics: &admin.Collected{},
	}
	for _, r := range g.reloadables {
		c, err := r.prepare(next)
		if err != nil {
			next.discard()
			return nil, err
		}
		next.changes = append(next.changes, c)
	}

	return next, nil
}

func (n *generation) discard() {
	for _, c := range n.changes {
		if c.discard != nil {
			c.discard()
		}
	}
}

// use puts a generation in the place of the one in use.
func (g *Gateway) use(next *generation) {
	setLevel(g.level, next.cfg.Config)
	g.current.Store(next)
	for _, c := range next.changes {
		if c.use != nil {
			c.use()
		}
	}
	g.totals.Use(next.metrics, time.Now())
}

// reload reads and checks the whole configuration and puts it to use, or keeps
// the old one.
func (g *Gateway) reload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()

	cfg, problems := config.Load(g.cfg.File, g.cfg.Role)
	fatal := problems.Fatal()
	for _, p := range fatal {
		g.log.Error("reload refused, the old configuration goes on", "problem", p.Error())
	}
	if len(fatal) > 0 {
		return
	}

	kept := cfg.KeepFrom(g.cfg.Config)
	next, err := g.prepare(cfg)
	if err != nil {
		g.log.Error("reload refused, the old configuration goes on", "err", err)
		return
	}
	g.use(next)

	for _, p := range problems {
		g.log.Warn("in the configuration", "problem", p.Error())
	}
	g.checkDescriptors(cfg)
	for _, key := range kept {
		g.log.Warn("this change takes effect at the next start", "key", key)
	}
	g.log.Info("configuration reloaded", "file", cfg.File)
}

func setLevel(v *slog.LevelVar, c *config.Config) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // checked with the configuration
	v.Set(level)
}
