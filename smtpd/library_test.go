package smtpd

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

func TestLibraryLogIsFormatted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := libraryLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Printf("error handling %v: %s", netip.MustParseAddrPort("192.0.2.1:25"), fmt.Errorf("gone\nforged"))
	l.Printf("panic serving %v: %v\n%s", "192.0.2.1:25", "oh", "stack")
	l.Println("closed", 3)

	for _, want := range []string{
		`level=DEBUG msg=go-smtp text="error handling 192.0.2.1:25: gone\nforged"`,
		`level=ERROR msg=go-smtp text="panic serving 192.0.2.1:25: oh\nstack"`,
		`level=DEBUG msg=go-smtp text="closed 3"`,
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}
