package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/relay/envelope"
	"postern/relay/upstream"
)

// result is what a run measured.
type result struct {
	failed     int
	took       time.Duration
	latencies  []time.Duration // of what succeeded, sorted
	firstError string
}

// rate returns what succeeded per second.
func (r *result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

// percentile returns a percentile of the latencies, where p is between 0 and 1.
func (r *result) percentile(p float64) time.Duration {
	n := len(r.latencies)
	if n == 0 {
		return 0
	}

	return r.latencies[min(n-1, int(float64(n)*p))]
}

// perThousand returns the CPU seconds per 1000 that succeeded.
func (r *result) perThousand(used time.Duration) float64 {
	return used.Seconds() * 1000 / float64(max(1, len(r.latencies)))
}

// fail counts a failure.
func (r *result) fail(reason string) {
	r.failed++
	if r.firstError == "" {
		r.firstError = reason
	}
}

// measure runs n workers until the time is over, and returns their results as one.
func measure(n int, d time.Duration, work func(r *result, end time.Time)) *result {
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := &result{}
	start := time.Now()
	for range n {
		wg.Go(func() {
			var r result
			work(&r, start.Add(d))

			mu.Lock()
			defer mu.Unlock()
			total.latencies = append(total.latencies, r.latencies...)
			total.failed += r.failed
			if total.firstError == "" {
				total.firstError = r.firstError
			}
		})
	}
	wg.Wait()

	total.took = time.Since(start)
	slices.Sort(total.latencies)

	return total
}

// target is where a load goes.
type target struct {
	addr  string
	login bool
}

// load sends a message over n connections until the time is over.
func load(to target, msg []byte, n int, o options) *result {
	c := upstream.Config{
		Hostname:       "load.example",
		Addrs:          []string{to.addr},
		TLS:            upstream.TLSOff,
		MaxConnections: n,
		MaxMessages:    1 << 30,
		MaxAge:         time.Hour,
		Log:            slog.New(slog.DiscardHandler),
	}
	if to.login {
		c.TLS = upstream.TLSOpportunistic
		c.Username = "bench"
		c.Password = "bench"
	}
	if o.oneshot {
		c.MaxMessages = 1
	}

	pool := upstream.New(c)
	defer pool.Close()

	var serial atomic.Int64
	return measure(n, o.duration, func(r *result, end time.Time) {
		for time.Now().Before(end) {
			t := transaction(serial.Add(1), msg)
			start := time.Now()
			out := pool.Send(context.Background(), t)
			if !out.Accepted() {
				r.fail(fmt.Sprint(out.Reply, out.Err))
				continue
			}
			r.latencies = append(r.latencies, time.Since(start))
		}
	})
}

// transaction returns a transaction for a recipient of its own.
func transaction(serial int64, msg []byte) *upstream.Transaction {
	reader := "reader" + strconv.FormatInt(serial, 10)

	return &upstream.Transaction{
		From:      envelope.Address{Local: "bounce", Domain: "example.com"},
		Recipient: envelope.Recipient{Address: envelope.Address{Local: reader, Domain: "example.net"}},
		Message:   [][]byte{msg},
	}
}

// connections parses the option of that name.
func (o options) connections() ([]int, error) {
	var out []int
	for f := range strings.SplitSeq(o.conns, ",") {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("-conns: %w", err)
		}
		out = append(out, n)
	}

	return out, nil
}

// printHeader prints the names of the columns. unit is that of the rate.
func printHeader(unit string) {
	fmt.Printf("%-16s %6s %9s %8s %8s %8s %8s %10s %9s %6s\n",
		"", "conns", unit, "p50 ms", "p90 ms", "p99 ms", "max ms", "CPU s/1000", "peak MiB", "failed")
}

// printResult prints the result of a run over n connections.
func printResult(what string, n int, r *result, perThousand, peak float64) {
	ms := func(p float64) float64 { return float64(r.percentile(p).Microseconds()) / 1000 }
	fmt.Printf("%-16s %6d %9.1f %8.2f %8.2f %8.2f %8.2f %10.2f %9.0f %6d\n",
		what, n, r.rate(), ms(.5), ms(.9), ms(.99), ms(1), perThousand, peak, r.failed)
}
