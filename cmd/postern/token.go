package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"postern/tracking/token"
)

type tokenCmd struct {
	Keygen tokenKeygenCmd `cmd:"" help:"Create a key file, or add a newer key to one."`
	Decode tokenDecodeCmd `cmd:"" help:"Print what a tracked link contains, as JSON."`
}

type tokenKeygenCmd struct {
	File string `arg:"" type:"path" help:"Key file (tracking.key_file)."`
}

func (c *tokenKeygenCmd) Help() string {
	return `The newest key seals and every key opens, after the next reload or start.
Where trackers have key files of their own, copy the new file to them and reload
them first, then reload the gateway: a link opens only where its key is known.
Back the file up: without it, links that were already sent stop working.
Example: postern token keygen /etc/postern/token.keys`
}

func (c *tokenKeygenCmd) Run(e *env) error {
	file := token.KeyFile{Path: c.File, OwnerLost: e.ownerLost(c.File)}
	id, err := file.Add(time.Now())
	if err != nil {
		return err
	}

	fmt.Fprintf(e.stdout, "%s: key %d added\n", c.File, id)
	return nil
}

type tokenDecodeCmd struct {
	Keys string   `required:"" type:"path" help:"Key file." placeholder:"FILE"`
	Host []string `help:"Tracking host of a token that is given without its URL." placeholder:"HOST"`
	URL  string   `arg:"" help:"Tracked link, or its token."`
}

func (c *tokenDecodeCmd) Help() string {
	return "Example: postern token decode --keys token.keys https://track.example.com/t/AbC..."
}

func (c *tokenDecodeCmd) Run(e *env) error {
	keys, err := token.ReadKeys(c.Keys)
	if err != nil {
		return err
	}

	text, hosts := c.URL, []string{token.Mail, token.Probing}
	for _, h := range c.Host {
		hosts = append(hosts, token.Host(h))
	}

	if u, err := url.Parse(c.URL); err == nil && u.Scheme != "" {
		path := u.Path
		if i := strings.LastIndex(path, token.PathPrefix); i > 0 { // tracking.url has a path
			path = path[i:]
		}
		text, _ = token.FromPath(path)
		hosts = append(hosts, token.Host(u.Host))
	}

	t, err := keys.Open(text, hosts...)
	if err != nil {
		return err
	}

	out := json.NewEncoder(e.stdout)
	out.SetEscapeHTML(false)
	return out.Encode(map[string]any{
		"kind":       t.Kind.String(),
		"message_id": t.MessageID.String(),
		"issued":     t.Issued().UTC(),
		"host":       t.Host,
		"recipient":  t.Recipient,
		"subaccount": t.Subaccount,
		"target":     t.Target,
		"link_name":  t.LinkName,
	})
}
