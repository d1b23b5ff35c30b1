package message

import "testing"

func TestEightBit(t *testing.T) {
	for c := range 256 {
		s := "a" + string([]byte{byte(c)})
		if got, want := HasEightBit([]byte(s)), c >= 0x80; got != want {
			t.Errorf("HasEightBit(%q) = %v", s, got)
		}

		want := s
		if c >= 0x80 {
			want = "a?"
		}
		if got := string(ReplaceEightBit([]byte(s))); got != want {
			t.Errorf("ReplaceEightBit(%q) = %q, want %q", s, got, want)
		}
	}

	if HasEightBit(nil) {
		t.Error("HasEightBit(nil) = true")
	}
}
