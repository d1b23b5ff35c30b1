package config

// Admin is where operators and their programs ask.
type Admin struct {
	Socket      string  `toml:"socket"` // for the commands, in state_dir; empty: none
	SocketGroup string  `toml:"socket_group"`
	Hosts       []Host  `toml:"hosts"`  // that Listen answers to, besides IP addresses, localhost and the hostname
	Listen      OptAddr `toml:"listen"` // metrics and health
}
