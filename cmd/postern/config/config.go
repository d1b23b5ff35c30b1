// Package config reads postern.toml and the users file: strictly, with the
// line of everything that is wrong, and all of it at once. Names follow the
// annotated example beside this package, which is the contract.
//
// A Config is plain data: safe for concurrent reading.
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

// Events is the event spool.
type Events struct {
	Keep Duration `toml:"keep"`
}

const mebi = 1 << 20

// Default is a configuration with every default of the example.
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

func seconds(n int) Duration { return Duration(n) * 1e9 }
