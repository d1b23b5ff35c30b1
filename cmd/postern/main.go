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

	"github.com/alecthomas/kong"

	"postern/cmd/postern/config"
)

// cli is the command line. Exit status: 0, 1 (it did not work), 2 (wrong
// usage).
type cli struct {
	Demo       demoCmd       `cmd:"" help:"Everything embedded on loopback, to try it out."`
	Serve      serveCmd      `cmd:"" help:"Run the gateway. SIGTERM drains."`
	Check      checkCmd      `cmd:"" help:"Say all that is wrong with a configuration."`
	Passwd     passwdCmd     `cmd:"" help:"Add, change, delete or list users."`
	DKIM       dkimCmd       `cmd:"" name:"dkim" help:"Signing keys and their DNS records."`
	Token      tokenCmd      `cmd:"" help:"The keys of tracked links, and what a link holds."`
	Queue      queueCmd      `cmd:"" help:"Copies that wait in the retry spool: list, show, retry, drop."`
	Events     eventsCmd     `cmd:"" help:"The event spool: tail, stats, batches, replay."`
	Accounting accountingCmd `cmd:"" help:"PowerMTA's accounting records as events."`
	Report     reportCmd     `cmd:"" help:"What bounces and complaints say, as JSON lines."`
	Jobid      jobidCmd      `cmd:"" help:"Show what X-Job makes of names, one a line."`
	Completion completionCmd `cmd:"" help:"Print a script that completes commands for a shell."`
	Version    versionCmd    `cmd:"" help:"Version, commit and Go version."`
}

// env is what commands get of the world.
type env struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
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

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	var c cli
	type exited int
	defer func() {
		if e, ok := recover().(exited); ok {
			code = int(e)
		} else if e != 0 {
			panic(e)
		}
	}()
	parser, err := kong.New(&c, kong.Name("postern"),
		kong.Description("Postern is an SMTP injection gateway in front of PowerMTA."),
		kong.UsageOnError(), kong.Writers(stdout, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { panic(exited(code)) }))
	if err != nil {
		panic(err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\nTry: postern --help\n", err)
		return exitUsage
	}
	if err := k.Run(&env{ctx, stdin, stdout, stderr}); err != nil {
		var ps config.Problems
		if errors.As(err, &ps) {
			fmt.Fprintln(stderr, ps)
		} else {
			fmt.Fprintf(stderr, "postern: %v\n", err)
		}
		return exitFailed
	}
	return 0
}

// newLog makes the log that the configuration asks for.
func newLog(w io.Writer, c config.Log, level *slog.LevelVar) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
