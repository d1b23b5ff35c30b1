package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Shell to complete for: bash, zsh, fish."`
}

func (c *completionCmd) Help() string {
	return `Prints a script that completes commands, flags and their values.
Example, for bash:  postern completion bash >/etc/bash_completion.d/postern
         for zsh:   postern completion zsh >/usr/local/share/zsh/site-functions/_postern
         for fish:  postern completion fish >~/.config/fish/completions/postern.fish`
}

func (c *completionCmd) Run(e *env, k *kong.Context) error {
	commands := completions(k.Model.Node)
	switch c.Shell {
	case "bash":
		return bashCompletion(e.stdout, commands)
	case "zsh":
		return zshCompletion(e.stdout, commands)
	default:
		return fishCompletion(e.stdout, commands)
	}
}

// completion is what may follow a command.
type completion struct {
	path  string // of the command: "/queue/list"; empty: the program itself
	words []word // sub-commands and flags
	flags []flag // those that take a value
}

// word is something to complete to.
type word struct{ text, help string }

// flag is a flag that takes a value: one of values, or where there are none, a
// file or whatever.
type flag struct {
	name   string
	values []string
}

// completions lists all commands of a model, the program first.
func completions(root *kong.Node) []completion {
	var out []completion
	var walk func(n *kong.Node, path string, inherited []*kong.Flag)
	walk = func(n *kong.Node, path string, inherited []*kong.Flag) {
		c := completion{path: path}
		for _, child := range n.Children {
			if child.Type == kong.CommandNode && !child.Hidden {
				c.words = append(c.words, word{child.Name, firstSentence(child.Help)})
			}
		}

		all := slices.Concat(inherited, n.Flags)
		for _, f := range all {
			if f.Hidden {
				continue
			}
			c.words = append(c.words, word{"--" + f.Name, firstSentence(f.Help)})
			if !f.IsBool() {
				c.flags = append(c.flags, flag{"--" + f.Name, enumValues(f.Value)})
			}
		}
		for _, p := range n.Positional {
			for _, v := range enumValues(p) {
				c.words = append(c.words, word{v, ""})
			}
		}
		out = append(out, c)

		for _, child := range n.Children {
			if child.Type == kong.CommandNode && !child.Hidden {
				walk(child, path+"/"+child.Name, all)
			}
		}
	}
	walk(root, "", nil)

	return out
}

func enumValues(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}

	return strings.Split(v.Enum, ",")
}

// firstSentence shortens a help text to what fits beside a completion.
func firstSentence(help string) string {
	help, _, _ = strings.Cut(help, "\n")
	if i := strings.Index(help, ". "); i >= 0 {
		help = help[:i]
	}

	return strings.TrimSuffix(help, ".")
}

func texts(words []word) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w.text
	}

	return strings.Join(out, " ")
}

func paths(commands []completion) string {
	var out []string
	for _, c := range commands {
		if c.path != "" {
			out = append(out, c.path)
		}
	}

	return strings.Join(out, "|")
}

func bashCompletion(out io.Writer, commands []completion) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# bash completion for postern
_postern() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path='' w
  for w in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path/$w" in %s) path="$path/$w" ;; esac
  done
  COMPREPLY=()
  case "$path $prev" in
`, paths(commands))
	for _, c := range commands {
		for _, f := range c.flags {
			fmt.Fprintf(&b, "    '%s %s') COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n",
				c.path, f.name, strings.Join(f.values, " "))
		}
	}
	b.WriteString("  esac\n  case \"$path\" in\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "    '%s') COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;\n", c.path, texts(c.words))
	}
	b.WriteString("  esac\n}\ncomplete -o default -F _postern postern\n")

	_, err := io.WriteString(out, b.String())
	return err
}

func zshCompletion(out io.Writer, commands []completion) error {
	var b strings.Builder
	fmt.Fprintf(&b, `#compdef postern
_postern() {
  local cmd='' w
  local -a list
  for w in "${(@)words[2,CURRENT-1]}"; do
    case "$cmd/$w" in %s) cmd="$cmd/$w" ;; esac
  done
  case "$cmd ${words[CURRENT-1]}" in
`, paths(commands))
	for _, c := range commands {
		for _, f := range c.flags {
			action := "_files"
			if len(f.values) > 0 {
				action = "compadd -- " + strings.Join(f.values, " ")
			}
			fmt.Fprintf(&b, "    '%s %s') %s; return ;;\n", c.path, f.name, action)
		}
	}
	b.WriteString("  esac\n  case \"$cmd\" in\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "    '%s') list=(", c.path)
		for _, w := range c.words {
			fmt.Fprintf(&b, " %s", shellQuote(strings.ReplaceAll(w.text, ":", `\:`)+":"+w.help))
		}
		b.WriteString(" ) ;;\n")
	}
	b.WriteString(`  esac
  _describe postern list
  [[ ${words[CURRENT]} == -* || -z $cmd ]] || _files
}
if [[ $funcstack[1] == _postern ]]; then _postern "$@"; else compdef _postern postern; fi
`)

	_, err := io.WriteString(out, b.String())
	return err
}

func fishCompletion(out io.Writer, commands []completion) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# fish completion for postern
function __postern_at
  set -l at ''
  for w in (commandline -opc)[2..-1]
    if contains -- "$at/$w" %s
      set at "$at/$w"
    end
  end
  test "$at" = "$argv[1]"
end
`, strings.ReplaceAll(paths(commands), "|", " "))
	for _, c := range commands {
		at := fmt.Sprintf("complete -c postern -n \"__postern_at '%s'\"", c.path)
		for _, w := range c.words {
			name, isFlag := strings.CutPrefix(w.text, "--")
			i := slices.IndexFunc(c.flags, func(f flag) bool { return f.name == w.text })
			switch {
			case !isFlag:
				fmt.Fprintf(&b, "%s -f -a %s -d %s\n", at, w.text, shellQuote(w.help))
			case i < 0:
				fmt.Fprintf(&b, "%s -l %s -d %s\n", at, name, shellQuote(w.help))
			case len(c.flags[i].values) > 0:
				values := shellQuote(strings.Join(c.flags[i].values, " "))
				fmt.Fprintf(&b, "%s -l %s -x -a %s -d %s\n", at, name, values, shellQuote(w.help))
			default:
				fmt.Fprintf(&b, "%s -l %s -r -d %s\n", at, name, shellQuote(w.help))
			}
		}
	}

	_, err := io.WriteString(out, b.String())
	return err
}

// shellQuote writes a text as one word of bash and zsh, and of fish where it
// holds no backslash.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }
