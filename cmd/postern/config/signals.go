package config

import (
	"slices"

	"postern/tracking/event"
)

// Signals is the ingest service.
type Signals struct {
	Enabled       bool            `toml:"enabled"`
	APIKey        APIKey          `toml:"api_key" secret:"yes"`
	UploadURL     URL             `toml:"upload_url"`
	EnableSignals Tristate        `toml:"enable_signals"`
	Subaccount    uint32          `toml:"subaccount"`
	Report        []string        `toml:"report"`
	LogVerbose    bool            `toml:"log_verbose"`
	MinFreeSpace  Size            `toml:"min_free_space"`
	PrivacyPolicy string          `toml:"privacy_policy"`
	BatchSize     Size            `toml:"batch_size"`
	BatchAge      Duration        `toml:"batch_age"`
	KeepLedger    Duration        `toml:"keep_ledger"`
	PollOutcomes  bool            `toml:"poll_outcomes"`
	Prefetch      string          `toml:"prefetch"` // mark, drop or person
	Scanner       string          `toml:"scanner"`
	Filters       []SignalsFilter `toml:"filter"`
}

// SignalsFilter decides by sending domain.
type SignalsFilter struct {
	SenderOrFrom string `toml:"sender_or_from"`
	Enable       bool   `toml:"enable"`
	Subaccount   uint32 `toml:"subaccount"`
}

// reportClasses are what [signals] report names where it is left out: all.
var reportClasses = []string{
	"injection", "delivery", "bounce", "delay", "out_of_band", "spam_complaint", "policy_rejection",
	event.Engagement, event.Unsubscribe,
}

func defaultSignals() Signals {
	return Signals{
		UploadURL:     "https://api.sparkpost.com/api/v1/ingest/events",
		EnableSignals: Yes,
		Report:        slices.Clone(reportClasses),
		MinFreeSpace:  20 * mebi,
		PrivacyPolicy: "retain",
		BatchSize:     4 * mebi,
		BatchAge:      seconds(30),
		KeepLedger:    seconds(7 * 86400),
		Prefetch:      "mark",
		Scanner:       "mark",
	}
}
