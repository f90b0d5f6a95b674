package dns

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
)

// scripted is a Client whose exchanges are answered by play, not by a network.
func scripted(t *testing.T, o Options, play func(ctx context.Context, to netip.AddrPort, m *wire.Msg) (*wire.Msg, error)) *Client {
	t.Helper()
	if o.Servers == nil {
		o.Servers = []string{"192.0.2.53"}
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.exchange = play
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answerWith makes a reply to m with the records of a zone file.
func answerWith(t testing.TB, m *wire.Msg, rcode int, answer, authority string) *wire.Msg {
	t.Helper()
	r := new(wire.Msg).SetRcode(m, rcode)
	r.RecursionAvailable = true
	for line := range strings.Lines(answer) {
		r.Answer = append(r.Answer, record(t, line))
	}
	for line := range strings.Lines(authority) {
		r.Ns = append(r.Ns, record(t, line))
	}
	return r
}

func record(t testing.TB, line string) wire.RR {
	t.Helper()
	rr, err := wire.NewRR(line)
	if err != nil || rr == nil {
		t.Fatalf("%q: %v", line, err)
	}
	return rr
}

func TestCacheKeepsForTTL(t *testing.T) {
	const soa = "example. 300 IN SOA ns. root. 1 1 1 1 120"
	for _, tt := range []struct {
		name              string
		rcode             int
		answer, authority string
		fresh, stale      time.Duration
	}{
		{"ttl", 0, "h.example. 30 IN A 192.0.2.1", "", 29 * time.Second, 30 * time.Second},
		{"ttl of the alias is less", 0, "h.example. 20 IN CNAME i.example.\ni.example. 60 IN A 192.0.2.1", "", 19 * time.Second, 20 * time.Second},
		{"zero ttl", 0, "h.example. 0 IN A 192.0.2.1", "", 4 * time.Second, 5 * time.Second},
		{"a week", 0, "h.example. 604800 IN A 192.0.2.1", "", 59 * time.Minute, time.Hour},
		{"nxdomain by soa", wire.RcodeNameError, "", soa, 119 * time.Second, 120 * time.Second},
		{"nodata without soa", 0, "", "", 59 * time.Second, 60 * time.Second},
		{"failure", wire.RcodeServerFailure, "", "", 900 * time.Millisecond, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := scripted(t, Options{}, func(_ context.Context, _ netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
					asked++
					return answerWith(t, m, tt.rcode, tt.answer, tt.authority), nil
				})
				_, first := c.LookupA(t.Context(), "h.example")
				time.Sleep(tt.fresh)
				_, again := c.LookupA(t.Context(), "H.Example.")
				if asked != 1 || (first == nil) != (again == nil) {
					t.Fatalf("asked %d times while fresh: %v, %v", asked, first, again)
				}
				time.Sleep(tt.stale - tt.fresh)
				_, _ = c.LookupA(t.Context(), "h.example")
				if asked != 2 {
					t.Fatalf("asked %d times after the time was up, want 2", asked)
				}
			})
		})
	}
}

func TestEqualQuestionsShareOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		c := scripted(t, Options{}, func(_ context.Context, _ netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return answerWith(t, m, 0, "h.example. 30 IN A 192.0.2.1", ""), nil
		})
		impatient, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			_, err := c.LookupA(impatient, "h.example")
			if !errors.Is(err, context.Canceled) || !IsTemporary(err) {
				t.Errorf("the impatient one got %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			all.Go(func() {
				if got, err := c.LookupA(t.Context(), "h.example"); err != nil || len(got) != 1 {
					t.Errorf("got %v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		cancel() // who started the flight leaves; the others are still served
		all.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestAnswersBelongToTheCaller(t *testing.T) {
	c := scripted(t, Options{}, func(_ context.Context, _ netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
		return answerWith(t, m, 0, "h.example. 30 IN TXT one", ""), nil
	})
	got, _ := c.LookupTXT(t.Context(), "h.example")
	got[0] = "changed"
	if again, err := c.LookupTXT(t.Context(), "h.example"); err != nil || again[0] != "one" {
		t.Errorf("the cache now says %q, %v", again, err)
	}
}

func TestServersInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		c := scripted(t, Options{Servers: []string{"192.0.2.1", "192.0.2.2", "[2001:db8::3]:5353"}, Timeout: 6 * time.Second},
			func(ctx context.Context, to netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
				order = append(order, to.String())
				switch to.Addr().String() {
				case "192.0.2.1":
					<-ctx.Done()
					return nil, ctx.Err()
				case "192.0.2.2":
					return answerWith(t, m, wire.RcodeRefused, "", ""), nil
				}
				return answerWith(t, m, 0, "h.example. 5 IN A 192.0.2.9", ""), nil
			})
		start := time.Now()
		if _, err := c.LookupA(t.Context(), "h.example"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v: the silent server should get a third of the time", took)
		}
		if _, err := c.LookupA(t.Context(), "other.example"); !IsNone(err) {
			t.Fatalf("records of another name were taken: %v", err)
		}
		want := "192.0.2.1:53 192.0.2.2:53 [2001:db8::3]:5353 192.0.2.2:53 [2001:db8::3]:5353"
		if got := strings.Join(order, " "); got != want {
			t.Errorf("asked %s\nwant  %s: the silent one goes last for a while", got, want)
		}
		time.Sleep(sulk)
		order = nil
		_, _ = c.LookupA(t.Context(), "third.example")
		if order[0] != "192.0.2.1:53" {
			t.Errorf("asked %v: the first server should be first again", order)
		}
	})
}

func TestTimeoutBoundsTheWholeLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := scripted(t, Options{Timeout: 3 * time.Second}, func(ctx context.Context, _ netip.AddrPort, _ *wire.Msg) (*wire.Msg, error) {
			asked++
			<-ctx.Done()
			return nil, ctx.Err()
		})
		start := time.Now()
		_, err := c.LookupMX(t.Context(), "h.example")
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != Timeout || e.Type != "MX" || e.Name != "h.example" {
			t.Errorf("got %#v", err)
		}
		if took := time.Since(start); took != 3*time.Second || asked != 3 {
			t.Errorf("%d questions in %v, want 3 in 3s", asked, took)
		}
		if s := c.Stats(); s.Timeouts != 1 || s.Lookups != 1 || s.Questions != 3 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestServersThatKnowLittle(t *testing.T) {
	t.Run("no EDNS", func(t *testing.T) {
		c := scripted(t, Options{}, func(_ context.Context, _ netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
			if m.IsEdns0() != nil {
				return answerWith(t, m, wire.RcodeFormatError, "", ""), nil
			}
			return answerWith(t, m, 0, "h.example. 5 IN A 192.0.2.9", ""), nil
		})
		if _, err := c.LookupA(t.Context(), "h.example"); err != nil {
			t.Error(err)
		}
	})
	t.Run("lame", func(t *testing.T) {
		c := scripted(t, Options{}, func(_ context.Context, _ netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
			r := answerWith(t, m, 0, "", "example. 5 IN NS ns.example.")
			r.RecursionAvailable = false
			return r, nil
		})
		if _, err := c.LookupA(t.Context(), "h.example"); !IsTemporary(err) {
			t.Errorf("a referral became %v", err)
		}
	})
}

func TestCloseEndsFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := scripted(t, Options{}, func(ctx context.Context, _ netip.AddrPort, _ *wire.Msg) (*wire.Msg, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.LookupA(t.Context(), "h.example"); !IsTemporary(err) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		_ = c.Close()
		all.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if _, err := c.LookupA(t.Context(), "new.example"); !IsTemporary(err) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestCacheBounds(t *testing.T) {
	c := newCache(10_000)
	now := time.Now()
	a := &answer{text: []string{strings.Repeat("x", 600)}, ttl: time.Hour}
	for i := range 100 {
		c.put(question{name: strings.Repeat("n", i), qtype: wire.TypeTXT}, a, now)
		c.get(question{name: "", qtype: wire.TypeTXT}, now) // the first stays in use
	}
	if c.size > c.limit || len(c.items) < 5 || len(c.items) != c.order.Len() {
		t.Errorf("%d bytes in %d items", c.size, len(c.items))
	}
	if c.get(question{name: "", qtype: wire.TypeTXT}, now) == nil {
		t.Error("what was used last went first")
	}
	c.put(question{name: "big"}, &answer{text: []string{strings.Repeat("x", 20_000)}, ttl: time.Hour}, now)
	if c.get(question{name: "big"}, now) != nil {
		t.Error("an answer larger than the cache was kept")
	}
	none := newCache(-1)
	none.put(question{name: "a"}, a, now)
	if len(none.items) != 0 {
		t.Error("a cache that is off keeps something")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, bad := range []string{"", "localhost", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:dns", "2001:db8::1:"} {
		if _, err := New(Options{Servers: []string{bad}}); err == nil {
			t.Errorf("server %q was taken", bad)
		}
	}
	if _, err := New(Options{Servers: make([]string, 9)}); err == nil {
		t.Error("nine servers were taken")
	}
}

func BenchmarkCachedLookup(b *testing.B) {
	c, err := New(Options{Servers: []string{"192.0.2.1"}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	c.exchange = func(_ context.Context, _ netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
		return answerWith(b, m, 0, "mx.example.com. 3600 IN A 192.0.2.9", ""), nil
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.LookupA(b.Context(), "mx.example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
