package config

import "net/netip"

// Pool is a virtual-mta-pool of PowerMTA (User's Guide, "virtual-mta-pool").
type Pool struct {
	Name          string   `toml:"name"`
	EnableSignals Tristate `toml:"enable_signals"`
	Subaccount    uint32   `toml:"subaccount"`
}

// VirtualMTA is a virtual-mta of PowerMTA (User's Guide, "virtual-mta").
type VirtualMTA struct {
	Name          string   `toml:"name"`
	Pool          string   `toml:"pool"`
	SourceHost    string   `toml:"source_host"`
	EnableSignals Tristate `toml:"enable_signals"`
	Subaccount    uint32   `toml:"subaccount"`
}

// checkPools checks [[pool]] and returns the names of the pools.
func (b *binder) checkPools(pools []Pool) map[string]bool {
	names := map[string]bool{}
	for i, p := range pools {
		b.claimName(keyOf("pool", i)+".name", p.Name, names)
	}

	return names
}

// checkVirtualMTAs checks [[virtual_mta]]; pools are the names of the pools.
func (b *binder) checkVirtualMTAs(list []VirtualMTA, pools map[string]bool) {
	names := map[string]bool{}
	for i, v := range list {
		key := keyOf("virtual_mta", i)
		b.claimName(key+".name", v.Name, names)

		if v.Pool != "" && !pools[v.Pool] {
			b.problem(key+".pool", "no [[pool]] is named %q", v.Pool)
		}

		if v.SourceHost == "" {
			continue
		}
		if _, err := netip.ParseAddr(v.SourceHost); err != nil {
			b.problem(key+".source_host", `not an IP address, write for example "192.0.2.10"`)
		}
	}
}

// claimName refuses an empty name and one that another element of the list has;
// seen are the names before it.
func (b *binder) claimName(key, name string, seen map[string]bool) {
	if name == "" || seen[name] {
		b.problem(key, "missing, or the name of another one")
	}
	seen[name] = true
}
