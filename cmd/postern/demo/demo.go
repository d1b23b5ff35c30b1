package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	"postern/dkim"
	"postern/smtpd"
	"postern/tracking/token"
)

const (
	demoUser       = "demo"
	demoPassword   = "demo" // on loopback, for a first try
	demoDomain     = "example.com"
	demoSelector   = "demo"
	DemoAPIKey     = "0123456789abcdef0123456789abcdef01234567"
	demoSubmission = "127.0.0.1:2587"
	demoTracker    = "127.0.0.1:2580"
	demoPage       = "127.0.0.1:8025"
)

// demo is what stands around the gateway: the sink and the ingest endpoint.
type demo struct {
	dir        string
	ConfigFile string
	sample     string
	Record     string // the DKIM record's value, to verify with
	Box        *Mailbox
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// startDemo makes keys, a user and a configuration in dir where they are
// missing, and starts the sink and the ingest endpoint.
func Start(ctx context.Context, dir string) (*demo, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	d := &demo{
		dir:        dir,
		ConfigFile: filepath.Join(dir, "postern.toml"),
		sample:     filepath.Join(dir, "sample.eml"),
		Box:        NewMailbox(),
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

	s := sink.New(sink.Config{Hostname: "sink.localhost", Keep: d.Box.Deliver})
	d.wg.Go(func() { _ = s.Serve(background, sinkListener) })

	endpoint := &http.Server{
		Handler:           &ingestd.Server{Key: DemoAPIKey, OnEvent: d.Box.Event},
		ReadHeaderTimeout: 10 * time.Second,
	}
	d.wg.Go(func() {
		_ = gateway.ServeHTTP(background, endpoint, ingestListener, func() time.Duration { return time.Second })
	})

	return d, nil
}

func (d *demo) Stop() {
	d.cancel()
	d.wg.Wait()
}

// freeAddr is want, or another port where that one is taken.
func FreeAddr(want string) string {
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

const DemoSample = `From: Postern <news@example.com>
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
	if d.Record, err = dkim.RecordValue(key.Private); err != nil {
		return err
	}

	if _, err := os.Stat(inDir("users.toml")); err != nil {
		hash, err := smtpd.HashPassword(demoPassword)
		if err != nil {
			return err
		}
		editor := config.UsersEditor{File: inDir("users.toml")}
		if _, _, err := editor.SetPassword(demoUser, hash); err != nil {
			return err
		}
	}

	tracker := FreeAddr(demoTracker)
	text := fmt.Sprintf(demoConfig, inDir("state"), FreeAddr(demoSubmission), upstream, "http://"+tracker, tracker,
		demoDomain, demoSelector, DemoAPIKey, "http://"+ingest+"/api/v1/ingest/events", FreeAddr(demoPage))

	return errors.Join(os.WriteFile(d.ConfigFile, []byte(text), 0o600), os.WriteFile(d.sample, []byte(DemoSample), 0o600))
}

func (d *demo) Announce(out io.Writer, g *gateway.Gateway) {
	fmt.Fprintf(out, `Postern demo is up.

  page        http://%[1]s/
  submission  %[2]s, STARTTLS, user %[3]s, password %[4]s
  state       %[5]s
  CA file     %[8]s

Send a mail with swaks:

  swaks --server %[2]s --tls --auth LOGIN --auth-user %[3]s --auth-password %[4]s --from news@%[6]s --to you@example.net --h-Subject 'Hello' --add-header 'X-Job: first mail' --add-header 'Content-Type: text/html' --body '<html><body><p>A <a href="https://example.com/?a=1&amp;b=2">tracked link</a></p></body></html>'

or with curl:

  curl --ssl-reqd --cacert %[8]s --url smtp://%[2]s --user %[3]s:%[4]s --mail-from news@%[6]s --mail-rcpt you@example.net --crlf --upload-file %[7]s

Then look at the page. Ctrl-C ends it.
`, g.AdminListeners[0].Addr(), g.Submission[0].Addr(), demoUser, demoPassword, d.dir, demoDomain, d.sample, certs.CAFile(g.CertsDir()))
}
