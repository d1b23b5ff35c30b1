package smtpd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/smtpd/wire"
)

// newLibraryServer returns the go-smtp server under s.
func (s *Server) newLibraryServer() *smtp.Server {
	l := smtp.NewServer(smtp.BackendFunc(s.newSession))
	l.Domain = s.cfg.Hostname
	l.AllowInsecureAuth = true // TLS ends in wire.Conn: the policy decides
	l.MaxRecipients = s.cfg.Limits.MaxRecipients
	l.MaxMessageBytes = s.cfg.Limits.MaxMessageSize
	l.MaxLineLength = wire.MaxLine
	l.ReadTimeout = s.cfg.Timeouts.Idle
	l.EnableDSN = true
	l.EnableSMTPUTF8 = true
	l.ErrorLog = libraryLog{s.cfg.Log}

	return l
}

// libraryLog logs what go-smtp reports: clients that went away, at level debug, and
// our panics, as errors.
type libraryLog struct{ log *slog.Logger }

// libraryPanic begins the format of go-smtp's line about a panic.
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
