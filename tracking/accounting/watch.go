package accounting

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// coalesce is how long changes are collected before files are polled.
const coalesce = 100 * time.Millisecond

// watch returns a channel that reports changes in the folders of the globs until ctx
// ends or stop is called. Folders that cannot be watched are logged; their files are
// polled every Config.Every like all others.
func (f *Follower) watch(ctx context.Context) (changed <-chan struct{}, stop func()) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.c.Log.Warn("accounting: cannot watch for changes, polling",
			"every_seconds", f.c.Every.Seconds(), "err", err)
		return nil, func() {}
	}

	for _, glob := range f.c.Globs {
		dirs, _ := filepath.Glob(filepath.Dir(glob))
		for _, d := range dirs {
			if err := w.Add(d); err != nil {
				f.c.Log.Warn("accounting: cannot watch for changes, polling",
					"folder", d, "every_seconds", f.c.Every.Seconds(), "err", err)
			}
		}
	}

	out := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.coalesceChanges(ctx, w, out)
	}()

	return out, func() {
		w.Close()
		<-done
	}
}

// coalesceChanges reports changes on out, once for all that follow each other within
// coalesce, until ctx ends or w is closed.
func (f *Follower) coalesceChanges(ctx context.Context, w *fsnotify.Watcher, out chan<- struct{}) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C

	for {
		select {
		case _, ok := <-w.Events:
			if !ok {
				return
			}
			pause.Reset(coalesce)
		case err, ok := <-w.Errors: // the kernel's queue overflowed
			if !ok {
				return
			}
			f.c.Log.Debug("accounting: notifications of changes were lost", "err", err)
			pause.Reset(coalesce)
		case <-pause.C:
			select {
			case out <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}
