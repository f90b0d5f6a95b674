package gate

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxFree is how many goroutines wait for a connection beyond those that have one.
const maxFree = 64

// crew serves connections, each in a goroutine that nothing else runs in meanwhile.
// A goroutine that is done waits for another connection: its stack has grown to what
// one needs, and growing it anew was one part in fifty of a short connection's
// processor time.
type crew struct {
	serve func(net.Conn)
	free  chan net.Conn // to whoever waits

	all     sync.WaitGroup
	waiting atomic.Int32
}

// take has c served.
func (w *crew) take(c net.Conn) {
	select {
	case w.free <- c:
	default:
		w.all.Go(func() { w.work(c) })
	}
}

func (w *crew) work(c net.Conn) {
	for ok := true; ok; {
		w.serve(c)
		if w.waiting.Add(1) > maxFree {
			w.waiting.Add(-1)
			return
		}
		c, ok = <-w.free
		w.waiting.Add(-1)
	}
}

// wait returns when all connections have ended; none is taken after it.
func (w *crew) wait() {
	close(w.free)
	w.all.Wait()
}
