// Package dialect reads the header fields in which senders give instructions
// to the gateway. Every dialect is read into the same Instructions value.
//
// The one dialect so far is X-MSYS-API, the JSON of SparkPost's SMTP API.
package dialect
