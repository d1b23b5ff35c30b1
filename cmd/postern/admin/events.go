package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"postern/cmd/postern/config"
	"postern/tracking/event"
	"postern/tracking/spool"
)

// replayChunk is how many bytes of events are appended at once: other appends
// wait for no more than that.
const replayChunk = 1 << 20

// InChunks gives lines to f, a chunk at a time, and returns how many it took.
func InChunks(lines [][]byte, f func([][]byte) error) (int, error) {
	done := 0
	for done < len(lines) {
		end, size := done, 0
		for end < len(lines) && (end == done || size+len(lines[end]) <= replayChunk) {
			size += len(lines[end])
			end++
		}

		if err := f(lines[done:end]); err != nil {
			return done, err
		}
		done = end
	}

	return done, nil
}

// ReplayLines reads events out of NDJSON, as stored or as `events tail` prints
// them, a segment's lines, or what was quarantined.
func ReplayLines(in io.Reader) ([][]byte, error) {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 8<<20)

	var out [][]byte
	for n := 1; sc.Scan(); n++ {
		line := bytes.TrimSpace(sc.Bytes())
		if i := bytes.IndexByte(line, '{'); i == 9 { // crc32c SP JSON
			line = line[i:]
		}

		var aside struct {
			Event json.RawMessage `json:"event"`
		}
		if json.Unmarshal(line, &aside) == nil && len(aside.Event) > 0 {
			line = aside.Event
		}

		if len(line) == 0 {
			continue
		}
		ev, err := event.DecodePublic(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}

		stored, err := ev.Encode()
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		out = append(out, stored)
	}

	return out, sc.Err()
}

// PostEvents has the gateway that runs append events.
func PostEvents(ctx context.Context, c *config.Config, lines [][]byte) error {
	answer, err := Ask(ctx, c, http.MethodPost, "/events", bytes.NewReader(bytes.Join(lines, []byte("\n"))))
	if err != nil {
		return err
	}

	return answer.Close()
}

const maxReplay = 256 << 20

// EventRoutes lets `postern events replay` reach a running gateway.
func (a *Server) EventRoutes(s *spool.Spool) {
	a.Mux.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(Header) == "" {
			http.Error(w, Header+" is missing", http.StatusForbidden)
			return
		}

		lines, err := ReplayLines(http.MaxBytesReader(w, r.Body, maxReplay))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}

		add := func(chunk [][]byte) error { return s.Append(r.Context(), chunk...) }
		if _, err := InChunks(lines, add); err != nil {
			http.Error(w, err.Error(), http.StatusInsufficientStorage)
		}
	})
}
