// Package rewrite makes a message trackable: it finds the HTML in a message,
// the links in the HTML and the places for the open pixels, once, and renders
// the result for each recipient with that recipient's own URLs. What need not
// change does not: every byte outside an edited attribute, a removed
// data-msys-* attribute or an inserted pixel is the byte that came in. In an
// encoded part the encoded lines that hold no edit stay too (base64: up to the
// first edit).
//
// A Plan is immutable after Parse and safe for concurrent use; it refers to
// the slices that Parse was given, which must not change while it lives.
package rewrite

import (
	"io"
	"sync"

	"postern/relay/message"
)

// Link is a link that is wrapped.
type Link struct {
	Target      string // what a browser would have followed
	Name        string // data-msys-linkname; empty: none
	Unsubscribe bool   // data-msys-unsubscribe="1"
	Sublink     string // data-msys-sublink: path segments for universal links
	AMP         bool   // in a part of AMP for Email
}

// Stamper makes the URLs of one recipient's copy. For one copy it must give
// the same URLs each time: the signing pass and the sending pass render apart.
// The URLs stand inside HTML attributes of any quoting, so they hold no quotes,
// spaces, ampersands or angle brackets.
type Stamper interface {
	Link(Link) string
	Pixel(initial, amp bool) string
}

// Options say what a message gets.
type Options struct {
	Open        bool // pixel before </body>
	InitialOpen bool // pixel after <body>
	Click       bool // links wrapped
	// Tracker is the tracker's URL: links that lead there are left alone.
	Tracker string
	// MaxURL bounds the length in bytes of the URL that the Stamper makes for
	// a link, and for a pixel (the zero Link), whoever the recipient is.
	MaxURL func(Link) int
	// MaxLinkLength leaves links alone whose URL could be longer; 0: no limit.
	MaxLinkLength int
	// TextLinks wraps URLs in text/plain parts, too.
	TextLinks bool
	// SevenBit encodes parts with 8-bit content.
	SevenBit bool
}

func (o Options) any() bool { return o.Open || o.InitialOpen || o.Click }

// Reason says why a part with HTML, or a structure, was left as it came.
type Reason string

// The reasons, as a metric counts them.
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

	// Of single links.
	LinkTooLong    Reason = "link_too_long"
	TemplateSyntax Reason = "template_syntax"
	UnclearURL     Reason = "unclear_url_in_text"
)

// Plan is a message with slots.
type Plan struct {
	ops     []op
	size    int // of the literals, for an estimate
	Links   int // slots for links
	Pixels  int // slots for pixels
	Skipped []Reason
	changed bool
}

// Changed reports whether a rendered message differs from the one that was parsed.
func (p *Plan) Changed() bool { return p.changed }

// Tracked reports whether the rendered message differs between recipients.
func (p *Plan) Tracked() bool { return p.Links+p.Pixels > 0 }

// linkRoom and pixelRoom are how many bytes links and pixels are taken to need
// in a rendered copy.
const (
	linkRoom  = 320
	pixelRoom = maxPixelHTML*4/3 + linkRoom
)

// Size estimates the length of a rendered copy, in bytes.
func (p *Plan) Size() int { return p.size + linkRoom*p.Links + pixelRoom*p.Pixels }

// OwnSize estimates how much of a rendered copy is not shared with the others,
// in bytes.
func (p *Plan) OwnSize() int {
	n := linkRoom*p.Links + pixelRoom*p.Pixels

	for i := range p.ops {
		if r := p.ops[i].region; r != nil {
			for j := range r.pieces {
				pc := &r.pieces[j]
				n += len(pc.lit) * 3 / 2
				// A token's text is base64, and so may be the part that it is in.
				n += 2 * (len(pc.link.Target) + len(pc.link.Name) + len(pc.link.Sublink))
			}
		}
	}

	return n
}

// op is either literal bytes of the message or a region that holds slots.
type op struct {
	lit    []byte
	region *region
}

// region is a run of a part's decoded content, with slots, that is encoded
// anew each time it is rendered.
type region struct {
	enc    encoding
	pieces []piece
	tail   []byte // raw bytes that end it: a soft line break, or nothing
}

type slotKind byte

const (
	slotNone slotKind = iota
	slotLink
	slotOpen
	slotInitialOpen
)

// piece is literal decoded bytes, or a slot.
type piece struct {
	lit   []byte
	kind  slotKind
	pixel pixelForm
	link  Link
}

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

// Render writes one recipient's copy.
func (p *Plan) Render(w io.Writer, s Stamper) error {
	return p.each(s, func(b []byte, _ bool) error {
		_, err := w.Write(b)
		return err
	})
}

// Split renders one recipient's copy in parts, in order: those that are the
// same for every recipient (own is false; they stay valid as long as the plan)
// and those that are this recipient's own (valid during the call). For one plan
// the sequence of the two kinds is always the same.
func (p *Plan) Split(s Stamper, part func(b []byte, own bool)) {
	_ = p.each(s, func(b []byte, own bool) error {
		part(b, own)
		return nil
	})
}

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

// render returns the region for one recipient, in one of the buffers.
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

// Parse looks a message over: header is its header block without the empty
// line, body what follows the empty line. separated is false where the message
// has no empty line. The plan's bytes are header, the empty line, body.
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
			newHeader = append(newHeader, "MIME-Version: 1.0\r\n"...) // for the encoding to count
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

// literalSize returns how many bytes there are besides the slots.
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

// EightBit reports whether a rendered copy has bytes above 0x7f.
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

func (p *Plan) literal(b []byte) {
	if len(b) > 0 {
		p.ops = append(p.ops, op{lit: b})
	}
}
