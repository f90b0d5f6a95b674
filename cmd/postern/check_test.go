package main

import "testing"

// TestSameAddress: what is listened on is what is configured, in other words.
func TestSameAddress(t *testing.T) {
	for _, c := range []struct {
		is, configured string
		same           bool
	}{
		{"[::]:25", ":25", true},
		{"[::]:25", "0.0.0.0:25", true},
		{"127.0.0.1:25", "127.0.0.1:25", true},
		{"127.0.0.1:25", "127.0.0.1:26", false},
		{"127.0.0.1:25", ":25", false},
		{"127.0.0.1:25", "127.0.0.2:25", false},
		{"/run/postern.sock", "127.0.0.1:25", false},
		{"[::1]:25", "unix:/run/x", false},
	} {
		if got := sameAddress(c.is, c.configured); got != c.same {
			t.Errorf("%s, %s: got %v", c.is, c.configured, got)
		}
	}
}
