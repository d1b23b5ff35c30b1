package smtpd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/smtpd/wire"
)

func (s *Server) newLibraryServer() *smtp.Server {
	l := smtp.NewServer(smtp.BackendFunc(s.newSession))
	l.Domain = s.c.Hostname
	l.AllowInsecureAuth = true // TLS ends in conn: the session decides
	l.MaxRecipients = s.c.MaxRecipients
	l.MaxMessageBytes = s.c.MaxMessageSize
	l.MaxLineLength = wire.MaxLine
	l.ReadTimeout = s.c.IdleTimeout
	l.EnableDSN = true
	l.EnableSMTPUTF8 = true
	l.ErrorLog = libraryLog{s.c.Log}

	return l
}

// libraryLog takes what the library has to say, which is about clients that
// went away, and about panics of ours.
type libraryLog struct{ log *slog.Logger }

// libraryPanic begins the format of the library's line about a panic.
const libraryPanic = "panic serving"

// Printf implements smtp.Logger.
func (l libraryLog) Printf(format string, v ...any) {
	level := slog.LevelDebug
	if strings.HasPrefix(format, libraryPanic) {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "go-smtp", "text", fmt.Sprintf(format, v...))
}

// Println implements smtp.Logger.
func (l libraryLog) Println(v ...any) {
	l.log.Debug("go-smtp", "text", strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}
