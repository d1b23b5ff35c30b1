package certs

import (
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestLogOfACME(t *testing.T) {
	for level, want := range map[zapcore.Level]slog.Level{
		zapcore.DebugLevel:     slog.LevelDebug,
		zapcore.DebugLevel - 1: slog.LevelDebug,
		zapcore.InfoLevel:      slog.LevelInfo,
		zapcore.WarnLevel:      slog.LevelWarn,
		zapcore.ErrorLevel:     slog.LevelError,
		zapcore.FatalLevel:     slog.LevelError,
	} {
		if got := slogLevel(level); got != want {
			t.Errorf("%s: got %s, want %s", level, got, want)
		}
	}

	var log strings.Builder
	z := zap.New(slogCore{slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))})
	z = z.With(zap.String("domain", "a.example"))
	z.Debug("is not written")
	z.Info("obtained", zap.Int("tries", 3))
	z.Error("failed")
	got := log.String()
	for _, want := range []string{
		`level=INFO msg="acme: obtained" domain=a.example tries=3` + "\n",
		`level=ERROR msg="acme: failed" domain=a.example` + "\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the log says\n%s\nwant %s", got, want)
		}
	}
	if strings.Count(got, "\n") != 2 {
		t.Errorf("the log says\n%s\nwant two lines", got)
	}
	if err := z.Sync(); err != nil {
		t.Error(err)
	}
}
