// Command bench is a load generator. It runs the real gateway and a sink as
// separate processes, sends one kind of message over a number of connections, and
// prints messages per second, latencies, CPU time and memory, next to the same load
// sent directly to the sink.
//
//	go run ./integration/bench                       # html30k, 16 connections, 10 s
//	go run ./integration/bench -kind clicks -conns 16,64
//	go run ./integration/bench -kind text2k -conns 1,16,64
//	go run ./integration/bench -oneshot -delay 50ms  # a connection per message, a slow upstream
//
// Figures of different runs cannot be compared, but their ratios can.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
)

// apiKey is what the gateway and the ingest service agree on.
const apiKey = "00112233445566778899aabbccddeeff00112233"

// options are the flags.
type options struct {
	kind     string
	conns    string
	duration time.Duration
	oneshot  bool
	delay    time.Duration
	queue    string
	extra    string
	profile  string
	binary   string
	ingest   int

	// role and listen are those of a process that bench started itself.
	role   string
	listen string
}

func main() {
	if err := runRole(parseFlags()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags() options {
	var o options
	flag.StringVar(&o.kind, "kind", "html30k", "text2k, html30k, attach1m, attach25m, or clicks for a tracker")
	flag.StringVar(&o.conns, "conns", "16", "numbers of connections, separated by commas; one run each")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "duration of each run")
	flag.BoolVar(&o.oneshot, "oneshot", false, "open a connection for each message")
	flag.DurationVar(&o.delay, "delay", 0, "delay of the sink's reply to the final dot")
	flag.StringVar(&o.queue, "queue", "partial", "value of relay.queue")
	flag.StringVar(&o.extra, "config", "", "lines to add to the configuration")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of the gateway to this file")
	flag.StringVar(&o.binary, "binary", "", "gateway to run instead of building one")
	flag.IntVar(&o.ingest, "ingest-status", 200, "status with which the ingest API responds to every batch")
	flag.StringVar(&o.role, "role", "", "internal: sink or ingest")
	flag.StringVar(&o.listen, "listen", "", "internal")
	flag.Parse()

	return o
}

// runRole runs the part of the benchmark that this process is to play.
func runRole(o options) error {
	switch {
	case o.role == "sink":
		return runSink(o)
	case o.role == "ingest":
		return http.ListenAndServe(o.listen, ingestServer(o.ingest))
	case o.kind == "clicks":
		return runClicks(o)
	}

	return run(o)
}

// ingestServer returns an ingest service that responds to every batch with status.
// Submission must not be slower if that is an error.
func ingestServer(status int) *ingestd.Server {
	s := &ingestd.Server{Key: apiKey, Forget: true}
	if status != http.StatusOK {
		s.Fail = func(int, *http.Request) (int, http.Header, bool) { return status, nil, false }
	}

	return s
}

func runSink(o options) error {
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}

	c := sink.Config{}
	if o.delay > 0 {
		c.Script = func(phase, _ string) sink.Action {
			if phase == "." {
				return sink.Action{Delay: o.delay}
			}
			return sink.Action{}
		}
	}

	return sink.New(c).Serve(context.Background(), l)
}
