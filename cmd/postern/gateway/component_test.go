package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestStagesEndInOrder: what carries on ends once everything that takes things
// in has ended.
func TestStagesEndInOrder(t *testing.T) {
	g := newGateway(loadConfig(t, writeConfig(t, "")), slog.New(slog.DiscardHandler), new(slog.LevelVar))
	var ended buffer
	part := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			ended.Write([]byte(name))
			return nil
		}
	}
	g.add(carryOn, "b", part("b"))
	g.add(intake, "a", part("a"))
	g.add(intake, "a", part("a"))
	g.onClose(func() { ended.Write([]byte(" first")) })
	g.onClose(func() { ended.Write([]byte(" last")) })
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx) }()
	eventually(t, "the gateway to be up", g.admin.Ready.Load)

	cancel()

	if err := <-served; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if got, want := ended.take(), "aab last first"; got != want {
		t.Errorf("got %q ended, want %q", got, want)
	}
}

// TestEveryFailureIsNamed: of both stages, and the first one ends the others.
func TestEveryFailureIsNamed(t *testing.T) {
	g := newGateway(loadConfig(t, writeConfig(t, "")), slog.New(slog.DiscardHandler), new(slog.LevelVar))
	g.add(intake, "", func(context.Context) error { return errors.New("at once") })
	g.add(intake, "front", func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("on the way")
	})
	g.add(carryOn, "back", func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("at the end")
	})

	err := g.Serve(t.Context())

	if err == nil {
		t.Fatal("got no error")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{"at once", "front: on the way", "back: at the end"}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("got %q, want %q", got, want)
	}
}
