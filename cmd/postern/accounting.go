package main

import (
	"bufio"
	"errors"
	"log/slog"
	"os"

	"postern/tracking/accounting"
	"postern/tracking/event"
)

type accountingCmd struct {
	Print bool     `required:"" help:"Print the events of the files as JSON lines; nothing else is touched."`
	Files []string `arg:"" type:"existingfile" help:"PowerMTA accounting files."`
}

func (c *accountingCmd) Help() string {
	return "Records of every message id make events here, whoever issued it.\nExample: postern accounting --print /var/log/pmta/acct-2026-11-24-0000.csv"
}

func (c *accountingCmd) Run(e *env) error {
	log := slog.New(slog.NewTextHandler(e.stderr, nil))
	out := bufio.NewWriter(e.stdout)
	var errs []error
	for _, name := range c.Files {
		f, err := os.Open(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, accounting.Print(bufio.NewReaderSize(f, 1<<20), name, nil, log, func(ev *event.Event) error {
			line, err := ev.Encode()
			if err == nil {
				_, err = out.Write(append(line, '\n'))
			}
			return err
		}), f.Close())
	}
	return errors.Join(append(errs, out.Flush())...)
}
