package event

import "postern/tracking/bounce"

// KnownBounceClass reports whether n is one of SparkPost's bounce classes.
func KnownBounceClass(n int) bool { return bounce.Known(n) }

// BounceClass returns the bounce class of a refusal as bounce.Classify does: of
// PowerMTA's category, the enhanced status code and the text of the reply. own
// maps the site's own categories to classes.
func BounceClass(category, status, text string, own map[string]int) int {
	return bounce.Classify(bounce.Refusal{
		Category: category,
		Status:   status,
		Text:     text,
		Own:      own,
	}).Class
}
