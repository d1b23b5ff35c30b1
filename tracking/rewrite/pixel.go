package rewrite

// pixelForm is the HTML that a pixel is written in.
type pixelForm byte

const (
	htmlPixel pixelForm = iota
	ampPixel            // AMP for Email
)

// The HTML of a pixel before and after its URL.
//
// A pixel must be invisible, take up no space, receive no clicks and not be read
// aloud, whatever the style sheet of the template says. No declaration of a style
// sheet overrides an !important one of a style attribute, and "all: initial"
// resets everything else. Some mail programs drop position, among them Gmail:
// there a float with negative margins of its own size takes up no space either.
//
// AMP for Email has neither amp-pixel nor !important; images are amp-img.
//
// There is a line end after the URL, so that lines do not become much longer.
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

// maxPixelHTML is the length of the longest pixel without its URL, in bytes.
const maxPixelHTML = len(pixelImg) + len(pixelStyle)
