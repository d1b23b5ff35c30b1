package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// usageError says that a command was called in a way that makes no sense, which
// the parser of the command line could not see.
type usageError struct{ reason string }

func (e usageError) Error() string { return e.reason }

// printUsage ends an error of the command line with the usage of the command
// that it is about.
func printUsage(out io.Writer, parser *kong.Kong, err error) {
	node := parser.Model.Node
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil {
		for _, p := range wrong.Context.Path {
			if p.Command != nil {
				node = p.Command
			}
		}
	}

	printNodeUsage(out, node)
}

func printNodeUsage(out io.Writer, node *kong.Node) {
	fmt.Fprintf(out, "Usage: %s\nTry: %s --help\n", "postern "+strings.TrimSpace(node.Summary()), node.FullPath())
}
