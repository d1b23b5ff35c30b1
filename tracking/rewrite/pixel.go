package rewrite

// pixelForm is how a pixel is written.
type pixelForm byte

const (
	htmlPixel pixelForm = iota
	ampPixel            // in AMP for Email
)

// The HTML of a pixel on both sides of its URL.
//
// It must not be seen, take room, be hit by a click or be read aloud, whatever
// style sheet a template has: no declaration of a style sheet wins over an
// !important one of a style attribute. The declaration of all resets what is
// not named. Where a mail program drops position, as Gmail does, a float whose
// margins are as large as itself takes no room either; it is moved up and left
// so that no page becomes longer by it.
//
// AMP for Email has no amp-pixel; its pictures are amp-img, and !important is
// not allowed there.
//
// The tag goes on behind a line end, so that no line becomes much longer.
const (
	pixelImg   = `<img src="`
	pixelStyle = `"` + "\r\n" + `width="1" height="1" border="0" alt="" aria-hidden="true" ` +
		`style="all:initial!important;` +
		`position:absolute!important;top:0!important;left:0!important;display:block!important;float:left!important;` +
		`width:1px!important;height:1px!important;min-width:0!important;min-height:0!important;` +
		`max-width:1px!important;max-height:1px!important;margin:-1px -1px 0 0!important;padding:0!important;` +
		`border:0!important;opacity:0!important;pointer-events:none!important">`

	ampPixelBefore = `<amp-img src="`
	ampPixelAfter  = `"` + "\r\n" + `width="1" height="1" layout="fixed" alt="" style="position:absolute"></amp-img>`
)

var pixelHTML = [...]struct{ before, after string }{
	htmlPixel: {pixelImg, pixelStyle},
	ampPixel:  {ampPixelBefore, ampPixelAfter},
}

// maxPixelHTML is the length of the longest form without its URL, in bytes.
const maxPixelHTML = len(pixelImg) + len(pixelStyle)
