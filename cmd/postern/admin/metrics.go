package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/queue"
	"postern/tracking/event"
	"postern/tracking/spool"
)

// backlogMetrics says what waits for each reader of the event spool.
type backlogMetrics struct {
	spool   *spool.Spool
	readers []string
	now     func() time.Time

	events, bytes, oldest *prometheus.Desc
}

// NewBacklogMetrics returns metrics of what waits for readers of a spool.
func NewBacklogMetrics(s *spool.Spool, readers []string) prometheus.Collector {
	return newBacklogMetrics(s, readers)
}

func newBacklogMetrics(s *spool.Spool, readers []string) *backlogMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("postern_spool_"+name, help, []string{"reader"}, nil)
	}

	return &backlogMetrics{
		spool:   s,
		readers: readers,
		now:     time.Now,
		events:  desc("waiting_events", "Events that the reader has not passed yet."),
		bytes:   desc("waiting_bytes", "Bytes of the events that the reader has not passed yet."),
		oldest: desc("waiting_oldest_seconds", "Age of the oldest event that the reader has not passed yet; "+
			"0: none waits."),
	}
}

// Describe implements prometheus.Collector.
func (m *backlogMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.events
	out <- m.bytes
	out <- m.oldest
}

// Collect implements prometheus.Collector. A spool that cannot be read now has
// no values.
func (m *backlogMetrics) Collect(out chan<- prometheus.Metric) {
	for _, reader := range m.readers {
		b, err := m.spool.Backlog(reader)
		if err != nil {
			continue
		}

		age := 0.0
		if ev, err := event.Decode(b.Oldest); err == nil && b.Oldest != nil {
			age = max(0, m.now().Sub(ev.Timestamp.Time).Seconds())
		}
		gauge := func(d *prometheus.Desc, v float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, reader)
		}
		gauge(m.events, float64(b.Records))
		gauge(m.bytes, float64(b.Bytes))
		gauge(m.oldest, age)
	}
}

// DurationBuckets are those of all histograms of durations, in seconds: from
// milliseconds to relay.answer_within.
var DurationBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// NewSubmissionDuration returns a metric of how long clients wait for the answer to a
// message.
func NewSubmissionDuration() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "postern_submission_duration_seconds",
		Help:    "From the end of a message's data to the reply.",
		Buckets: DurationBuckets,
	})
}

// RegisterQueueAge adds what the retry spool does not measure by itself.
func RegisterQueueAge(reg prometheus.Registerer, q *queue.Queue) {
	age := func() float64 {
		oldest, _ := q.Backlog()
		if oldest.IsZero() {
			return 0
		}
		return max(0, time.Since(oldest).Seconds())
	}
	size := func() float64 {
		_, bytes := q.Backlog()
		return float64(bytes)
	}

	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_queue_oldest_seconds",
		Help: "Age of the oldest copy in the retry spool; 0: none waits.",
	}, age))
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_queue_waiting_bytes",
		Help: "Bytes of the messages that wait in the retry spool.",
	}, size))
}
