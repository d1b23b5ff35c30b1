// Package logging writes the log without ever holding up who logs.
//
// Lines go into a buffer of bounded size, and one goroutine writes them, in
// order. A line that does not fit is dropped and counted, and a later line
// says how many are missing, at the place where they are missing. A write that
// fails is counted and never fatal. Errors have a share of the buffer that
// other lines cannot fill, and are written first where the time at the end of
// the process does not suffice for all.
//
// A Log and its loggers are safe for concurrent use.
package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultBuffer is how many bytes of lines may wait for the writer.
const DefaultBuffer = 4 << 20

// errorShare is the part of the buffer, one in so many, that only lines at
// level error may fill.
const errorShare = 4

// Config says what a Log writes, and where.
type Config struct {
	// Writer gets one line with each Write. It may block or fail.
	Writer io.Writer

	// JSON writes JSON lines in the place of logfmt.
	JSON bool

	// Level is the least level that is written; nil: info.
	Level slog.Leveler

	// Buffer is how many bytes may wait; zero: DefaultBuffer.
	Buffer int
}

// Log is a buffered log. Close ends it.
type Log struct {
	w       io.Writer
	options *slog.HandlerOptions
	json    bool
	logger  *slog.Logger
	size    int

	mu      sync.Mutex
	lines   []line
	bytes   int   // of lines
	missing int64 // dropped since the last line that came in
	closing bool
	wake    chan struct{} // holds one where the writer has something to look at
	done    chan struct{} // closed when the writer has ended

	dropped prometheus.Counter
	failed  prometheus.Counter
}

// line is one that waits.
type line struct {
	text    []byte
	urgent  bool
	missing int64 // how many were dropped right before it
}

// New returns a Log and starts its writer.
func New(c Config) *Log {
	if c.Buffer == 0 {
		c.Buffer = DefaultBuffer
	}

	l := &Log{
		w:       c.Writer,
		options: &slog.HandlerOptions{Level: c.Level},
		json:    c.JSON,
		size:    c.Buffer,
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_log_lines_dropped_total",
			Help: "Log lines that were dropped, for the log's reader did not keep up.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_log_write_errors_total",
			Help: "Log lines that were lost in a write that failed.",
		}),
	}
	l.logger = slog.New(handler{
		ordinary: l.format(l),
		urgent:   l.format(urgentWriter{l}),
	})

	go l.write()
	return l
}

// format returns the handler that formats lines for w.
func (l *Log) format(w io.Writer) slog.Handler {
	if l.json {
		return slog.NewJSONHandler(w, l.options)
	}

	return slog.NewTextHandler(w, l.options)
}

// Logger returns the logger that writes to the buffer.
func (l *Log) Logger() *slog.Logger { return l.logger }

// Register exports the counters of lines that were lost.
func (l *Log) Register(r prometheus.Registerer) { r.MustRegister(l.dropped, l.failed) }

// Write puts a text that is not a log record, such as a problem in the
// configuration, into the buffer as one line. It never blocks and returns no
// error.
func (l *Log) Write(p []byte) (int, error) {
	l.put(p, false)
	return len(p), nil
}

// urgentWriter puts lines at level error into the buffer.
type urgentWriter struct{ l *Log }

func (w urgentWriter) Write(p []byte) (int, error) {
	w.l.put(p, true)
	return len(p), nil
}

// put copies a line into the buffer, or counts it as dropped.
func (l *Log) put(p []byte, urgent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	room := l.size - l.bytes
	if !urgent {
		room -= l.size / errorShare
	}
	if l.closing || len(p) > room {
		l.drop(1)
		return
	}

	l.lines = append(l.lines, line{
		text:    bytes.Clone(p),
		urgent:  urgent,
		missing: l.missing,
	})
	l.bytes += len(p)
	l.missing = 0
	l.signal()
}

// drop counts lines that are missing at the end of the buffer. The caller
// holds mu.
func (l *Log) drop(n int64) {
	l.missing += n
	l.dropped.Add(float64(n))
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write is the one goroutine that writes.
func (l *Log) write() {
	defer close(l.done)

	for {
		next, ok := l.next()
		if !ok {
			return
		}

		if next.missing > 0 {
			l.emit(l.missingLine(next.missing))
		}
		if next.text != nil {
			l.emit(next.text)
		}
	}
}

// next waits for a line, and reports whether there is one: after Close there
// is none once the buffer is empty. A line without text says only that lines
// are missing.
func (l *Log) next() (line, bool) {
	for {
		l.mu.Lock()

		if len(l.lines) > 0 {
			first := l.lines[0]
			l.lines[0] = line{} // its text need not stay in memory
			l.lines = l.lines[1:]
			l.bytes -= len(first.text)
			l.mu.Unlock()
			return first, true
		}

		missing := l.missing
		l.missing = 0
		closing := l.closing
		l.mu.Unlock()

		if missing > 0 {
			return line{missing: missing}, true
		}
		if closing {
			return line{}, false
		}

		<-l.wake
	}
}

func (l *Log) emit(text []byte) {
	if _, err := l.w.Write(text); err != nil {
		l.failed.Inc()
	}
}

// missingLine says that n lines were dropped.
func (l *Log) missingLine(n int64) []byte {
	var b bytes.Buffer
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped, their reader did not keep up", 0)
	r.AddAttrs(slog.Int64("lines", n))

	_ = l.format(&b).Handle(context.Background(), r) // a buffer takes everything
	return b.Bytes()
}

// Close writes what waits and ends the log. It returns after the given time
// at the latest; in the second half of it only lines at level error are
// still written. The error says how many lines were lost that way.
func (l *Log) Close(within time.Duration) error {
	l.mu.Lock()
	l.closing = true
	l.signal()
	l.mu.Unlock()

	if l.ended(within / 2) {
		return nil
	}

	l.mu.Lock()
	lost := l.keepUrgent()
	l.mu.Unlock()

	if !l.ended(within - within/2) {
		l.mu.Lock()
		lost += len(l.lines) + 1 // and the one in the writer's hands
		l.mu.Unlock()
	}

	if lost == 0 {
		return nil
	}
	return fmt.Errorf("logging: %d lines not written within %v", lost, within)
}

// ended reports whether the writer ends within the given time.
func (l *Log) ended(within time.Duration) bool {
	t := time.NewTimer(within)
	defer t.Stop()

	select {
	case <-l.done:
		return true
	case <-t.C:
		return false
	}
}

// keepUrgent drops the lines below level error, and returns how many. The
// caller holds mu.
func (l *Log) keepUrgent() int {
	var kept []line
	dropped := 0
	var missing int64

	for _, one := range l.lines {
		missing += one.missing
		if !one.urgent {
			l.bytes -= len(one.text)
			dropped++
			missing++
			continue
		}

		one.missing = missing
		missing = 0
		kept = append(kept, one)
	}

	l.lines = kept
	l.missing += missing
	l.dropped.Add(float64(dropped))
	return dropped
}

// handler sends errors to one handler and all else to another.
type handler struct{ ordinary, urgent slog.Handler }

func (h handler) of(level slog.Level) slog.Handler {
	if level >= slog.LevelError {
		return h.urgent
	}

	return h.ordinary
}

// Enabled implements slog.Handler.
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.of(level).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if hasDuration(r) {
		r = inSeconds(r)
	}

	return h.of(r.Level).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs = slices.Clone(attrs)
	for i, a := range attrs {
		attrs[i] = seconds(a)
	}

	return handler{
		ordinary: h.ordinary.WithAttrs(attrs),
		urgent:   h.urgent.WithAttrs(attrs),
	}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{
		ordinary: h.ordinary.WithGroup(name),
		urgent:   h.urgent.WithGroup(name),
	}
}
