package main

import (
	"fmt"

	"postern/relay"
)

type jobidCmd struct {
	Text []string `arg:"" help:"Names to sanitise."`
}

func (c *jobidCmd) Help() string { return `Example: postern jobid "Spring sale" 'été'` }

func (c *jobidCmd) Run(e *env) error {
	for _, t := range c.Text {
		fmt.Fprintln(e.stdout, relay.JobID(t))
	}
	return nil
}
