// Package message reads and writes the bytes of messages. Everything from DATA
// or BDAT passes its one reader, everything towards an upstream its one writer,
// and all that looks at header fields does so through its Fields.
//
// Nothing here keeps state between calls; values are safe for concurrent
// reading.
package message
