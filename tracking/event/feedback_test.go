package event

import "testing"

func TestIsComplaint(t *testing.T) {
	for feedbackType, want := range map[string]bool{
		"abuse":        true,
		" Abuse ":      true,
		"opt-out":      true,
		"fraud":        true,
		"not-spam":     false,
		"auth-failure": false,
		"dmarc":        false,
		"dkim":         false,
		"":             false,
	} {
		t.Run(feedbackType, func(t *testing.T) {
			if got := IsComplaint(feedbackType); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
