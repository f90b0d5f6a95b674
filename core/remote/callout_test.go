package remote

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/send"
)

// knowing is a next hop that knows the local parts given.
func knowing(names ...string) func(int, string) string {
	return func(_ int, line string) string {
		to, ok := strings.CutPrefix(line, "RCPT TO:<")
		if !ok {
			return "usual"
		}
		for _, n := range names {
			if strings.HasPrefix(to, n+"@") {
				return "usual"
			}
		}
		return "550 5.1.1 nobody of that name"
	}
}

// asked is how often RCPT was said for what begins so.
func (k *talker) asked(of string) (n int) {
	for _, line := range k.all() {
		if strings.HasPrefix(line, "RCPT TO:<"+of) {
			n++
		}
	}
	return n
}

// spoken is how many commands there were, but for those that end sessions.
func (k *talker) spoken() (n int) {
	for _, line := range k.all() {
		if line != "QUIT" {
			n++
		}
	}
	return n
}

func callouts(k *talker, s CalloutSettings) *Callouts {
	return NewCallouts(New(Options{Dial: k.dial}, Settings{Hostname: "mx.here.example"}), s)
}

// TestCallout: what each answer of a next hop means, and how long it counts.
func TestCallout(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(int, string) string
		want   string
		any    bool
		life   time.Duration
		probes int
	}{
		{"somebody", knowing("a"), "250", false, 24 * time.Hour, 1},
		{"nobody", knowing("b"), "550 5.1.1", false, time.Hour, 0},
		{"everybody", nil, "250", true, time.Hour, 1},
		{"greylisted", after(99, "RCPT", "450 4.2.1 later"), "450 4.2.1", false, unclear, 0},
		{"the probe is greylisted", after(99, "RCPT TO:<postern-probe", "450 4.2.1 later"), "250", false, unclear, 1},
		{"421", after(99, "RCPT", "421 4.3.2 bye"), "421", false, unclear, 0},
		{"lost at the probe", after(99, "RCPT TO:<postern-probe", ""), "250", false, unclear, 1},
		{"the null sender refused", after(99, "MAIL", "550 5.7.1 no bounces"), "451 4.3.5", false, unclear, 0},
		{"the null sender put off", after(99, "MAIL", "451 4.7.1 later"), "451 4.7.1", false, unclear, 0},
		{"hangs up", after(99, "RCPT", ""), "451 4.4.2", false, unclear, 0},
		{"hangs", after(99, "RCPT", "hang"), "451 4.4.2", false, unclear, 0},
		{"hangs at EHLO", after(99, "EHLO", "hang"), "451 4.4.2", false, unclear, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &talker{answer: tc.answer}
				v := callouts(k, CalloutSettings{})
				ask := func() {
					start := time.Now()
					got := v.Verify(t.Context(), talkerWay, address(t, "a@example.net"))
					if !strings.HasPrefix(got.Reply.String(), tc.want) || got.Any != tc.any {
						t.Errorf("%+v", got)
					}
					if took := time.Since(start); took > 30*time.Second {
						t.Errorf("it took %s", took)
					}
				}
				ask()
				first := k.spoken()
				if n := k.asked("postern-probe-"); n != tc.probes {
					t.Errorf("%d probes", n)
				}
				time.Sleep(tc.life - time.Second)
				ask()
				if k.spoken() != first {
					t.Errorf("asked again: %q", k.all())
				}
				time.Sleep(2 * time.Second)
				ask()
				if k.spoken() == first {
					t.Error("not asked again")
				}
				_ = v.c.Close()
			})
		})
	}
}

// TestCalloutEverybody: of a next hop that takes everybody nothing more is asked,
// for its domain and way alone; where it comes to know its recipients, that is
// found out.
func TestCalloutEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &talker{}
		v := callouts(k, CalloutSettings{})
		for i := range 50 {
			if got := v.Verify(t.Context(), talkerWay, address(t, fmt.Sprintf("u%d@example.net", i))); !got.Any {
				t.Fatalf("%+v", got)
			}
		}
		if n := k.asked(""); n != 2 {
			t.Errorf("%d questions", n)
		}
		other := talkerWay
		other.Port = "2525"
		v.Verify(t.Context(), talkerWay, address(t, "a@other.example"))
		v.Verify(t.Context(), other, address(t, "a@example.net"))
		if n := k.asked(""); n != 6 {
			t.Errorf("%d questions", n)
		}
		k.turn(knowing("a"))
		time.Sleep(time.Hour + time.Second)
		if got := v.Verify(t.Context(), talkerWay, address(t, "u1@example.net")); got.Reply.Code != 550 {
			t.Errorf("%+v", got)
		}
		v.Verify(t.Context(), talkerWay, address(t, "a@example.net"))
		if got := v.Verify(t.Context(), talkerWay, address(t, "u2@example.net")); got.Reply.Code != 550 {
			t.Errorf("%+v", got)
		}
		_ = v.c.Close()
	})
}

// TestCalloutTogether: the same question is asked once, and only so many at a time.
func TestCalloutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		k := &talker{}
		k.answer = func(_ int, line string) string {
			if !strings.HasPrefix(line, "RCPT TO:<u") {
				return knowing()(0, line)
			}
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return "usual"
		}
		v := callouts(k, CalloutSettings{Concurrency: 3})
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				if got := v.Verify(t.Context(), talkerWay, address(t, fmt.Sprintf("u%d@example.net", i%12))); got.Reply.Code != 250 {
					t.Errorf("%+v", got)
				}
			})
		}
		wg.Wait()
		if n := k.asked("u"); n != 12 || most > 3 || k.n > 3 {
			t.Errorf("%d questions over %d connections, %d at a time", n, k.n, most)
		}
		// One that gets no turn in time is told so, and whoever waits with it.
		k.turn(after(99, "RCPT", "hang"))
		start := time.Now()
		for i := range 10 {
			wg.Go(func() {
				if got := v.Verify(t.Context(), talkerWay, address(t, fmt.Sprintf("w%d@example.net", i%5))); !got.Reply.Temporary() {
					t.Errorf("%+v", got)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > 31*time.Second {
			t.Errorf("they waited %s", took)
		}
		if n := v.Counts(); n != (CalloutCounts{Entries: n.Entries, Asked: 15, Remembered: 53, Late: 2}) {
			t.Errorf("%+v", n)
		}
		if len(v.flights) != 0 || v.busy != 0 {
			t.Errorf("%d flights, %d busy", len(v.flights), v.busy)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := v.Verify(ctx, talkerWay, address(t, "gone@example.net")); !got.Reply.Temporary() {
			t.Errorf("%+v", got)
		}
		_ = v.c.Close()
	})
}

// TestCalloutBound: what is remembered has a bound, the one used last stays; it
// can be forgotten, and made smaller.
func TestCalloutBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &talker{answer: knowing("a")}
		v := callouts(k, CalloutSettings{Entries: 10})
		ask := func(local string) int {
			before := k.asked(local + "@")
			v.Verify(t.Context(), talkerWay, address(t, local+"@example.net"))
			return k.asked(local+"@") - before
		}
		ask("a")
		for i := range 100 {
			ask(fmt.Sprintf("u%d", i))
			if ask("a") != 0 {
				t.Fatal("the one used last went")
			}
		}
		if len(v.known) != 10 || v.recent.Len() != 10 || ask("u99") != 0 || ask("u1") != 1 {
			t.Errorf("%d are known", len(v.known))
		}
		v.Reconfigure(CalloutSettings{Entries: 2})
		if len(v.known) != 2 || ask("u1") != 0 {
			t.Errorf("%d are known", len(v.known))
		}
		v.Forget()
		if ask("u1") != 1 {
			t.Error("not forgotten")
		}
		_ = v.c.Close()
	})
}

// TestCalloutStrangers: nobody but a given server is asked.
func TestCalloutStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &talker{}
		v := callouts(k, CalloutSettings{})
		for _, scheme := range []string{send.SchemeMX, send.SchemeLocal, send.SchemeDiscard, ""} {
			if got := v.Verify(t.Context(), send.Way{NextHop: send.NextHop{Scheme: scheme}}, address(t, "a@example.net")); !got.Reply.Temporary() {
				t.Errorf("%s: %+v", scheme, got)
			}
		}
		if k.n != 0 {
			t.Errorf("%d connections", k.n)
		}
		_ = v.c.Close()
	})
}
