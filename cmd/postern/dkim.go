package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"postern/cmd/postern/online"
	"postern/dkim"
	"postern/relay/message"
	"postern/tracking/spool/atomicfile"
)

type dkimCmd struct {
	Keygen dkimKeygenCmd `cmd:"" help:"Generate a key and print the DNS record to publish."`
	Record dkimRecordCmd `cmd:"" help:"Print the DNS record of a key."`
	Verify dkimVerifyCmd `cmd:"" help:"Compare the published key with the one on disk; look for SPF and DMARC."`
	Sign   dkimSignCmd   `cmd:"" help:"Sign a message and print it."`
}

type dkimKeygenCmd struct {
	Domain   string `required:"" help:"Signing domain (d=)."`
	Selector string `required:"" help:"Selector (s=)."`
	Out      string `required:"" type:"path" help:"File for the private key; it must not exist." placeholder:"FILE"`
	Type     string `default:"rsa2048" enum:"rsa2048,rsa3072,rsa4096,ed25519" help:"Type: rsa2048, rsa3072, rsa4096 or ed25519."`
}

func (c *dkimKeygenCmd) Help() string {
	return "Example: postern dkim keygen --domain example.com --selector s2026 --out s2026.example.com.pem"
}

func (c *dkimKeygenCmd) Run(e *env) error {
	domain, err := dkim.ParseDomain(c.Domain)
	if err == nil {
		err = dkim.CheckSelector(c.Selector)
	}
	if err != nil {
		return err
	}

	key, pem, err := dkim.Generate(c.Type)
	if err != nil {
		return err
	}
	if err := writeNewFile(atomicfile.OS{}, c.Out, pem); err != nil {
		return err
	}

	return printRecord(e, dkim.Key{Domain: domain, Selector: c.Selector, Private: key}, false)
}

// writeNewFile makes a file durable that must not exist yet and that only its
// owner reads. Where that fails no file is left, so that the command can be
// given again.
func writeNewFile(fsys atomicfile.FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}

	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(name))
	}

	return nil
}

// keyArgs name a key on disk.
type keyArgs struct {
	Domain   string `required:"" help:"Signing domain (d=)."`
	Selector string `required:"" help:"Selector (s=)."`
	Key      string `required:"" type:"path" help:"Private key." placeholder:"FILE"`
}

func (k keyArgs) read() (dkim.Key, error) { return dkim.ReadKey(k.Domain, k.Selector, k.Key) }

type dkimRecordCmd struct {
	keyArgs
	Plain bool `help:"Print the record's value alone, without name and quotes."`
}

func (c *dkimRecordCmd) Help() string {
	return "Example: postern dkim record --domain example.com --selector s2026 --key s2026.example.com.pem"
}

func (c *dkimRecordCmd) Run(e *env) error {
	k, err := c.read()
	if err != nil {
		return err
	}
	return printRecord(e, k, c.Plain)
}

func printRecord(e *env, k dkim.Key, plain bool) error {
	value, err := dkim.RecordValue(k.Private)
	if err != nil {
		return err
	}

	if !plain {
		value = dkim.BIND(k.Domain, k.Selector, value)
	}

	fmt.Fprintln(e.stdout, value)
	return nil
}

type dkimVerifyCmd struct {
	keyArgs
	DNS string `name:"dns" help:"DNS server. Default: the system's." placeholder:"HOST:PORT"`
}

func (c *dkimVerifyCmd) Help() string {
	return "Example: postern dkim verify --domain example.com --selector s2026 " +
		"--key s2026.example.com.pem --dns 192.0.2.53:53"
}

const dnsTimeout = 15 * time.Second

func (c *dkimVerifyCmd) Run(e *env) error {
	k, err := c.read()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(e.ctx, dnsTimeout)
	defer cancel()

	failed := 0
	unanswered := 0
	findings := dkim.Check(ctx, online.TXTResolver(c.DNS), k)
	for _, f := range findings {
		switch f.Result {
		case dkim.Good:
		case dkim.Unknown:
			unanswered++
		default:
			failed++
		}
		fmt.Fprintf(e.stdout, "%-9s  %s\n", f.Result, f.Text)
	}

	var errs []error
	if failed > 0 {
		errs = append(errs, fmt.Errorf("%d of %d DNS checks failed", failed, len(findings)))
	}
	if unanswered > 0 {
		errs = append(errs, fmt.Errorf("%d of %d DNS checks got no answer", unanswered, len(findings)))
	}

	return errors.Join(errs...)
}

type dkimSignCmd struct {
	keyArgs
	File string `arg:"" type:"existingfile" help:"Message; lines may end with LF."`
}

func (c *dkimSignCmd) Help() string {
	return "Example: postern dkim sign --domain example.com --selector s2026 --key s2026.example.com.pem message.eml"
}

func (c *dkimSignCmd) Run(e *env) error {
	k, err := c.read()
	if err != nil {
		return err
	}

	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()

	msg, err := message.ReadMessage(f, message.ReadConfig{NormaliseLF: true})
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}

	header, body, _ := message.Split(msg)
	sig, err := dkim.Sign([]dkim.Key{k}, header, body, dkim.Times{Signed: time.Now()})
	if err != nil {
		return err
	}

	_, err = e.stdout.Write(append(sig, msg...))
	return err
}
