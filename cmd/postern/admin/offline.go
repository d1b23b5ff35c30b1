package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"

	"postern/cmd/postern/config"
	"postern/relay/queue"
)

// AskQueue writes the answer to a request about the retry spool to out. The
// running gateway answers; where none runs the spool itself is opened.
func AskQueue(ctx context.Context, c *config.Config, method, path string, out io.Writer) error {
	answer, noGateway := Ask(ctx, c, method, path, nil)
	if noGateway == nil {
		defer answer.Close()
		_, err := io.Copy(out, answer)
		return err
	}
	if !errors.Is(noGateway, ErrNoGateway) {
		return noGateway
	}

	q, err := queue.Open(queue.Config{
		Dir: filepath.Join(c.StateDir, "queue"),
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return LockedOut(noGateway, err)
	}
	defer q.Close()

	if err := answerFrom(ctx, q, method, path, out); err != nil {
		return err
	}
	return q.Flush()
}

// answerFrom answers from a spool that no gateway has open.
func answerFrom(ctx context.Context, q *queue.Queue, method, path string, out io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, path, nil)
	if err != nil {
		return err
	}
	req.Header.Set(Header, "queue")

	s := &Server{Mux: http.NewServeMux()}
	s.QueueRoutes(q)
	w := &memoryResponse{
		header: http.Header{},
		status: http.StatusOK,
		out:    out,
	}
	s.Mux.ServeHTTP(w, req)
	if w.status != http.StatusOK {
		return errors.New(string(w.failure))
	}

	return nil
}

// memoryResponse is an http.ResponseWriter that writes the body of a success
// to out, and keeps that of a failure.
type memoryResponse struct {
	header  http.Header
	status  int
	out     io.Writer
	failure []byte
}

// Header implements http.ResponseWriter.
func (m *memoryResponse) Header() http.Header { return m.header }

// WriteHeader implements http.ResponseWriter.
func (m *memoryResponse) WriteHeader(status int) { m.status = status }

// Write implements http.ResponseWriter.
func (m *memoryResponse) Write(b []byte) (int, error) {
	if m.status != http.StatusOK {
		m.failure = append(m.failure, b...)
		return len(b), nil
	}

	return m.out.Write(b)
}
