package bounce

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

var (
	// blocklists are the domains of blocklists of senders.
	blocklists = map[string]bool{
		"abuseat.org":          true,
		"abusix.zone":          true,
		"backscatterer.org":    true,
		"barracudacentral.org": true,
		"dnsbl.info":           true,
		"gbudb.net":            true,
		"hostkarma.com":        true,
		"invaluement.com":      true,
		"mailspike.net":        true,
		"mailspike.org":        true,
		"manitu.net":           true,
		"nixspam.net":          true,
		"njabl.org":            true,
		"senderscore.org":      true,
		"sorbs.net":            true,
		"spamcop.net":          true,
		"spameatingmonkey.net": true,
		"spamhaus.org":         true,
		"spamhaus.net":         true,
		"spamrats.com":         true,
		"surbl.org":            true,
		"surriel.com":          true,
		"uceprotect.net":       true,
		"uribl.com":            true,
	}

	// reputationPages are web servers that explain a listing.
	reputationPages = map[string]bool{
		"csi.cloudmark.com":      true,
		"ipcheck.proofpoint.com": true,
		"www.senderbase.org":     true,
		"talosintelligence.com":  true,
	}
)

// isBlocklist reports whether a host name is that of a blocklist.
func isBlocklist(host string) bool {
	label, _, _ := strings.Cut(strings.ToLower(host), ".")

	return label == "dnsbl" || label == "rbl" || ofBlocklist(host)
}

// isBlocklistPage reports whether a web server is that of a blocklist.
func isBlocklistPage(host string) bool {
	return reputationPages[strings.ToLower(host)] || ofBlocklist(host)
}

// ofBlocklist reports whether a host is within the domain of a blocklist.
func ofBlocklist(host string) bool {
	registrable, err := publicsuffix.EffectiveTLDPlusOne(strings.TrimSuffix(strings.ToLower(host), "."))

	return err == nil && blocklists[registrable]
}
