// Package rewrite makes a message trackable. Parse finds the HTML parts of a
// message, the links in them and the places for the open pixels, once; the Plan
// that it returns renders a copy for each recipient, with URLs of that recipient.
//
// Everything else is passed through byte for byte: only the values of wrapped
// links, data-msys-* attributes, which are removed, and inserted pixels differ.
// In an encoded part, encoded lines without an edit are kept as well (in base64,
// those before the first edit).
//
// A Plan is immutable and safe for concurrent use. It refers to the slices that
// were passed to Parse, which must not be modified as long as it is in use.
package rewrite

import (
	"io"
	"sync"

	"postern/relay/message"
)

// Link is a wrapped link.
type Link struct {
	Target      string // the URL that a browser would follow
	Name        string // data-msys-linkname; empty: none
	Unsubscribe bool   // data-msys-unsubscribe="1"
	Sublink     string // data-msys-sublink: path segments for universal links
	AMP         bool   // in an AMP for Email part
}

// Stamper returns the URLs of one recipient's copy.
//
// It must return the same URL whenever it is asked for the same thing, because a
// copy is rendered once for signing and again for sending. URLs are inserted
// into HTML attributes with and without quotes: they must not contain quotes,
// white space, ampersands or angle brackets.
type Stamper interface {
	// Link returns the URL that replaces the target of a link.
	Link(Link) string

	// Pixel returns the URL of the pixel at the start of the body (initial) or
	// at its end, in HTML or in AMP for Email.
	Pixel(initial, amp bool) string
}

// Options select what is tracked. The zero Options track nothing.
type Options struct {
	Open        bool // insert a pixel at the end of the body
	InitialOpen bool // insert a pixel at the start of the body
	Click       bool // wrap links

	// TextLinks wraps URLs in text/plain parts as well. It requires Click.
	TextLinks bool

	// Tracker is the tracking URL. Links to it are not wrapped.
	Tracker string

	// MaxURL returns an upper bound of the length, in bytes, of the URLs that
	// Stampers return for a link, and for pixels if the Link is zero. It must
	// not be nil if anything is tracked.
	MaxURL func(Link) int

	// MaxLinkLength is the longest URL, in bytes, that a link may be replaced
	// with; links that could exceed it are not wrapped. 0 means no limit.
	MaxLinkLength int

	// SevenBit encodes parts with 8-bit content, for a next hop that does not
	// offer 8BITMIME.
	SevenBit bool
}

// any reports whether anything is tracked.
func (o Options) any() bool { return o.Open || o.InitialOpen || o.Click }

// tooLong reports whether the URL of a wrapped link could exceed MaxLinkLength.
func (o Options) tooLong(l Link) bool {
	return o.MaxLinkLength > 0 && o.MaxURL(l) > o.MaxLinkLength
}

// Reason says why a part or a link was not edited. Its values are label values
// of a metric.
type Reason string

// Reasons to leave a part alone.
const (
	Signed       Reason = "signed"
	Encrypted    Reason = "encrypted"
	Attachment   Reason = "attachment"
	TooDeep      Reason = "nested_too_deep"
	TooManyParts Reason = "too_many_parts"
	TooLarge     Reason = "part_too_large"
	BadHeader    Reason = "ambiguous_content_header"
	BadBoundary  Reason = "no_boundary"
	BadEncoding  Reason = "broken_transfer_encoding"
	Charset      Reason = "charset"
	PGP          Reason = "pgp"
	LongLine     Reason = "long_line_in_untouchable_part"
	TooManyLinks Reason = "too_many_links"
)

// Reasons to leave a link alone.
const (
	LinkTooLong    Reason = "link_too_long"
	TemplateSyntax Reason = "template_syntax"
	UnclearURL     Reason = "unclear_url_in_text"
)

// Plan is a parsed message, with slots for the URLs of a recipient.
type Plan struct {
	Links   int      // the number of wrapped links
	Pixels  int      // the number of inserted pixels
	Skipped []Reason // one for each part or link that was left alone for a reason

	ops     []op
	size    int // of the literal bytes
	changed bool
}

// Changed reports whether a rendered copy differs from the parsed message.
func (p *Plan) Changed() bool { return p.changed }

// Tracked reports whether the copies of two recipients differ.
func (p *Plan) Tracked() bool { return p.Links+p.Pixels > 0 }

// linkRoom and pixelRoom estimate the bytes that a link and a pixel take up in a
// rendered copy.
const (
	linkRoom  = 320
	pixelRoom = maxPixelHTML*4/3 + linkRoom
)

// Size returns an estimate of the length of a rendered copy, in bytes.
func (p *Plan) Size() int { return p.size + linkRoom*p.Links + pixelRoom*p.Pixels }

// OwnSize returns an estimate of the bytes of a rendered copy that it does not
// share with the copies of other recipients.
func (p *Plan) OwnSize() int {
	n := linkRoom*p.Links + pixelRoom*p.Pixels

	for i := range p.ops {
		if r := p.ops[i].region; r != nil {
			for j := range r.pieces {
				pc := &r.pieces[j]
				n += len(pc.lit) * 3 / 2
				// Tokens are base64, and may be in a part that is base64 again.
				n += 2 * (len(pc.link.Target) + len(pc.link.Name) + len(pc.link.Sublink))
			}
		}
	}

	return n
}

// op is a piece of the message: literal bytes, or a region with slots.
type op struct {
	lit    []byte
	region *region
}

// region is a range of a part's decoded content, with slots, that is encoded
// each time it is rendered.
type region struct {
	enc    encoding
	pieces []piece
	tail   []byte // appended after encoding: a soft line break, or nothing
}

// slotKind says what a slot is filled with.
type slotKind byte

const (
	slotNone slotKind = iota
	slotLink
	slotOpen
	slotInitialOpen
)

// piece is a slot, or literal decoded bytes where kind is slotNone.
type piece struct {
	lit   []byte
	kind  slotKind
	pixel pixelForm
	link  Link
}

// appendTo appends the piece to dst, filled in by s.
func (pc *piece) appendTo(dst []byte, s Stamper) []byte {
	switch pc.kind {
	case slotLink:
		return append(dst, s.Link(pc.link)...)
	case slotOpen, slotInitialOpen:
		form := pixelHTML[pc.pixel]
		dst = append(dst, form.before...)
		dst = append(dst, s.Pixel(pc.kind == slotInitialOpen, pc.pixel == ampPixel)...)

		return append(dst, form.after...)
	}

	return append(dst, pc.lit...)
}

var scratch = sync.Pool{New: func() any { return new(buffers) }}

type buffers struct{ plain, coded []byte }

// Render writes one recipient's copy to w. It returns the first error of w.
func (p *Plan) Render(w io.Writer, s Stamper) error {
	return p.each(s, func(b []byte, _ bool) error {
		_, err := w.Write(b)
		return err
	})
}

// Split renders one recipient's copy and calls part for each piece of it, in
// order. Pieces that all copies share have own set to false and remain valid as
// long as the plan; the others are valid during the call only. The sequence of
// shared and own pieces is the same for every copy.
func (p *Plan) Split(s Stamper, part func(b []byte, own bool)) {
	_ = p.each(s, func(b []byte, own bool) error {
		part(b, own)
		return nil
	})
}

// each calls f for each piece of a copy, as Split does, until f returns an error.
func (p *Plan) each(s Stamper, f func(b []byte, own bool) error) error {
	b := scratch.Get().(*buffers)
	defer scratch.Put(b)

	for i := range p.ops {
		out := p.ops[i].lit
		r := p.ops[i].region
		if r != nil {
			out = r.render(b, s)
		}

		if err := f(out, r != nil); err != nil {
			return err
		}
	}

	return nil
}

// render returns the region as it is in one recipient's copy. The result is
// valid until b is used again.
func (r *region) render(b *buffers, s Stamper) []byte {
	b.plain = b.plain[:0]
	for j := range r.pieces {
		b.plain = r.pieces[j].appendTo(b.plain, s)
	}
	if r.enc == identity {
		return b.plain
	}

	b.coded = r.enc.encode(b.coded[:0], b.plain, len(r.tail) > 0)
	b.coded = append(b.coded, r.tail...)

	return b.coded
}

// Parse finds what is to be edited in a message. header is its header block
// without the empty line, and body what follows the empty line; separated is
// false if there is no empty line, and then nothing is edited. A rendered copy
// consists of all three.
//
// Parse does not fail: a part that cannot be edited safely is left alone, for a
// reason that is listed in Plan.Skipped.
func Parse(header, body []byte, separated bool, o Options) *Plan {
	p := &Plan{}
	if !separated || !o.any() && !mustEncode(body, o) {
		p.literal(header)
		if separated {
			p.literal(crlf)
			p.literal(body)
		}

		return p
	}

	w := newWalker(body, o)
	w.entity(span{at: noOffset, bytes: header}, span{at: 0, bytes: body}, 0, "text/plain")
	laid := layOut(w.leaves, body, o)

	newHeader := header
	if laid.header != nil {
		newHeader = laid.header
		if _, ok := message.First(message.Fields(newHeader), "MIME-Version"); !ok {
			newHeader = append(newHeader, "MIME-Version: 1.0\r\n"...) // without it the encoding is ignored
		}
	}

	p.literal(newHeader)
	p.literal(crlf)

	at := 0
	for _, pt := range laid.patches {
		p.literal(body[at:pt.start])
		p.ops = append(p.ops, pt.ops...)
		at = pt.end
	}
	p.literal(body[at:])

	p.Links, p.Pixels = laid.links, laid.pixels
	p.Skipped = append(w.skipped, laid.skipped...)
	p.changed = len(laid.patches) > 0
	p.size = p.literalSize()

	return p
}

// literalSize returns the number of bytes outside of slots.
func (p *Plan) literalSize() int {
	n := 0
	for i := range p.ops {
		n += len(p.ops[i].lit)
		if r := p.ops[i].region; r != nil {
			for j := range r.pieces {
				n += len(r.pieces[j].lit)
			}
		}
	}

	return n
}

// EightBit reports whether a rendered copy contains bytes above 0x7f.
func (p *Plan) EightBit() bool {
	for i := range p.ops {
		if !isASCII(p.ops[i].lit) {
			return true
		}

		r := p.ops[i].region
		if r == nil || r.enc != identity {
			continue
		}

		for j := range r.pieces {
			if !isASCII(r.pieces[j].lit) {
				return true
			}
		}
	}

	return false
}

var crlf = []byte("\r\n")

// literal appends bytes that every copy has.
func (p *Plan) literal(b []byte) {
	if len(b) > 0 {
		p.ops = append(p.ops, op{lit: b})
	}
}
