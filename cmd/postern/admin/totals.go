package admin

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Totals exports the counters of everything that a reload replaces, as sums
// over all that were in use since the start, so that a reload takes nothing
// from them: what was replaced goes on counting for the messages that it
// began with. Gauges are those of what is in use.
//
// It is safe for concurrent use.
type Totals struct {
	mu      sync.Mutex
	current *Collected
	retired []generation   // what messages may still be under way in
	sums    map[string]sum // of all before
}

// generation is the counters of what was replaced.
type generation struct {
	ended time.Time
	list  []prometheus.Collector
}

// countsFor is how long something counts after it was replaced: longer than
// any message takes.
const countsFor = time.Hour

// sum is a metric with its values so far.
type sum struct {
	desc  *prometheus.Desc
	value *dto.Metric
}

// Describe implements prometheus.Collector. Which metrics there are changes
// with what is in use.
func (*Totals) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (t *Totals) Collect(out chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()

	all := t.past()
	if t.current != nil {
		addAll(all, t.current.list, false)
	}

	for _, key := range slices.Sorted(maps.Keys(all)) {
		out <- total(all[key])
	}
}

// past returns the sums of everything that is no longer in use. The caller
// holds mu.
func (t *Totals) past() map[string]sum {
	all := make(map[string]sum, len(t.sums))
	maps.Copy(all, t.sums)
	for _, g := range t.retired {
		addAll(all, g.list, true)
	}

	return all
}

// Use puts metrics in the place of those that were in use.
func (t *Totals) Use(next *Collected, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()

	var counting []generation
	for _, g := range t.retired {
		if now.Sub(g.ended) < countsFor {
			counting = append(counting, g)
			continue
		}
		if t.sums == nil {
			t.sums = map[string]sum{}
		}
		addAll(t.sums, g.list, true)
	}

	if t.current != nil {
		counting = append(counting, generation{
			ended: now,
			list:  slices.DeleteFunc(slices.Clone(t.current.list), isGauge),
		})
	}
	t.retired = counting
	t.current = next
}

// total is a sum as a metric.
type total sum

// Desc implements prometheus.Metric.
func (t total) Desc() *prometheus.Desc { return t.desc }

// Write implements prometheus.Metric.
func (t total) Write(m *dto.Metric) error {
	v := t.value
	m.Label = v.Label
	m.Counter = v.Counter
	m.Gauge = v.Gauge
	m.Histogram = v.Histogram
	m.Summary = v.Summary
	m.Untyped = v.Untyped
	return nil
}

// addAll adds the metrics of collectors to sums. counters leaves out what does
// not only grow.
func addAll(sums map[string]sum, list []prometheus.Collector, counters bool) {
	for _, m := range gather(list) {
		var value dto.Metric
		if err := m.Write(&value); err != nil {
			continue
		}
		if counters && value.Counter == nil && value.Histogram == nil {
			continue
		}

		key := keyOf(m.Desc(), &value)
		if old, ok := sums[key]; ok {
			addTo(&value, old.value)
		}
		sums[key] = sum{desc: m.Desc(), value: &value}
	}
}

// gather returns the metrics of collectors.
func gather(list []prometheus.Collector) []prometheus.Metric {
	ch := make(chan prometheus.Metric)
	go func() {
		defer close(ch)
		for _, c := range list {
			c.Collect(ch)
		}
	}()

	var out []prometheus.Metric
	for m := range ch {
		out = append(out, m)
	}
	return out
}

// isGauge reports whether a collector has gauges, whose values are only of
// interest while their owner is in use.
func isGauge(c prometheus.Collector) bool {
	return slices.ContainsFunc(gather([]prometheus.Collector{c}), func(m prometheus.Metric) bool {
		var value dto.Metric
		return m.Write(&value) == nil && value.Gauge != nil
	})
}

// keyOf tells one time series from another.
func keyOf(d *prometheus.Desc, m *dto.Metric) string {
	parts := []string{d.String()}
	for _, l := range m.Label {
		parts = append(parts, l.GetName(), l.GetValue())
	}
	return strings.Join(parts, "\x00")
}

// addTo adds an older value of a counter or a histogram to a newer one. The
// buckets of a histogram do not change while the process runs.
func addTo(now, old *dto.Metric) {
	if now.Counter != nil && old.Counter != nil {
		now.Counter.Value = pointer(now.Counter.GetValue() + old.Counter.GetValue())
	}

	h, o := now.Histogram, old.Histogram
	if h == nil || o == nil {
		return
	}
	h.SampleCount = pointer(h.GetSampleCount() + o.GetSampleCount())
	h.SampleSum = pointer(h.GetSampleSum() + o.GetSampleSum())
	for i, b := range h.Bucket {
		if i < len(o.Bucket) {
			b.CumulativeCount = pointer(b.GetCumulativeCount() + o.Bucket[i].GetCumulativeCount())
		}
	}
}

func pointer[T any](v T) *T { return &v }

// Collected takes metrics that are exported once their owner goes live.
type Collected struct{ list []prometheus.Collector }

// Register implements prometheus.Registerer.
func (c *Collected) Register(m prometheus.Collector) error {
	c.list = append(c.list, m)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (c *Collected) MustRegister(ms ...prometheus.Collector) { c.list = append(c.list, ms...) }

// Unregister implements prometheus.Registerer. It does nothing.
func (c *Collected) Unregister(prometheus.Collector) bool { return false }
