package console

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// One account has its share of the connections; its others wait in their order, and end
// with the listener.
func TestPeersShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := ListenInjection(path)
	if err != nil {
		t.Fatal(err)
	}
	l := listenPeers(ln)
	uid := uint32(os.Getuid())
	const more = 3
	var ours [peerShare + more]net.Conn
	for i := range ours {
		if ours[i], err = net.Dial("unix", path); err != nil {
			t.Fatal(err)
		}
		defer ours[i].Close()
		if _, err := ours[i].Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	next := func(want int) net.Conn {
		t.Helper()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || int(b[0]) != want {
			t.Fatalf("connection %d, %v; want %d", b[0], err, want)
		}
		if who := c.RemoteAddr().String(); !strings.HasPrefix(who, "(qmail ") || !strings.Contains(who, " invoked by uid ") {
			t.Errorf("it says it is of %s", who)
		}
		return c
	}
	var served []net.Conn
	for i := range peerShare {
		served = append(served, next(i))
	}
	for waiting := 0; waiting < more; runtime.Gosched() {
		l.mu.Lock()
		waiting = len(l.waiting[uid])
		if len(l.ready) > 0 || l.open[uid] != peerShare {
			t.Fatalf("%d are ready, %d open", len(l.ready), l.open[uid])
		}
		l.mu.Unlock()
	}
	for i := range more - 1 {
		served[i].Close()
		served[i].Close() // twice is once
		served = append(served, next(peerShare+i))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-l.ended
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := ours[peerShare+more-1].Read(make([]byte, 1)); err == nil {
		t.Error("what waited is still open")
	}
	for _, c := range served {
		c.Close()
	}
	if len(l.open) > 0 || len(l.waiting) > 0 {
		t.Errorf("left: %v, %v", l.open, l.waiting)
	}
}

// More large envelopes than have a place at a time are taken one after the other.
func TestInjectionOfLargeEnvelopes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := ListenInjection(path)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	now, most, taken := 0, 0, 0
	s := New(Options{Inject: func(_ context.Context, d queue.Drop, body io.Reader) message.Reply {
		mu.Lock()
		now++
		most = max(most, now)
		taken += len(d.Recipients)
		if d.Via != "program" || !strings.Contains(d.Trace, "invoked by uid") {
			t.Errorf("via %q, %q", d.Via, d.Trace)
		}
		mu.Unlock()
		_, _ = io.Copy(io.Discard, body) // what is left of it, injectBy tells
		mu.Lock()
		now--
		mu.Unlock()
		return message.NewReply(250, "2.0.0", "Ok")
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeInjection(ctx, ln, "program") }()
	large := queue.Drop{Sender: message.Address{Local: "a", Domain: "a.example"}, Via: "another"}
	for len(large.Recipients) < smallEnvelope/16 {
		large.Recipients = append(large.Recipients, message.Address{Local: "somebody", Domain: "b.example"})
	}
	var clients sync.WaitGroup
	const many = 3 * largeAtATime
	for range many {
		clients.Go(func() {
			client, err := Dial(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			if reply, err := client.Inject(ctx, large, strings.NewReader("x")); err != nil || reply.Code != 250 {
				t.Errorf("%v, %v", reply, err)
			}
		})
	}
	clients.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if taken != many*len(large.Recipients) || most > largeAtATime {
		t.Errorf("%d recipients, %d at a time", taken, most)
	}
}
