package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/cmd/postern/logging"
	"postern/dkim"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"

	"postern/smtpd/auth"
	"postern/tracking/token"
)

type demoCmd struct {
	StateDir string `type:"path" help:"Where keys, spool and configuration stay; a temporary folder otherwise." placeholder:"DIR"`
	Verbose  bool   `short:"v" help:"Show the gateway's log."`
}

func (c *demoCmd) Help() string {
	return "Starts a submission listener, a sink in the place of PowerMTA, the tracker, an ingest endpoint " +
		"and a page that shows what arrives. Ctrl-C ends it."
}

const (
	demoUser       = "demo"
	demoPassword   = "demo" // on loopback, for a first try
	demoDomain     = "example.com"
	demoSelector   = "demo"
	demoAPIKey     = "0123456789abcdef0123456789abcdef01234567"
	demoSubmission = "127.0.0.1:2587"
	demoTracker    = "127.0.0.1:2580"
	demoPage       = "127.0.0.1:8025"
)

func (c *demoCmd) Run(e *env) error {
	dir := c.StateDir
	if dir == "" {
		tmp, err := os.MkdirTemp("", "postern-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}

	// A terminal's Ctrl-C reaches `go run` and us alike; HUP is a closed window.
	ctx, stop := signal.NotifyContext(e.ctx, syscall.SIGHUP)
	defer stop()

	d, err := startDemo(ctx, dir)
	if err != nil {
		return err
	}
	defer d.stop()

	logTo := e.stderr
	if !c.Verbose {
		f, err := os.OpenFile(filepath.Join(dir, "postern.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		logTo = f
	}

	loaded, problems := config.Load(d.configFile, config.All)
	if f := problems.Fatal(); len(f) > 0 {
		return f
	}

	level := new(slog.LevelVar)
	lc := logConfig(loaded.Log, level)
	lc.Writer = logTo
	out := logging.New(lc)
	defer out.Close(flushWithin) //nolint:errcheck // there is nobody left to tell
	g, err := newGateway(loaded, out.Logger(), level)
	if err != nil {
		return err
	}

	newDemoPage(d.box, d.record).register(g.admin.open)
	d.announce(e, g)
	err = g.Serve(ctx)
	fmt.Fprintln(e.stdout, "\nStopped.")
	return err
}

// demo is what stands around the gateway: the sink and the ingest endpoint.
type demo struct {
	dir        string
	configFile string
	sample     string
	record     string // the DKIM record's value, to verify with
	box        *mailbox
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// startDemo makes keys, a user and a configuration in dir where they are
// missing, and starts the sink and the ingest endpoint.
func startDemo(ctx context.Context, dir string) (*demo, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	d := &demo{
		dir:        dir,
		configFile: filepath.Join(dir, "postern.toml"),
		sample:     filepath.Join(dir, "sample.eml"),
		box:        newMailbox(),
	}

	sinkListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ingestListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		sinkListener.Close()
		return nil, err
	}
	if err := d.files(sinkListener.Addr().String(), ingestListener.Addr().String()); err != nil {
		return nil, errors.Join(err, sinkListener.Close(), ingestListener.Close())
	}

	// The sink and the endpoint outlive the gateway, which drains into them.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel = cancel

	s := sink.New(sink.Config{Hostname: "sink.localhost", Keep: d.box.deliver})
	d.wg.Go(func() { _ = s.Serve(background, sinkListener) })

	endpoint := &http.Server{
		Handler:           &ingestd.Server{Key: demoAPIKey, OnEvent: d.box.event},
		ReadHeaderTimeout: 10 * time.Second,
	}
	d.wg.Go(func() {
		_ = serveHTTP(background, endpoint, ingestListener, func() time.Duration { return time.Second })
	})

	return d, nil
}

func (d *demo) stop() {
	d.cancel()
	d.wg.Wait()
}

// freeAddr is want, or another port where that one is taken.
func freeAddr(want string) string {
	for _, a := range []string{want, "127.0.0.1:0"} {
		if l, err := net.Listen("tcp", a); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	return want
}

const demoConfig = `# Written by postern demo.
hostname  = "postern.localhost"
state_dir = %q
shutdown_grace = "5s"

[submission]
listen     = [%q]
users_file = "users.toml"

[certs]
mode = "self-signed"

[relay]
upstream = [%q]

[tracking]
url      = %q
key_file = "token.keys"

[tracking.web]
listen = [%q]

[[dkim.key]]
domain   = %q
selector = %q
key_file = "dkim.pem"

[signals]
enabled    = true
api_key    = %q
upload_url = %q
batch_age  = "1s"

[admin]
listen = %q
`

const demoSample = `From: Postern <news@example.com>
To: You <you@example.net>
Subject: A first tracked mail
X-Job: first mail
MIME-Version: 1.0
Content-Type: text/html; charset=utf-8

<!DOCTYPE html>
<html><body style="font-family: sans-serif">
<h1>It works</h1>
<p>This link is tracked: <a href="https://example.com/welcome?a=1&amp;b=2">welcome</a></p>
<p>This one is left alone: <a data-msys-clicktrack="0" href="https://example.com/plain">plain</a></p>
</body></html>
`

func (d *demo) files(upstream, ingest string) error {
	inDir := func(name string) string { return filepath.Join(d.dir, name) }

	if _, err := os.Stat(inDir("token.keys")); err != nil {
		if _, err := token.AddKey(inDir("token.keys"), time.Now()); err != nil {
			return err
		}
	}

	if _, err := os.Stat(inDir("dkim.pem")); err != nil {
		_, pem, err := dkim.Generate("rsa2048")
		if err != nil {
			return err
		}
		if err := os.WriteFile(inDir("dkim.pem"), pem, 0o600); err != nil {
			return err
		}
	}

	key, err := dkim.ReadKey(demoDomain, demoSelector, inDir("dkim.pem"))
	if err != nil {
		return err
	}
	if d.record, err = dkim.RecordValue(key.Private); err != nil {
		return err
	}

	if _, err := os.Stat(inDir("users.toml")); err != nil {
		hash, err := auth.HashPassword(demoPassword)
		if err != nil {
			return err
		}
		editor := config.UsersEditor{File: inDir("users.toml")}
		if _, _, err := editor.SetPassword(demoUser, hash); err != nil {
			return err
		}
	}

	tracker := freeAddr(demoTracker)
	text := fmt.Sprintf(demoConfig, inDir("state"), freeAddr(demoSubmission), upstream, "http://"+tracker, tracker,
		demoDomain, demoSelector, demoAPIKey, "http://"+ingest+"/api/v1/ingest/events", freeAddr(demoPage))

	return errors.Join(os.WriteFile(d.configFile, []byte(text), 0o600), os.WriteFile(d.sample, []byte(demoSample), 0o600))
}

func (d *demo) announce(e *env, g *gateway) {
	fmt.Fprintf(e.stdout, `Postern demo is up.

  page        http://%[1]s/
  submission  %[2]s, STARTTLS, user %[3]s, password %[4]s
  state       %[5]s
  CA file     %[8]s

Send a mail with swaks:

  swaks --server %[2]s --tls --auth LOGIN --auth-user %[3]s --auth-password %[4]s --from news@%[6]s --to you@example.net --h-Subject 'Hello' --add-header 'X-Job: first mail' --add-header 'Content-Type: text/html' --body '<html><body><p>A <a href="https://example.com/?a=1&amp;b=2">tracked link</a></p></body></html>'

or with curl:

  curl --ssl-reqd --cacert %[8]s --url smtp://%[2]s --user %[3]s:%[4]s --mail-from news@%[6]s --mail-rcpt you@example.net --crlf --upload-file %[7]s

Then look at the page. Ctrl-C ends it.
`, g.adminListeners[0].Addr(), g.submission[0].Addr(), demoUser, demoPassword, d.dir, demoDomain, d.sample, certs.CAFile(g.certsDir()))
}
