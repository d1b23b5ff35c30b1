// Package config reads postern.toml and the users file. It is strict, and reports
// all problems at once, each with its file, line and key. The annotated example
// beside this package names every key and its default.
//
// Each section of the file has a file here, with its struct, its defaults and its
// rules; bind.go reads TOML into the structs. A Config is plain data: safe for
// concurrent reading.
package config

// Config is the configuration file. Paths are absolute after Load.
type Config struct {
	Hostname      Host     `toml:"hostname"`
	StateDir      string   `toml:"state_dir"`
	MemoryBudget  Size     `toml:"memory_budget"`
	ShutdownGrace Duration `toml:"shutdown_grace"`

	Log        Log          `toml:"log"`
	Submission Submission   `toml:"submission"`
	Certs      Certs        `toml:"certs"`
	Relay      Relay        `toml:"relay"`
	Pools      []Pool       `toml:"pool"`
	VirtualMTA []VirtualMTA `toml:"virtual_mta"`
	Tracking   Tracking     `toml:"tracking"`
	DKIM       DKIM         `toml:"dkim"`
	Reports    Reports      `toml:"reports"`
	Accounting Accounting   `toml:"accounting"`
	Events     Events       `toml:"events"`
	Signals    Signals      `toml:"signals"`
	Admin      Admin        `toml:"admin"`
}

// Events configures the event spool.
type Events struct {
	Keep Duration `toml:"keep"`
}

const mebi = 1 << 20

// Default returns a configuration with every default.
func Default() *Config {
	return &Config{
		StateDir:      "/var/lib/postern",
		MemoryBudget:  1 << 30,
		ShutdownGrace: seconds(30),

		Log: Log{
			Level:  "info",
			Format: "text",
		},
		Submission: defaultSubmission(),
		Certs: Certs{
			Mode:           "files",
			CertFile:       "fullchain.pem",
			KeyFile:        "privkey.pem",
			MinVersion:     "1.2",
			ACMEHTTPListen: "0.0.0.0:80",
			ACMETLSListen:  "0.0.0.0:443",
		},
		Relay:    defaultRelay(),
		Tracking: defaultTracking(),
		DKIM:     DKIM{RSA: "auto"},
		Reports: Reports{
			Listen:         []Addr{"0.0.0.0:25"},
			MemoryBudget:   64 * mebi,
			MaxMessageSize: 10 * mebi,
		},
		Events:  Events{Keep: seconds(86400)},
		Signals: defaultSignals(),
		Admin: Admin{
			Socket: "admin.sock",
			Listen: "127.0.0.1:8025",
		},
	}
}

// seconds returns a Duration of n seconds.
func seconds(n int) Duration { return Duration(n) * 1e9 }
