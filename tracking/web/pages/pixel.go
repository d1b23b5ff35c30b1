package pages

import (
	"net/http"
	"strconv"
)

// pixel is a transparent GIF of one by one.
const pixel = "GIF89a\x01\x00\x01\x00\x80\x00\x00" + // one by one, two colours
	"\x00\x00\x00\xff\xff\xff" +
	"!\xf9\x04\x01\x00\x00\x00\x00" + // the first colour is transparent
	",\x00\x00\x00\x00\x01\x00\x01\x00\x00" +
	"\x02\x02D\x01\x00;"

// WritePixel answers r, a GET or HEAD request, with the tracking pixel.
func WritePixel(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "image/gif")
	w.Header().Set("Content-Length", strconv.Itoa(len(pixel)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		w.Write([]byte(pixel))
	}
}
