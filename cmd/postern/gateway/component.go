package gateway

import (
	"context"
	"errors"
	"sync"
)

// stage says when a component ends.
type stage int

const (
	// intake components take things in, and end first.
	intake stage = iota
	// carryOn components end once nothing comes in any more.
	carryOn
)

// component is a part of the process that runs for as long as it serves.
type component struct {
	name  string // in front of its errors; empty: it returns none
	stage stage

	// serve returns nil once ctx has ended. An error ends the whole gateway.
	serve func(ctx context.Context) error
}

// add adds a component.
func (g *Gateway) add(s stage, name string, serve func(ctx context.Context) error) {
	g.components = append(g.components, component{
		name:  name,
		stage: s,
		serve: serve,
	})
}

// group runs the components of a stage.
type group struct {
	ctx    context.Context
	failed func() // called when a component fails

	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func newGroup(ctx context.Context, failed func()) *group {
	return &group{ctx: ctx, failed: failed}
}

func (r *group) run(c component) {
	r.wg.Go(func() {
		err := c.serve(r.ctx)
		if err == nil {
			return
		}

		r.mu.Lock()
		r.errs = append(r.errs, named(c.name, err))
		r.mu.Unlock()
		r.failed()
	})
}

// wait returns the errors of all components, once they have ended.
func (r *group) wait() error {
	r.wg.Wait()
	return errors.Join(r.errs...)
}
