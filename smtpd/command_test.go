package smtpd

import (
	"testing"
)

func TestUpper(t *testing.T) {
	t.Parallel()
	in := "@AZ[`az{\u00c4\u00e4\u017f\u212a"
	if got, want := upper(in), "@AZ[`AZ{\u00c4\u00e4\u017f\u212a"; got != want {
		t.Errorf("upper %q, want %q", got, want)
	}
}
