package config

// Admin configures the socket of the commands, and the listener for metrics and
// health.
type Admin struct {
	Socket      string `toml:"socket"` // for the commands, in state_dir; empty: none
	SocketGroup string `toml:"socket_group"`

	// Hosts are names that Listen answers to, besides IP addresses, localhost and
	// the hostname.
	Hosts []Host `toml:"hosts"`

	Listen OptAddr `toml:"listen"` // metrics and health
}
