// Command bench is the load generator: it runs the real gateway against a sink
// in processes of their own, sends it one kind of message over a number of
// connections, and prints messages a second, latencies, CPU and memory, beside
// the same load straight into the sink in the same run.
//
//	go run ./integration/bench                       # html30k, 16 connections, 10 s
//	go run ./integration/bench -kind clicks -conns 16,64
//	go run ./integration/bench -kind text2k -conns 1,16,64
//	go run ./integration/bench -oneshot -delay 50ms  # a connection a message, a slow upstream
//
// Figures of different runs do not compare: look at the ratios.
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

const apiKey = "00112233445566778899aabbccddeeff00112233"

type options struct {
	kind     string
	conns    string
	duration time.Duration
	oneshot  bool
	delay    time.Duration
	queue    string
	extra    string
	profile  string
	role     string
	listen   string
	binary   string
	ingest   int
}

func main() {
	var o options
	flag.StringVar(&o.kind, "kind", "html30k", "text2k, html30k, attach1m, attach25m, or clicks on a tracker")
	flag.StringVar(&o.conns, "conns", "16", "numbers of connections, each a run")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "of each run")
	flag.BoolVar(&o.oneshot, "oneshot", false, "a connection for each message")
	flag.DurationVar(&o.delay, "delay", 0, "the sink's pause before it answers the final dot")
	flag.StringVar(&o.queue, "queue", "partial", "relay.queue")
	flag.StringVar(&o.extra, "config", "", "lines to add to the configuration")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of the gateway's last run there")
	flag.StringVar(&o.binary, "binary", "", "a gateway that is built already")
	flag.IntVar(&o.ingest, "ingest-status", 200, "what the ingest API answers to every batch (200 takes it)")
	flag.StringVar(&o.role, "role", "", "internal: sink or ingest")
	flag.StringVar(&o.listen, "listen", "", "internal")
	flag.Parse()
	var err error
	switch o.role {
	case "sink":
		err = runSink(o)
	case "ingest":
		err = http.ListenAndServe(o.listen, ingestServer(o.ingest))
	default:
		if o.kind == "clicks" {
			err = runClicks(o)
			break
		}
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// ingestServer answers every batch with status: a promise is that submission
// does not feel it when that is an error.
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
