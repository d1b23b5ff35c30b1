package accounting

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// removeFinished removes the files of pipes that were read to their end and whose
// writers have ended.
func (f *Follower) removeFinished(ctx context.Context) error {
	var errs []error
	for _, dir := range f.pipeDirs() {
		files, err := filepath.Glob(filepath.Join(dir, pipeGlob))
		if err != nil {
			return err
		}
		for _, name := range files {
			errs = append(errs, f.removeIfFinished(ctx, name))
		}
	}

	return errors.Join(errs...)
}

// removeIfFinished removes one file of a pipe if it is finished.
func (f *Follower) removeIfFinished(ctx context.Context, name string) error {
	file, err := f.openFound(name, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	defer file.Close()

	if flock(file) != nil {
		return nil // its writer still runs
	}

	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}

	key := fileKey(info)
	finished, err := f.finish(ctx, key, &held{file: file, grown: info.ModTime()}, info.Size())
	if err != nil || !finished {
		return err
	}

	// It is removed before its offset is forgotten, or it would be read again.
	if err := f.c.OffsetsFS.Remove(name); err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	if h := f.held[key]; h != nil {
		h.file.Close()
		delete(f.held, key)
	}
	delete(f.offsets, key)
	f.dirty = true

	return f.save()
}

// finish reads the last record of a file whose writer ended within it, and reports
// whether the file has been read to its end.
func (f *Follower) finish(ctx context.Context, key string, h *held, size int64) (bool, error) {
	s := f.offsets[key]
	if s == nil {
		return size == 0, nil // otherwise it is read by the next poll
	}
	if s.isDone(size) {
		return true, nil
	}
	if s.stuck != size {
		return false, nil // it is read by the next poll, or its events could not be recorded
	}

	if err := f.read(ctx, key, h, true); err != nil {
		return false, err
	}

	return s.isDone(size), nil // not if ctx has ended
}
