package wire

import (
	"testing"
	"time"
)

// TestTransportLimits checks limits against the documentation.
func TestTransportLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"command line", MaxLine, 12290},
		{"domain of EHLO", maxDomain, 255},
		{"unknown commands", maxUnknown, 10},
		{"chunk", maxChunk, 2147483647},
		{"refusals in a row", maxErrors, 20},
		{"line of a transcript", maxTranscript, 500},
		{"handshake", HandshakeTimeout, 30 * time.Second},
		{"write", writeTimeout, time.Minute},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}
