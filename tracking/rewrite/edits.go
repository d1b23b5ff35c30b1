package rewrite

import "slices"

// edit replaces data[start:end] of a part's decoded content with a slot, or
// deletes it if kind is slotNone.
type edit struct {
	start, end int
	kind       slotKind
	pixel      pixelForm
	link       Link
}

// maxEdits bounds the edits of a part. Mail for people has far fewer, and each
// takes up memory in every copy.
const maxEdits = 10_000

// edits are the edits of a part.
type edits struct {
	list     []edit   // in order; at most maxEdits, besides the pixels
	skipped  []Reason // one for each link that is left alone for a reason; at most maxEdits
	overflow bool     // there were more of either: the part is not to be edited
}

// skip records that a link is left alone, if there is a reason to record.
func (e *edits) skip(why Reason) {
	if why == "" {
		return
	}
	if len(e.skipped) >= maxEdits {
		e.overflow = true
		return
	}

	e.skipped = append(e.skipped, why)
}

// insert inserts an edit at an index of the list, unless the list is full.
func (e *edits) insert(i int, added edit) {
	if len(e.list) >= maxEdits {
		e.overflow = true
		return
	}

	e.list = slices.Insert(e.list, i, added)
}

// insertPixel is insert without the bound.
func (e *edits) insertPixel(i int, pixel edit) {
	e.list = slices.Insert(e.list, i, pixel)
}
