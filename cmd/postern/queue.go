package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"postern/cmd/postern/admin"
	"postern/relay/queue"
)

type queueCmd struct {
	List  queueListCmd  `cmd:"" help:"List waiting copies, those due first at the top."`
	Show  queueShowCmd  `cmd:"" help:"Print a waiting copy, or list them if the id names several."`
	Retry queueRetryCmd `cmd:"" help:"Retry a copy now; without an id, all of them."`
	Drop  queueDropCmd  `cmd:"" help:"Drop a copy for good, without telling its sender."`
}

type queueAt struct{ spoolAt }

// ask sends a request to the running gateway, or opens the spool itself where
// none runs.
func (c queueAt) ask(method, path string, out io.Writer) error {
	l, err := c.load()
	if err != nil {
		return err
	}

	return admin.AskQueue(context.Background(), l.Config, method, path, out)
}

type queueListCmd struct {
	queueAt
	JSON bool `help:"Print JSON."`
	N    int  `short:"n" default:"1000" help:"Show at most N copies."`
}

func (c *queueListCmd) Help() string { return "Example: postern queue list" }

func (c *queueListCmd) Run(e *env) error {
	path := "/queue?n=" + strconv.Itoa(c.N)
	if c.JSON {
		return c.ask(http.MethodGet, path, e.stdout)
	}

	var answer bytes.Buffer
	if err := c.ask(http.MethodGet, path, &answer); err != nil {
		return err
	}
	var list []queue.Waiting
	if err := json.Unmarshal(answer.Bytes(), &list); err != nil {
		return err
	}

	if len(list) == 0 {
		fmt.Fprintln(e.stdout, "nothing waits")
		return nil
	}

	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MESSAGE ID\tFROM\tTO\tAGE\tTRIES\tNEXT\tLAST ANSWER")
	now := time.Now()
	for _, x := range list {
		next := max(0, x.Next.Sub(now)).Round(time.Second).String()
		if x.Away {
			next += ", or when the upstream is back"
		}
		age := now.Sub(x.Created).Round(time.Second)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%.100q\n",
			x.MessageID, x.From, x.Recipient, age, x.Tries, next, x.Reply)
	}

	return t.Flush()
}

type queueShowCmd struct {
	queueAt
	ID string `arg:"" help:"Message id of a copy, or the queue id in the client's 250 reply."`
}

func (c *queueShowCmd) Run(e *env) error {
	return c.ask(http.MethodGet, "/queue/"+url.PathEscape(c.ID), e.stdout)
}

type queueRetryCmd struct {
	queueAt
	ID string `arg:"" optional:"" help:"Message id of a copy, or the queue id in the client's 250 reply."`
}

func (c *queueRetryCmd) Run(e *env) error {
	path := "/queue/retry"
	if c.ID != "" {
		path = "/queue/" + url.PathEscape(c.ID) + "/retry"
	}
	return c.ask(http.MethodPost, path, e.stdout)
}

type queueDropCmd struct {
	queueAt
	ID string `arg:"" help:"Message id of a copy, or the queue id in the client's 250 reply."`
}

func (c *queueDropCmd) Run(e *env) error {
	return c.ask(http.MethodPost, "/queue/"+url.PathEscape(c.ID)+"/drop", e.stdout)
}
