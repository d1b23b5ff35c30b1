package event

import "testing"

// BenchmarkClassify is the cost of a reply whose words no row knows, which is
// the dearest.
func BenchmarkClassify(b *testing.B) {
	for _, text := range []string{"550 5.1.1 <reader@example.net>: Recipient address rejected: User unknown in local recipient table", "451 4.9.9 come again some other day, the cat sleeps on the queue"} {
		b.Run(text[:3], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Classify("other", "4.9.9", text, nil)
			}
		})
	}
}
