// Package tracking is the map of the packages below it; it holds no code.
//
// In the order in which a message meets them:
//
//	rewrite            finds the links of a message and the places for pixels, once, and renders each recipient's copy
//	rewrite/htmledit   finds the tags of an HTML document and the places in them that can be edited
//	token              seals what links and pixels carry, and issues the message ids
//	web                serves the links and pixels, and tells people from machines
//	web/pages          is what recipients see of it
//	agent              reads User-Agent fields
//	report             reads bounces and complaints that come back by mail
//	bounce             classifies what a receiving system says of a refusal
//	accounting         turns PowerMTA's accounting records into events
//	event              is an event: its types, its fields, its ids
//	spool              keeps events on disk until they are delivered
//	spool/atomicfile   replaces a file in one step
//	ingest             delivers events in batches
//
// # A message
//
// For every message package relay calls rewrite.Parse once. The plan that it
// returns is rendered for each recipient, with URLs that token.Keys seals for
// that recipient's copy.
//
// # An open or a click
//
// web.Handler opens the token of the requested URL, which says all that there is
// to know about the copy; trackers have no database. The event, with what agent
// says about the program, is recorded before the request is answered with a
// pixel or a redirect.
//
// # A bounce, a complaint, a delivery
//
// Reports by mail come in through package report, and PowerMTA's own records
// through package accounting. Both find the copy by its message id, which
// verifies under the token keys, and record an event.
//
// # An event
//
// Recorded events are in the spool, and durable. Package ingest follows the
// spool, sends batches, and remembers what became of each.
package tracking
