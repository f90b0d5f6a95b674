package gate

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
)

// However connections come, each is served once, all at the same time where they last,
// and no more goroutines stay than may wait.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		served, last := map[net.Conn]int{}, make(chan struct{})
		w := crew{free: make(chan net.Conn), serve: func(c net.Conn) {
			mu.Lock()
			served[c]++
			mu.Unlock()
			<-last
		}}
		round := func(n int) {
			for range n {
				c, _ := net.Pipe()
				w.take(c)
			}
			synctest.Wait()
		}
		round(3 * maxFree)
		if len(served) != 3*maxFree {
			t.Fatalf("%d of %d connections are served at a time", len(served), 3*maxFree)
		}
		close(last)
		synctest.Wait()
		if n := w.waiting.Load(); n != maxFree {
			t.Errorf("%d goroutines wait, want %d", n, maxFree)
		}
		round(maxFree / 2)
		round(2)
		w.wait()
		if len(served) != 3*maxFree+maxFree/2+2 {
			t.Errorf("%d connections were served", len(served))
		}
		for _, n := range served {
			if n != 1 {
				t.Errorf("a connection was served %d times", n)
			}
		}
	})
}
