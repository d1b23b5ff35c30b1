package config

import (
	"slices"
	"strings"

	"postern/tracking/event"
)

// Signals configures what is uploaded to SparkPost Signals.
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

// SignalsFilter decides by sending domain what is uploaded.
type SignalsFilter struct {
	SenderOrFrom string `toml:"sender_or_from"`
	Enable       bool   `toml:"enable"`
	Subaccount   uint32 `toml:"subaccount"`
}

// reportClasses are the classes of events that signals.report may name, and its
// default.
var reportClasses = []string{
	"injection", "delivery", "bounce", "delay", "out_of_band", "spam_complaint", "policy_rejection",
	event.Engagement, event.Unsubscribe,
}

// defaultSignals returns the defaults of [signals].
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

// maxBatchSize is the most that the Ingest API accepts in one request, in bytes.
const maxBatchSize = 5_000_000

// checkSignals checks [signals].
func (b *binder) checkSignals(s *Signals) {
	switch {
	case s.Enabled && s.APIKey == "":
		b.problem("signals.api_key", "missing; signals.enabled wants the API key, 40 hex digits")
	case !s.Enabled && s.APIKey != "":
		b.warn("signals.api_key", "signals.enabled is false: events are kept, and none is uploaded")
	}

	b.oneOf("signals.prefetch", s.Prefetch, "mark", "drop", "person")
	b.oneOf("signals.scanner", s.Scanner, "mark", "drop", "person")
	b.oneOf("signals.privacy_policy", s.PrivacyPolicy, "retain", "sha1")

	for i, class := range s.Report {
		if _, err := event.Select([]string{class}); err != nil {
			b.problem(keyOf("signals.report", i), "%v; write some of %s", err, strings.Join(reportClasses, ", "))
		}
	}

	for i, f := range s.Filters {
		if f.SenderOrFrom == "" {
			b.problem(keyOf("signals.filter", i)+".sender_or_from", `missing; a domain, "*.domain" or "*"`)
		}
	}

	if s.UploadURL == "" {
		b.problem("signals.upload_url", "must not be empty")
	}
	if s.BatchSize < 1<<10 || s.BatchSize > maxBatchSize {
		b.problem("signals.batch_size", `want from "1KiB" to "5MB", the API's limit`)
	}
	if s.BatchAge <= 0 {
		b.problem("signals.batch_age", `must be greater than zero, for example "30s"`)
	}
}
