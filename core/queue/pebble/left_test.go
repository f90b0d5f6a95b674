package pebble

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// NoneLeft sees to it that a handle that is closed has no goroutine left, and so
// none of its memory. Pebble's last ones end soon after its Close.
func NoneLeft(tb testing.TB, where string) {
	tb.Helper()
	stacks := make([]byte, 4<<20)
	var left string
	for range 400 {
		left = ""
		for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(g, "cockroachdb/pebble/") || strings.Contains(g, "queue/pebble.(*engine)") {
				left = g
			}
		}
		if left == "" {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	tb.Errorf("%s: a goroutine is left:\n%s", where, left)
}
