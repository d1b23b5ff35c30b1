package rewrite

// edit replaces data[start:end] of a part's decoded content by a slot, or by
// nothing where kind is slotNone.
type edit struct {
	start, end int
	kind       slotKind
	pixel      pixelForm
	link       Link
}

// maxEdits bounds the links and removed attributes of a part: no mail that
// people read has as many, and each costs memory in every copy.
const maxEdits = 10_000

// edits is what changes in a part.
type edits struct {
	list     []edit   // in order, at most maxEdits and the pixels
	skipped  []Reason // one for each link that was left alone for a reason
	overflow bool     // there were more than maxEdits of either: nothing is to be edited
}

// skip notes that a link was left alone, unless the list is full.
func (e *edits) skip(why Reason) {
	if len(e.skipped) >= maxEdits {
		e.overflow = true
		return
	}

	e.skipped = append(e.skipped, why)
}

// insert puts an edit at an index of the list, unless it is full.
func (e *edits) insert(i int, added edit) {
	if len(e.list) >= maxEdits {
		e.overflow = true
		return
	}

	e.list = append(e.list, edit{})
	copy(e.list[i+1:], e.list[i:])
	e.list[i] = added
}

// insertPixel is insert for the pixels, which go in whatever the list holds.
func (e *edits) insertPixel(i int, pixel edit) {
	e.list = append(e.list, edit{})
	copy(e.list[i+1:], e.list[i:])
	e.list[i] = pixel
}
