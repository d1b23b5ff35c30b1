package auth

import (
	"errors"
	"testing"

	"postern/relay/reply"
)

// TestSASLExchanges plays exchanges of PLAIN and LOGIN.
func TestSASLExchanges(t *testing.T) {
	t.Parallel()
	const malformed, wrong = "501 5.5.2 Malformed authentication response", "535 5.7.8 Authentication credentials invalid"
	none := []byte(nil)
	b := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		name  string
		plain bool
		steps [][]byte // responses; none: no initial one
		asks  []string // what each is answered with
		want  string   // the login, or the error
	}{
		{"PLAIN", true, [][]byte{b("\x00ann\x00pw")}, nil, "ann/pw"},
		{"PLAIN, in two steps", true, [][]byte{none, b("\x00ann\x00pw")}, []string{""}, "ann/pw"},
		{"PLAIN, no answer", true, [][]byte{none, none}, []string{""}, malformed},
		{"PLAIN, own name in another case", true, [][]byte{b("ANN\x00ann\x00pw")}, nil, "ann/pw"},
		{"PLAIN, another's name", true, [][]byte{b("b\x00ann\x00pw")}, nil, wrong},
		{"PLAIN, a NUL in the password", true, [][]byte{b("\x00ann\x00pw\x00x")}, nil, "ann/pw\x00x"},
		{"PLAIN, a name of one letter", true, [][]byte{b("\x00a\x00")}, nil, "a/"},
		{"PLAIN, no name", true, [][]byte{b("\x00\x00pw")}, nil, malformed},
		{"PLAIN, two fields", true, [][]byte{b("ann\x00pw")}, nil, malformed},
		{"PLAIN, one field", true, [][]byte{b("ann")}, nil, malformed},
		{"PLAIN, empty", true, [][]byte{b("")}, nil, malformed},
		{"LOGIN", false, [][]byte{none, b("ann"), b("pw")}, []string{"Username:", "Password:"}, "ann/pw"},
		{"LOGIN, with the name", false, [][]byte{b("ann"), b("pw")}, []string{"Password:"}, "ann/pw"},
		{"LOGIN, a name of one letter", false, [][]byte{b("a"), b("")}, []string{"Password:"}, "a/"},
		{"LOGIN, no name", false, [][]byte{none, b("")}, []string{"Username:"}, malformed},
		{"LOGIN, no answer", false, [][]byte{none, none}, []string{"Username:"}, malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			login := func(name, password string) error {
				got = name + "/" + password
				return nil
			}
			var s interface {
				Next([]byte) ([]byte, bool, error)
			} = &loginServer{login: login}
			if c.plain {
				s = &plainServer{login: login}
			}
			for i, step := range c.steps {
				ask, done, err := s.Next(step)
				last := i == len(c.steps)-1
				if err != nil {
					var fault *reply.Fault
					if !errors.As(err, &fault) {
						t.Fatalf("step %d: %v is no fault", i+1, err)
					}
					got = fault.Reply.String()
				}
				if !last && (err != nil || done || string(ask) != c.asks[i]) {
					t.Fatalf("step %d: %q, done %v, %v; want %q", i+1, ask, done, err, c.asks[i])
				}
				if last && (ask != nil || done != (err == nil)) {
					t.Errorf("last step: %q, done %v, %v", ask, done, err)
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
