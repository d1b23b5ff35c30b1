package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/alecthomas/kong"

	"postern/cmd/postern/admin"
	"postern/dkim"
)

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	printVersion(e.stdout)
	return nil
}

// versionFlag is --version, which prints what `postern version` does.
type versionFlag bool

// BeforeReset runs where the flag is present, whatever else is missing.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	printVersion(app.Stdout)
	app.Exit(0)
	return nil
}

func printVersion(out io.Writer) {
	b := admin.ReadBuild()
	fmt.Fprintf(out, "postern %s\ncommit %s\n%s %s/%s\nRSA: %s\n",
		b.Version, b.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, dkim.RSAImplementation(dkim.RSAAuto))
}
