// Package demo runs everything that Postern needs on loopback: the gateway, an
// SMTP sink in PowerMTA's place (package sink), an ingest endpoint in that of
// Signals (package ingestd), and a page that shows what arrives.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
	"postern/cmd/postern/gateway"
	"postern/cmd/postern/logging"
)

// Config is what a demo needs.
type Config struct {
	// StateDir keeps keys, spool and configuration; empty: a temporary folder,
	// which is removed at the end.
	StateDir string
	// Out gets the addresses and the lines to try.
	Out io.Writer
	// Log gets the gateway's log; nil: postern.log in StateDir does.
	Log io.Writer
}

// flushWithin bounds the time in which the log is written at the end.
const flushWithin = 2 * time.Second

// Run runs a demo until ctx ends.
func Run(ctx context.Context, c Config) error {
	dir, remove, err := stateDir(c.StateDir)
	if err != nil {
		return err
	}
	defer remove()
	around, err := startSurroundings(ctx, dir)
	if err != nil {
		return err
	}
	defer around.stop()

	log := c.Log
	if log == nil {
		f, err := os.OpenFile(filepath.Join(dir, "postern.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		log = f
	}

	return around.runGateway(ctx, c.Out, log)
}

// stateDir returns a folder for the demo, and what removes it where it is a
// temporary one.
func stateDir(want string) (dir string, remove func(), err error) {
	if want != "" {
		return want, func() {}, os.MkdirAll(want, 0o700)
	}

	dir, err = os.MkdirTemp("", "postern-demo-")
	return dir, func() { os.RemoveAll(dir) }, err
}

// surroundings are what the gateway meets: the sink and the ingest endpoint.
type surroundings struct {
	files  files
	box    *mailbox
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startSurroundings makes keys, a user and a configuration in dir where they
// are missing, and starts the sink and the ingest endpoint.
func startSurroundings(ctx context.Context, dir string) (*surroundings, error) {
	sinkListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ingestListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, sinkListener.Close())
	}

	files, err := writeFiles(dir, sinkListener.Addr().String(), ingestListener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, sinkListener.Close(), ingestListener.Close())
	}

	// They outlive the gateway, which drains into them.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &surroundings{
		files:  files,
		box:    newMailbox(),
		cancel: cancel,
	}
	s.serveSink(background, sinkListener)
	s.serveIngest(background, ingestListener)

	return s, nil
}

func (s *surroundings) serveSink(ctx context.Context, l net.Listener) {
	server := sink.New(sink.Config{
		Hostname: "sink.localhost",
		Keep:     s.box.deliver,
	})
	s.wg.Go(func() { _ = server.Serve(ctx, l) })
}

func (s *surroundings) serveIngest(ctx context.Context, l net.Listener) {
	server := &http.Server{
		Handler:           &ingestd.Server{Key: apiKey, OnEvent: s.box.event},
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	s.wg.Go(func() {
		defer stop()
		_ = server.Serve(l)
	})
}

func (s *surroundings) stop() {
	s.cancel()
	s.wg.Wait()
}

// runGateway runs the gateway with the page on its admin listener.
func (s *surroundings) runGateway(ctx context.Context, out, log io.Writer) error {
	loaded, problems := config.Load(s.files.config, config.All)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		return fatal
	}

	level := new(slog.LevelVar)
	logger := logging.New(logging.Config{
		JSON:   loaded.Log.Format == "json",
		Level:  level,
		Writer: log,
	})
	defer logger.Close(flushWithin) //nolint:errcheck // there is nobody left to tell

	g, err := gateway.New(loaded, logger.Logger(), level)
	if err != nil {
		return err
	}
	newPage(s.box, s.files.record).register(g.Admin().Open)
	s.announce(out, g)

	err = g.Serve(ctx)
	fmt.Fprintln(out, "\nStopped.")
	return err
}

func (s *surroundings) announce(out io.Writer, g *gateway.Gateway) {
	fmt.Fprintf(out, `Postern demo is up.

  page        http://%[1]s/
  submission  %[2]s, STARTTLS, user %[3]s, password %[4]s
  state       %[5]s
  CA file     %[8]s

Send a mail with swaks:

  swaks --server %[2]s --tls --auth LOGIN --auth-user %[3]s --auth-password %[4]s`+
		` --from news@%[6]s --to you@example.net --h-Subject 'Hello' --add-header 'X-Job: first mail'`+
		` --add-header 'Content-Type: text/html'`+
		` --body '<html><body><p>A <a href="https://example.com/?a=1&amp;b=2">tracked link</a></p></body></html>'

or with curl:

  curl --ssl-reqd --cacert %[8]s --url smtp://%[2]s --user %[3]s:%[4]s`+
		` --mail-from news@%[6]s --mail-rcpt you@example.net --crlf --upload-file %[7]s

Then look at the page. Ctrl-C ends it.
`,
		g.Addr("admin.listen"), g.Addr("submission.listen"), user, password, s.files.dir, domain, s.files.sample,
		certs.CAFile(s.files.certs))
}
