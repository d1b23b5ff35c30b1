package accounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"
)

// Records that PowerMTA pipes are first made durable in separate files, which a
// Follower reads like any other and removes at their end. A file is locked as long as
// its writer runs.
const (
	pipeGlob     = "pipe-*.csv"
	maxPipeBytes = 64 << 20 // of one file
	pipeChunk    = 64 << 10
	pipeBacklog  = 128 // chunks

	// pipeWait is how long PowerMTA waits for a disk that cannot be written before
	// records are dropped, counted and logged.
	pipeWait = 5 * time.Second
)

// writable asks access(2) whether files can be created in a folder: W_OK and X_OK.
const writable = 2 | 1

// PipeTarget is where Pipe gets its files. Gateway or Dir must be set.
type PipeTarget struct {
	Gateway func() (*os.File, error) // returns a file of the gateway, as Receive does
	Dir     string                   // a folder for files while no gateway runs
	FS      PipeFS                   // of Dir; nil: the system's
}

// Pipe copies r, PowerMTA's records with their header line first, to files until r
// or ctx ends. Each write is synced. It returns once all is durable.
func Pipe(ctx context.Context, r io.Reader, to PipeTarget, log *slog.Logger) error {
	if to.Dir != "" {
		err := prepareDir(to.Dir)
		if err != nil && to.Gateway == nil {
			return fmt.Errorf("accounting: %s: %w", to.Dir, err)
		}
		if err != nil {
			log.Error("accounting: records cannot be kept while no gateway runs", "dir", to.Dir, "err", err)
			to.Dir = ""
		}
	}

	p := newPipe(to, log)
	ended := make(chan error, 1)
	go func() { ended <- p.read(ctx, r) }() // may hang in a read when ctx ends
	err := p.write(ctx, ended)

	return errors.Join(err, p.close())
}

// prepareDir creates a folder if it does not exist, and checks that files can be
// created in it.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	return syscall.Access(dir, writable)
}

// newPipe returns a pipe without a file.
func newPipe(to PipeTarget, log *slog.Logger) *pipe {
	if to.FS == nil {
		to.FS = osPipes{}
	}

	return &pipe{
		to:     to,
		log:    log,
		chunks: make(chan []byte, pipeBacklog),
		wait:   pipeWait,
	}
}

// pipe copies records in two goroutines: a reader, which PowerMTA must not wait
// for, and a writer.
type pipe struct {
	to     PipeTarget
	log    *slog.Logger
	chunks chan []byte

	// The reader's.
	lost int64 // bytes, not logged yet
	wait time.Duration

	// The writer's.
	file   PipeFile
	size   int64 // synced, in bytes
	scan   scanner
	header []byte // the header line that applies
	err    error
}

// read gives the writer what comes in until r or ctx ends.
func (p *pipe) read(ctx context.Context, r io.Reader) error {
	for {
		buf := make([]byte, pipeChunk)
		n, err := r.Read(buf)
		if n > 0 {
			p.push(ctx, buf[:n])
		}

		if err == io.EOF || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accounting: pipe: %w", err)
		}
	}
}

// cutHere ends a record of which a part was lost. Because of the NUL byte it is
// malformed, whatever follows.
const cutHere = "\x00\n"

// push gives the writer a chunk, and drops it if the disk cannot be written for
// p.wait.
func (p *pipe) push(ctx context.Context, b []byte) {
	if p.lost > 0 {
		b = append([]byte(cutHere), b...)
	}

	wait := time.NewTimer(p.wait)
	defer wait.Stop()

	select {
	case p.chunks <- b:
		if p.lost > 0 {
			p.log.Error("ACCOUNTING RECORDS WERE LOST: they could not be written; "+
				"read them from PowerMTA's accounting file", "bytes", p.lost)
			p.lost = 0
		}
	case <-wait.C:
		p.lost += int64(len(b))
	case <-ctx.Done():
	}
}

// write writes chunks until the reader has ended, or ctx. What came in before is
// durable then.
func (p *pipe) write(ctx context.Context, ended <-chan error) error {
	var readErr error
	for open := true; ; {
		select {
		case b := <-p.chunks:
			p.add(ctx, b)
			continue
		default:
		}

		if !open || ctx.Err() != nil {
			break
		}

		select {
		case b := <-p.chunks:
			p.add(ctx, b)
		case readErr = <-ended:
			open = false
		case <-ctx.Done():
		}
	}

	p.insist(ctx, p.scan.rest())

	return errors.Join(readErr, p.err)
}

// add writes the complete records, and the lines that are not records: those are
// quarantined when the file is read.
func (p *pipe) add(ctx context.Context, b []byte) {
	p.scan.feed(b, false)

	from := 0 // where what the header line applies to begins
	for {
		at := p.scan.used
		l, ok := p.scan.next()
		if !ok {
			break
		}

		if l.err == nil && isHeader(l.fields) {
			p.insist(ctx, p.scan.data[from:at])
			p.header = bytes.Clone(l.raw)
			from = at
		}
	}

	p.insist(ctx, p.scan.data[from:p.scan.used])
}

// insist writes records, again and again until that succeeds or ctx ends.
func (p *pipe) insist(ctx context.Context, b []byte) {
	if len(b) == 0 {
		return
	}

	for pause := 100 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := p.put(b)
		if err == nil {
			return
		}
		p.log.Error("accounting: cannot write the pipe's records, trying again", "err", err)
		p.drop()

		select {
		case <-time.After(pause):
		case <-ctx.Done():
			p.err = err
			return
		}
	}
}

// put writes records to the current file, or a new one, and syncs it. A new file
// begins with the header line.
func (p *pipe) put(b []byte) error {
	if p.header == nil {
		p.header = leadingHeader(b)
	}

	fresh := false
	if p.file == nil || p.size > maxPipeBytes {
		err := p.open()
		if err != nil && p.file == nil {
			return err
		}
		fresh = err == nil // otherwise the current file is continued
	}
	if fresh && p.header != nil && !bytes.HasPrefix(b, p.header) {
		b = slices.Concat(p.header, b)
	}

	if _, err := p.file.Write(b); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	p.size += int64(len(b))

	return nil
}

// leadingHeader returns the header line that b begins with, nil if there is none.
func leadingHeader(b []byte) []byte {
	var s scanner
	s.begin(b, false)
	l, ok := s.next()
	if !ok || l.err != nil || !isHeader(l.fields) {
		return nil
	}

	return bytes.Clone(l.raw)
}

// open replaces the current file with one of the gateway, or with a new one in the
// folder if no gateway runs. If that fails, the current file is kept.
func (p *pipe) open() error {
	f, err := p.newFile()
	if err != nil {
		return err
	}

	if err := p.close(); err != nil { // what is in it is synced
		p.log.Warn("accounting: cannot close a file of the pipe", "err", err)
	}
	p.file = f
	p.size = 0

	return nil
}

// newFile returns a file of the gateway, or a new one in the folder.
func (p *pipe) newFile() (PipeFile, error) {
	var gatewayErr error
	if p.to.Gateway != nil {
		f, err := p.to.Gateway()
		if err == nil {
			return osPipeFile{f}, nil
		}
		gatewayErr = err
	}

	if p.to.Dir == "" {
		return nil, gatewayErr
	}

	f, err := createPipeFile(p.to.FS, p.to.Dir)
	if err != nil {
		return nil, errors.Join(gatewayErr, err)
	}
	if gatewayErr != nil {
		p.log.Warn("accounting: no file from the gateway, writing to the folder", "dir", p.to.Dir, "err", gatewayErr)
	}

	return f, nil
}

// drop truncates and closes a file that could not be written or synced. The same
// records are then written to the next file.
func (p *pipe) drop() {
	if p.file != nil {
		p.file.Truncate(p.size)
		p.file.Close()
		p.file = nil
	}
}

// close closes the current file, if there is one.
func (p *pipe) close() error {
	if p.file == nil {
		return nil
	}

	err := p.file.Close()
	p.file = nil

	return err
}
