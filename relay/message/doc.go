// Package message reads and writes the bytes of messages. ReadMessage is the one
// reader of what clients send, WriteData the one writer of what upstreams get,
// and Fields the one reader of header fields. Bytes that need not change are
// passed through.
//
// Nothing here keeps state between calls; values are safe for concurrent
// reading.
package message
