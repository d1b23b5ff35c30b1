// Package envelope holds what travels with a message and how its bytes are
// read and written: addresses, SMTP replies and error classes, the one reader
// that everything from DATA or BDAT passes and the one writer that everything
// towards an upstream passes, and the view of a header block as raw fields.
//
// Values of this package are plain data: safe for concurrent reading, not for
// concurrent change. Nothing here keeps state between calls.
package envelope
