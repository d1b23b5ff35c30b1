package accounting

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// coalesce is how long changes are gathered before the files are looked at.
const coalesce = 100 * time.Millisecond

// watch tells, on a channel, that something changed in the folders of the
// globs. Where the system does not tell, the files are looked at by time alone.
func (f *Follower) watch(ctx context.Context) (changed <-chan struct{}, stop func()) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.c.Log.Warn("accounting: no notice of changes, files are looked at by time",
			"every_seconds", f.c.Every.Seconds(), "err", err)
		return nil, func() {}
	}

	for _, glob := range f.c.Globs {
		dirs, _ := filepath.Glob(filepath.Dir(glob))
		for _, d := range dirs {
			if err := w.Add(d); err != nil {
				f.c.Log.Warn("accounting: no notice of changes, files are looked at by time",
					"folder", d, "every_seconds", f.c.Every.Seconds(), "err", err)
			}
		}
	}

	out, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
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
			case err, ok := <-w.Errors: // the kernel's queue ran over: look
				if !ok {
					return
				}
				f.c.Log.Debug("accounting: notices of changes were lost", "err", err)
				pause.Reset(coalesce)
			case <-ctx.Done():
				return
			case <-pause.C:
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()

	return out, func() {
		w.Close()
		<-done
	}
}
