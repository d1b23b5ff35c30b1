package accounting

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// clearPipe removes the pipe's files that were read to their end and whose
// writer has gone.
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

func (f *Follower) removeIfFinished(ctx context.Context, name string) error {
	file, err := f.openFound(name, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return nil // gone meanwhile
	}
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	defer file.Close()

	if flock(file) != nil {
		return nil // its writer lives
	}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}

	key := fileKey(info)
	s := f.offsets[key]
	if s == nil && info.Size() > 0 {
		return nil // it is read next
	}
	if s != nil && s.Offset < info.Size() && s.Torn != info.Size() {
		if s.stuck != info.Size() {
			return nil // it is read next, or could not be recorded
		}
		// The writer ended within a record, whose end will not come.
		if err := f.read(ctx, key, &held{file: file, grown: info.ModTime()}, true); err != nil {
			return err
		}
		if s.Offset < info.Size() && s.Torn != info.Size() {
			return nil // ctx has ended
		}
	}

	if err := f.c.OffsetsFS.Remove(name); err != nil { // before it is forgotten, or it would be read again
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
