package smtpd

import (
	"testing"
	"time"

	"postern/smtpd/wire"
)

// TestDefaultPhases checks the times of phases against the documentation.
func TestDefaultPhases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config setup
		want   phases
	}{
		{"submission", setup{}, phases{2 * time.Minute, 10 * time.Minute, wire.MessageTimeout{Base: 10 * time.Minute, MinRate: 16 << 10}}},
		{"message_timeout", setup{Config: Config{Timeouts: Timeouts{Message: time.Minute}}}, phases{2 * time.Minute, 10 * time.Minute, wire.MessageTimeout{Base: time.Minute, MinRate: 16 << 10}}},
		{"port 25", setup{Config: Config{Timeouts: Timeouts{Message: time.Hour}}, Reports: &submitter{}}, phases{2 * time.Minute, 10 * time.Minute, wire.MessageTimeout{Base: 10 * time.Minute, MinRate: 0}}},
	} {
		if got := newTestServer(c.config).phases; got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestDefaultLimits checks limits against the documentation.
func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"commands without a message", maxCommands, 200},
		{"recipients of a report", reportRecipients, 100},
		{"handshakes of a source", minHandshakes, 16},
		{"header section", maxHeaderBytes, 1048576},
		{"header line", maxHeaderLine, 998},
		{"hops", maxReceived, 100},
		{"cost of a submission", submissionCost, 2},
		{"cost of a report", reportCost, 1},
		{"sources of the budget", sourceShare, 4},
		{"address in a refusal", maxRefusedAddress, 318},
		{"PROXY header", proxyHeaderTimeout, 10 * time.Second},
		{"refusal of a connection", refusalTimeout, time.Second},
		{"the same in the log", rareEvery, time.Minute},
		{"first pause of accept", minAcceptPause, 5 * time.Millisecond},
		{"longest pause of accept", maxAcceptPause, time.Second},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestConfigDefaults checks what zero values mean.
func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	type limits struct {
		connections, perSource, recipients int
		idle                               time.Duration
		handshakes                         int
		cost, share                        int64
	}
	for _, c := range []struct {
		name   string
		config setup
		want   limits
	}{
		{"submission", setup{Config: Config{Limits: Limits{MaxRecipients: 1000}}}, limits{10000, 200, 1000, 5 * time.Minute, 50, 2, 0}},
		{"as configured", setup{
			Config: Config{
				Budget:   NewBudget(1000),
				Limits:   Limits{MaxConnections: 500, MaxConnectionsPerSource: 400, MaxRecipients: 7},
				Timeouts: Timeouts{Idle: time.Second},
			},
		}, limits{500, 400, 7, time.Second, 100, 2, 0}},
		{"more for a source than there are", setup{Config: Config{Limits: Limits{MaxConnections: 8, MaxConnectionsPerSource: 400}}},
			limits{8, 7, 0, 5 * time.Minute, 16, 2, 0}},
		{"reports", setup{Config: Config{Budget: NewBudget(1000), Limits: Limits{MaxRecipients: 7}}, Reports: &submitter{}},
			limits{10000, 200, 100, 5 * time.Minute, 50, 1, 250}},
		{"reports without a budget", setup{Reports: &submitter{}}, limits{10000, 200, 100, 5 * time.Minute, 50, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Log = quiet
			s := newTestServer(c.config)
			l := s.cfg.Limits
			got := limits{l.MaxConnections, l.MaxConnectionsPerSource, l.MaxRecipients, s.cfg.Timeouts.Idle,
				s.slots.most, s.traits.byteCost, s.sourceShare()}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
