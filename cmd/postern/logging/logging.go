// Package logging writes the log without ever blocking its callers.
//
// Lines are put into a buffer of limited size, and one goroutine writes them in
// order. A line that does not fit is dropped and counted, and a line in its place
// says how many are missing. A failed write is counted and otherwise ignored. Part
// of the buffer is reserved for lines at level error; if there is too little time
// for all lines on shutdown, these are written.
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

// DefaultBuffer is the default size of the buffer in bytes.
const DefaultBuffer = 4 << 20

// errorShare is the fraction of the buffer, one in errorShare, that is reserved for
// lines at level error.
const errorShare = 4

// Config configures a Log.
type Config struct {
	// Writer receives one line with each Write. It may block or fail.
	Writer io.Writer

	// JSON selects JSON lines instead of logfmt.
	JSON bool

	// Level is the lowest level that is written. Default: info.
	Level slog.Leveler

	// Buffer is the size of the buffer in bytes. Default: DefaultBuffer.
	Buffer int
}

// Log is a buffered log. It must be closed.
type Log struct {
	w       io.Writer
	options *slog.HandlerOptions
	json    bool
	logger  *slog.Logger
	limit   int // of size

	mu      sync.Mutex
	lines   []line
	size    int   // of lines, in bytes
	missing int64 // lines dropped since the last one in the buffer
	closing bool
	wake    chan struct{} // there is something for the writer to do
	done    chan struct{} // closed when the writer has ended

	dropped prometheus.Counter
	failed  prometheus.Counter
}

// line is a line in the buffer.
type line struct {
	text    []byte
	urgent  bool
	missing int64 // lines dropped just before it
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
		limit:   c.Buffer,
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_log_lines_dropped_total",
			Help: "Log lines that were dropped because the reader of the log did not keep up.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_log_write_errors_total",
			Help: "Log lines that were lost in a failed write.",
		}),
	}
	l.logger = slog.New(handler{
		ordinary: l.format(l),
		urgent:   l.format(urgentWriter{l}),
	})

	go l.write()

	return l
}

// format returns a handler that writes lines to w.
func (l *Log) format(w io.Writer) slog.Handler {
	if l.json {
		return slog.NewJSONHandler(w, l.options)
	}

	return slog.NewTextHandler(w, l.options)
}

// Logger returns the logger that writes to the buffer.
func (l *Log) Logger() *slog.Logger { return l.logger }

// Register registers the counters of lines that were lost.
func (l *Log) Register(r prometheus.Registerer) { r.MustRegister(l.dropped, l.failed) }

// Write puts text that is not a log record, such as a problem in the configuration,
// into the buffer as one line. It never blocks, and never returns an error.
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

	room := l.limit - l.size
	if !urgent {
		room -= l.limit / errorShare
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
	l.size += len(p)
	l.missing = 0
	l.signal()
}

// drop counts lines that are missing at the end of the buffer. l.mu must be held.
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

// write writes lines until the log is closed and the buffer is empty.
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

// next waits for the next line. It reports false once the log is closed and the
// buffer is empty. A line without text stands for missing lines only.
func (l *Log) next() (line, bool) {
	for {
		l.mu.Lock()

		if len(l.lines) > 0 {
			first := l.lines[0]
			l.lines[0] = line{} // for the garbage collector
			l.lines = l.lines[1:]
			l.size -= len(first.text)
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

// emit writes one line, or counts it as lost.
func (l *Log) emit(text []byte) {
	if _, err := l.w.Write(text); err != nil {
		l.failed.Inc()
	}
}

// missingLine returns the line that says that n lines were dropped.
func (l *Log) missingLine(n int64) []byte {
	var b bytes.Buffer
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped, their reader did not keep up", 0)
	r.AddAttrs(slog.Int64("lines", n))

	_ = l.format(&b).Handle(context.Background(), r) // writing to a buffer does not fail

	return b.Bytes()
}

// Close writes the lines in the buffer and ends the log. It takes no longer than
// within; in the second half of that time only lines at level error are written.
// The error says how many lines were lost.
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
		lost += len(l.lines) + 1 // and the one being written
		l.mu.Unlock()
	}

	if lost == 0 {
		return nil
	}

	return fmt.Errorf("logging: %d lines not written within %v", lost, within)
}

// ended reports whether the writer ends within a time.
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

// keepUrgent drops the lines below level error, and returns their number. l.mu must
// be held.
func (l *Log) keepUrgent() int {
	var kept []line
	dropped := 0
	var missing int64

	for _, one := range l.lines {
		missing += one.missing
		if !one.urgent {
			l.size -= len(one.text)
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

// handler passes records at level error to one handler, and all others to another.
type handler struct {
	ordinary slog.Handler
	urgent   slog.Handler
}

// of returns the handler for a level.
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
