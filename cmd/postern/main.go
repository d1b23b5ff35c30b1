// Command postern is an SMTP injection gateway: it takes mail over
// authenticated SMTP, makes it trackable, signs it and hands it to PowerMTA,
// serves the tracked links and uploads every event.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"postern/cmd/postern/config"
	"postern/cmd/postern/logging"
)

// cli is the command line. Exit status: 0, 1 (it did not work), 2 (wrong
// usage).
type cli struct {
	Demo       demoCmd       `cmd:"" help:"Run everything on loopback, to try it out."`
	Serve      serveCmd      `cmd:"" help:"Run the gateway; SIGHUP reloads, SIGTERM drains."`
	Check      checkCmd      `cmd:"" help:"Check a configuration and summarise it."`
	Passwd     passwdCmd     `cmd:"" help:"Add, change, remove or list users."`
	DKIM       dkimCmd       `cmd:"" name:"dkim" help:"Manage signing keys and their DNS records."`
	Token      tokenCmd      `cmd:"" help:"Manage the keys of tracked links; decode a link."`
	Queue      queueCmd      `cmd:"" help:"List, show, retry or drop copies in the retry spool."`
	Events     eventsCmd     `cmd:"" help:"Show and replay the event spool."`
	Accounting accountingCmd `cmd:"" help:"Convert PowerMTA's accounting records to events."`
	Report     reportCmd     `cmd:"" help:"Parse bounces and complaints to JSON lines."`
	Jobid      jobidCmd      `cmd:"" help:"Sanitise names for X-Job, one a line."`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
	Version    versionCmd    `cmd:"" help:"Print version, commit, Go version and RSA implementation."`

	ShowVersion versionFlag `name:"version" help:"Print version, commit, Go version and RSA implementation."`
}

// env is what a command gets of the world.
type env struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	log    *logging.Log // nil: the command writes to stderr itself
}

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes a command line and returns the exit status. A panic in a
// command is the caller's, so that the runtime ends the process with a stack
// trace and a status that is not 0.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	helped := false
	parser, err := kong.New(&c, kong.Name("postern"),
		kong.Description("Postern is an SMTP injection gateway in front of PowerMTA."),
		kong.Writers(stdout, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(int) { helped = true })) // only --help and --version exit
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n", err)
		return exitFailed
	}

	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n", err)
		printUsage(stderr, parser, err)
		return exitUsage
	}

	e := &env{
		ctx:    ctx,
		stdin:  stdin,
		stdout: stdout,
		stderr: stderr,
	}
	defer e.flush()

	if err := k.Run(e); err != nil {
		e.report(err)
		var wrong usageError
		if errors.As(err, &wrong) {
			printNodeUsage(e.stderr, k.Selected())
			return exitUsage
		}
		return exitFailed
	}

	return 0
}

// report says on standard error why a command failed.
func (e *env) report(err error) {
	var ps config.Problems
	if errors.As(err, &ps) {
		fmt.Fprintln(e.stderr, ps)
		return
	}

	fmt.Fprintf(e.stderr, "postern: %v\n", err)
}

// flushWithin bounds the time in which the log is written at the end.
const flushWithin = 2 * time.Second

// useLog starts the log of a command that runs for long, and sends what the
// command writes to standard error through it: whoever reads that may stop
// reading, or go away, without stopping the command.
func (e *env) useLog(c logging.Config) *logging.Log {
	signal.Ignore(syscall.SIGPIPE) // else the runtime ends the process on EPIPE there

	c.Writer = e.stderr
	e.log = logging.New(c)
	e.stderr = e.log
	return e.log
}

func (e *env) flush() {
	if e.log != nil {
		_ = e.log.Close(flushWithin) // there is nobody left to tell
	}
}

// logConfig is the log that a configuration asks for.
func logConfig(c config.Log, level slog.Leveler) logging.Config {
	return logging.Config{JSON: c.Format == "json", Level: level}
}
