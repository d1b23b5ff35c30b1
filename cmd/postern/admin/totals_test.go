package admin

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// part is what a reload replaces: a counter, a vector, a histogram, a gauge.
type part struct {
	counter   prometheus.Counter
	vector    *prometheus.CounterVec
	histogram prometheus.Histogram
	gauge     prometheus.Gauge
}

func newPart() (*part, *Collected) {
	p := &part{
		counter:   prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total", Help: "C."}),
		vector:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "v_total", Help: "V."}, []string{"result"}),
		histogram: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "H.", Buckets: []float64{1, 10}}),
		gauge:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "g", Help: "G."}),
	}
	c := &Collected{}
	c.MustRegister(p.counter, p.vector, p.histogram, p.gauge)
	return p, c
}

func (p *part) count(result string) {
	p.counter.Inc()
	p.vector.WithLabelValues(result).Inc()
	p.histogram.Observe(5)
}

// values are all time series of a registry.
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}

	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			switch {
			case m.Counter != nil:
				out[name] = m.Counter.GetValue()
			case m.Gauge != nil:
				out[name] = m.Gauge.GetValue()
			case m.Histogram != nil:
				out[name] = float64(m.Histogram.GetSampleCount())
				for _, b := range m.Histogram.Bucket {
					out[fmt.Sprintf("%s{le=%v}", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return out
}

func TestCountersSurviveReloads(t *testing.T) {
	sums := &Totals{}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(sums)
	now := time.Now()

	first, c := newPart()
	sums.Use(c, now)
	first.count("accepted")
	first.gauge.Set(7)

	second, c := newPart()
	sums.Use(c, now.Add(time.Minute))
	second.count("accepted")
	second.count("refused")
	second.gauge.Set(3)
	first.count("accepted") // by a message that began before the reload

	third, c := newPart()
	sums.Use(c, now.Add(2*time.Minute))
	third.count("accepted")
	first.count("accepted") // and one that takes long

	want := map[string]float64{
		"c_total":                    6,
		`v_total{result="accepted"}`: 5,
		`v_total{result="refused"}`:  1,
		"h":                          6,
		"h{le=1}":                    0,
		"h{le=10}":                   6,
		"g":                          0, // the third's
	}
	compare(t, values(t, reg), want)

	// Long after, what was replaced is a sum and no more.
	_, c = newPart()
	sums.Use(c, now.Add(2*time.Minute+countsFor))
	if got := len(sums.retired); got != 1 {
		t.Errorf("got %d generations that still count, want the last alone", got)
	}
	compare(t, values(t, reg), want)
}

func compare(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s: got %v, want %v", name, got[name], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
