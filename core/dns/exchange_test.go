package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// against starts a server on loopback and returns a Client that asks it.
func against(t *testing.T, timeout time.Duration, h wire.HandlerFunc) *Client {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Skipf("the port is taken for TCP: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := serve(ctx, h, packets, streams); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	c, err := New(Options{Servers: []string{packets.LocalAddr().String()}, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		cancel()
		running.Wait()
	})
	return c
}

func overStream(w wire.ResponseWriter) bool { return w.RemoteAddr().Network() == "tcp" }

func TestTruncatedAnswerComesOverTCP(t *testing.T) {
	var datagrams, streams atomic.Int32
	c := against(t, 0, func(w wire.ResponseWriter, m *wire.Msg) {
		r := answerWith(t, m, 0, "", "")
		for i := range 60 {
			r.Answer = append(r.Answer, record(t, fmt.Sprintf("big.example. 60 IN TXT \"%d %s\"", i, strings.Repeat("x", 200))))
		}
		if overStream(w) {
			streams.Add(1)
		} else {
			datagrams.Add(1)
			if size := m.IsEdns0().UDPSize(); size != udpSize {
				t.Errorf("EDNS size %d", size)
			}
			r.Truncate(udpSize)
		}
		_ = w.WriteMsg(r)
	})
	got, err := c.LookupTXT(t.Context(), "big.example")
	if err != nil || len(got) != 60 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if datagrams.Load() != 1 || streams.Load() != 1 {
		t.Errorf("%d questions over UDP, %d over TCP", datagrams.Load(), streams.Load())
	}
}

func TestStrangePacketsAreIgnored(t *testing.T) {
	good := "h.example. 60 IN A 192.0.2.1"
	forged := "h.example. 60 IN A 198.51.100.66"
	for name, disguise := range map[string]func(r *wire.Msg) []byte{
		"wrong id":       func(r *wire.Msg) []byte { r.Id++; return packed(r) },
		"wrong name":     func(r *wire.Msg) []byte { r.Question[0].Name = "g.example."; return packed(r) },
		"wrong type":     func(r *wire.Msg) []byte { r.Question[0].Qtype = wire.TypeMX; return packed(r) },
		"wrong class":    func(r *wire.Msg) []byte { r.Question[0].Qclass = wire.ClassCHAOS; return packed(r) },
		"no question":    func(r *wire.Msg) []byte { r.Question = nil; return packed(r) },
		"not a response": func(r *wire.Msg) []byte { r.Response = false; return packed(r) },
		"short":          func(r *wire.Msg) []byte { return packed(r)[:11] },
		"empty":          func(*wire.Msg) []byte { return nil },
		"two questions": func(r *wire.Msg) []byte {
			r.Question = append(r.Question, r.Question[0])
			return packed(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := against(t, 0, func(w wire.ResponseWriter, m *wire.Msg) {
				bad := answerWith(t, m, 0, forged, "")
				bad.Question = append([]wire.Question(nil), m.Question...)
				_, _ = w.Write(disguise(bad))
				_ = w.WriteMsg(answerWith(t, m, 0, good, ""))
			})
			got, err := c.LookupA(t.Context(), "h.example")
			if err != nil || len(got) != 1 || got[0].String() != "192.0.2.1" {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func packed(m *wire.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func TestBrokenServers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kind   Kind
		handle wire.HandlerFunc
	}{
		{"SERVFAIL", Failure, func(w wire.ResponseWriter, m *wire.Msg) {
			_ = w.WriteMsg(answerWith(t, m, wire.RcodeServerFailure, "", ""))
		}},
		{"silence", Timeout, func(wire.ResponseWriter, *wire.Msg) {}},
		{"only forgeries", Timeout, func(w wire.ResponseWriter, m *wire.Msg) {
			r := answerWith(t, m, 0, "h.example. 60 IN A 198.51.100.66", "")
			r.Id++
			_ = w.WriteMsg(r)
		}},
		{"a flood of forgeries", Failure, func(w wire.ResponseWriter, m *wire.Msg) {
			r := answerWith(t, m, 0, "h.example. 60 IN A 198.51.100.66", "")
			r.Id++
			for range maxStrange {
				_ = w.WriteMsg(r)
			}
		}},
		{"garbled", Failure, func(w wire.ResponseWriter, m *wire.Msg) {
			b := packed(answerWith(t, m, 0, "h.example. 60 IN A 192.0.2.1", ""))
			_, _ = w.Write(b[:len(b)-3])
		}},
		{"truncated and no TCP", Failure, func(w wire.ResponseWriter, m *wire.Msg) {
			if overStream(w) {
				_ = w.Close()
				return
			}
			r := answerWith(t, m, 0, "", "")
			r.Truncated = true
			_ = w.WriteMsg(r)
		}},
		{"another's answer over TCP", Failure, func(w wire.ResponseWriter, m *wire.Msg) {
			r := answerWith(t, m, 0, "", "")
			r.Truncated = !overStream(w)
			if overStream(w) {
				r.Id++
			}
			_ = w.WriteMsg(r)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := against(t, 300*time.Millisecond, tt.handle)
			got, err := c.LookupA(t.Context(), "h.example")
			if e, ok := errors.AsType[*Error](err); !ok || e.Kind != tt.kind {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		probe, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := probe.LocalAddr().String()
		_ = probe.Close()
		c, err := New(Options{Servers: []string{addr}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.LookupA(t.Context(), "h.example"); !IsTemporary(err) {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	query := new(wire.Msg)
	query.SetQuestion("h.example.", wire.TypeMX)
	query.Id = 0x1234
	asked := packed(query)
	for _, answer := range []string{"", "h.example. 60 IN MX 10 mx.example.", "h.example. 60 IN CNAME h.example.", "h.example. 60 IN MX 0 ."} {
		f.Add(packed(answerWith(f, query, 0, answer, "example. 300 IN SOA ns. root. 1 1 1 1 120")))
	}
	f.Add(bytes.Repeat([]byte{0xc0}, 40))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if !answers(packet, asked) {
			return
		}
		m := new(wire.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		for _, qtype := range []uint16{wire.TypeA, wire.TypeMX, wire.TypeTXT, wire.TypePTR} {
			a := resolve(t.Context(), func(context.Context, question) (*wire.Msg, *Error) { return m, nil }, question{"h.example", qtype})
			if records := len(a.addrs) + len(a.mx) + len(a.text); (records == 0) != (a.err != nil) {
				t.Fatalf("%d records and the error %v", records, a.err)
			}
			for _, mx := range a.mx {
				if name, ok := hostname(mx.Host, ":/"); mx.Host != "" && (!ok || name != mx.Host) {
					t.Fatalf("host %q", mx.Host)
				}
			}
		}
	})
}
