package config

// Log says what is logged and how.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// checkLog checks [log].
func (b *binder) checkLog(l *Log) {
	b.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	b.oneOf("log.format", l.Format, "text", "json")
}
