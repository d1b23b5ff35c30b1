package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"postern/cmd/postern/config"
	"postern/cmd/postern/gateway"
	"postern/cmd/postern/localsocket"
	"postern/cmd/postern/logging"
	"postern/tracking/accounting"
	"postern/tracking/event"
)

type accountingCmd struct {
	Print bool `xor:"what" help:"Print the events of files as JSON lines. Changes nothing."`
	Pipe  bool `xor:"what" help:"Read records from standard input, for PowerMTA's pipe."`
	configFile
	Socket string   `type:"path" help:"With --pipe: the gateway's socket (pipe_socket)." placeholder:"PATH"`
	Dir    string   `type:"path" help:"With --pipe: a folder for records while no gateway runs." placeholder:"PATH"`
	Files  []string `arg:"" optional:"" type:"existingfile" help:"With --print: PowerMTA accounting files."`
}

func (c *accountingCmd) Help() string {
	return `--print converts every record, whoever issued its message id. Bounce classes and
the message id's column come from the configuration, if there is one.
Example: postern accounting --print /var/log/pmta/acct-2026-11-24-0000.csv

--pipe, in PowerMTA's configuration:
  <acct-file |/usr/local/bin/postern accounting --pipe
      --socket /var/lib/postern/pipe.sock --dir /var/spool/postern-pipe>
Each record is durable before the next is read, whether a gateway runs or not.
Without --socket and --dir both are read from the configuration. Configure an
accounting file beside the pipe, as PowerMTA's User's Guide recommends.`
}

func (c *accountingCmd) Run(e *env) error {
	switch {
	case !c.Pipe && (c.Socket != "" || c.Dir != ""):
		return usageError{"--socket and --dir are for --pipe"}
	case c.Pipe:
		return c.pipe(e)
	case c.Print && len(c.Files) > 0:
		return c.print(e)
	}
	return usageError{"want --print FILE..., or --pipe"}
}

func (c *accountingCmd) pipe(e *env) error {
	to, err := c.target(e)
	if err != nil {
		return err
	}

	log := e.useLog(logging.Config{}).Logger() // PowerMTA need not read it
	if to.Dir == "" {
		log.Warn("accounting: no --dir: records that come while there is no gateway can be lost")
	}
	return accounting.Pipe(e.ctx, e.stdin, to, log)
}

// target returns where --pipe takes records: what the flags say, or where there
// are none, the configuration.
func (c *accountingCmd) target(e *env) (accounting.PipeTarget, error) {
	if c.Socket != "" || c.Dir != "" {
		to := accounting.PipeTarget{Dir: c.Dir}
		if c.Socket != "" {
			to.Gateway = func() (*os.File, error) { return fileFromGateway(context.WithoutCancel(e.ctx), c.Socket) }
		}
		return to, nil
	}

	l, problems := c.read(config.All)

	// What else is wrong does not keep records from the disk.
	if l.StateDir == "" || !l.Understood() {
		for _, p := range problems.Fatal() {
			fmt.Fprintln(e.stderr, p)
		}
		return accounting.PipeTarget{},
			errors.New("the configuration does not say where records go; give --socket or --dir")
	}

	to := accounting.PipeTarget{Dir: l.Accounting.PipeDir}
	if to.Dir == "" {
		to.Dir = gateway.PipeDir(l.Config)
	}
	if l.Accounting.PipeSocket != "" {
		to.Gateway = func() (*os.File, error) {
			return fileFromGateway(context.WithoutCancel(e.ctx), l.Accounting.PipeSocket)
		}
	}

	return to, nil
}

// fileFromGateway asks the gateway for a file for records.
func fileFromGateway(ctx context.Context, socket string) (*os.File, error) {
	c, err := localsocket.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()

	return accounting.Receive(c)
}

// settings are those of the configuration, whatever else is wrong in it; where
// none is named and the default is not there they are the defaults.
func (c *accountingCmd) settings() (accounting.Settings, error) {
	if c.file() == defaultConfig && !c.isThere() {
		return accounting.Settings{}, nil
	}

	l, problems := c.read(config.All)
	if l.Relay.MessageIDHeader == "" || !l.Understood() {
		return accounting.Settings{}, problems.Fatal()
	}

	return accounting.Settings{
		Classes:         l.Accounting.BounceClass,
		MessageIDHeader: func() string { return string(l.Relay.MessageIDHeader) },
	}, nil
}

func (c *accountingCmd) print(e *env) error {
	log := slog.New(slog.NewTextHandler(e.stderr, nil))
	out := bufio.NewWriter(e.stdout)
	set, err := c.settings()
	if err != nil {
		return err
	}

	var errs []error
	for _, name := range c.Files {
		f, err := os.Open(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, accounting.Print(f, name, set, log, func(ev *event.Event) error {
			line, err := ev.EncodePublic()
			if err == nil {
				_, err = out.Write(append(line, '\n'))
			}
			return err
		}), f.Close())
	}

	return errors.Join(append(errs, out.Flush())...)
}
