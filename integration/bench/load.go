package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postern/relay/envelope"
	"postern/relay/upstream"
)

// result of one run.
type result struct {
	sent, failed int
	took         time.Duration
	latencies    []time.Duration
	firstError   string
}

func (r *result) rate() float64 { return float64(r.sent) / r.took.Seconds() }

func (r *result) percentile(p float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(len(r.latencies)-1, int(float64(len(r.latencies))*p))]
}

// load sends over n connections for a while.
func load(addr string, login bool, msg []byte, n int, o options) *result {
	c := upstream.Config{Hostname: "load.example", Addrs: []string{addr}, TLS: upstream.TLSOff, MaxConnections: n, MaxMessages: 1 << 30, MaxAge: time.Hour,
		Log: slog.New(slog.DiscardHandler)}
	if login {
		c.TLS, c.Username, c.Password = upstream.TLSOpportunistic, "bench", "bench"
	}
	if o.oneshot {
		c.MaxMessages = 1
	}
	pool := upstream.New(c)
	defer pool.Close()
	var mu sync.Mutex
	res := &result{}
	var serial atomic.Int64
	start := time.Now()
	end := start.Add(o.duration)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var mine []time.Duration
			failed, first := 0, ""
			for time.Now().Before(end) {
				t := &upstream.Transaction{From: envelope.Address{Local: "bounce", Domain: "example.com"}, Message: [][]byte{msg},
					Recipient: envelope.Recipient{Address: envelope.Address{Local: "reader" + strconv.FormatInt(serial.Add(1), 10), Domain: "example.net"}}}
				at := time.Now()
				out := pool.Send(context.Background(), t)
				if !out.Accepted() {
					if failed++; first == "" {
						first = fmt.Sprint(out.Reply, out.Err)
					}
					continue
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			res.latencies = append(res.latencies, mine...)
			res.failed += failed
			if res.firstError == "" {
				res.firstError = first
			}
		})
	}
	wg.Wait()
	res.took = time.Since(start)
	res.sent = len(res.latencies)
	slices.Sort(res.latencies)
	return res
}

func print(what string, n int, r *result, perThousand, peak float64) {
	ms := func(p float64) float64 { return float64(r.percentile(p).Microseconds()) / 1000 }
	fmt.Printf("%-16s %6d %9.1f %8.2f %8.2f %8.2f %8.2f %10.2f %9.0f %6d\n", what, n, r.rate(), ms(.5), ms(.9), ms(.99), ms(1), perThousand, peak, r.failed)
}
