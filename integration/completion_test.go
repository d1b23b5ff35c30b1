package integration

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestCompletion has the shells themselves complete.
func TestCompletion(t *testing.T) {
	need(t, "bash", "zsh", "fish")
	dir := t.TempDir()
	script := func(shell string) string {
		file := filepath.Join(dir, "postern."+shell)
		writeFile(t, file, run(t, "", postern, "completion", shell))
		return file
	}

	ask := map[string]func(words []string) string{}
	bash := script("bash")
	ask["bash"] = func(words []string) string {
		const ask = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _postern; printf '%s\n' "${COMPREPLY[@]}"`
		return run(t, "", "bash", append([]string{"-c", ask, "bash", bash}, words...)...)
	}
	fish := script("fish")
	ask["fish"] = func(words []string) string {
		out := run(t, "", "fish", "--no-config", "-c", "source "+fish+"; complete -C "+"'"+strings.Join(words, " ")+"'")
		var texts []string
		for _, line := range strings.Split(out, "\n") {
			text, _, _ := strings.Cut(line, "\t")
			texts = append(texts, text)
		}
		return strings.Join(texts, "\n")
	}
	zsh := script("zsh")
	ask["zsh"] = func(words []string) string {
		const ask = `autoload -Uz compinit; compinit -u -d "$1/dump"; source "$2"; shift 2
_describe() { local w; for w in "${(@P)2}"; do [[ $w == $PREFIX* ]] && print -r -- "${w%%:*}"; done }
compadd() { shift; print -rl -- "$@" }
_files() { }
words=("$@"); CURRENT=$#; PREFIX=${words[CURRENT]}; _postern`
		return run(t, "", "zsh", append([]string{"-f", "-c", ask, "zsh", dir, zsh}, words...)...)
	}

	for _, c := range []struct {
		words []string
		want  []string
	}{
		{[]string{"postern", "queu"}, []string{"queue"}},
		{[]string{"postern", "queue", "re"}, []string{"retry"}},
		{[]string{"postern", "serve", "--role", ""}, []string{"all", "tracker"}},
		{[]string{"postern", "events", "tail", "--t"}, []string{"--type"}},
		{[]string{"postern", "events", "tail", "--type", "click", "--no-such"}, nil},
	} {
		for shell, complete := range ask {
			t.Run(shell+" "+strings.Join(c.words, " "), func(t *testing.T) {
				got := strings.Join(strings.Fields(complete(c.words)), " ")
				if want := strings.Join(c.want, " "); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}
