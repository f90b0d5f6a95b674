package main

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// behaviour is what a fake spamd does.
type behaviour struct {
	say  string
	hang bool // keeps the connection open
	deaf bool // closes without reading
}

func reply(verdict, rules string) behaviour {
	return behaviour{say: "SPAMD/1.1 0 EX_OK\r\nSpam: " + verdict + "\r\n\r\n" + rules + "\r\n"}
}

// daemon is a fake spamd.
type daemon struct {
	address string
	got     chan string
	over    chan struct{} // closed at the test's end
}

// fake starts one on a unix socket, which ends with the test.
func fake(t *testing.T, b behaviour) *daemon {
	t.Helper()
	return serve(t, "unix", filepath.Join(t.TempDir(), "spamd"), b)
}

func serve(t *testing.T, network, address string, b behaviour) *daemon {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{address: ln.Addr().String(), got: make(chan string, 16), over: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { d.answer(conn, b) })
		}
	})
	t.Cleanup(func() {
		close(d.over)
		ln.Close()
		all.Wait()
	})
	return d
}

func (d *daemon) answer(conn net.Conn, b behaviour) {
	defer conn.Close()
	if b.deaf {
		return
	}
	text, err := io.ReadAll(io.LimitReader(conn, 1<<20)) // the client closes its half
	if err != nil {
		return
	}
	select {
	case d.got <- string(text):
	default:
	}
	if _, err := io.WriteString(conn, b.say); err == nil && b.hang {
		<-d.over
	}
}

func (d *daemon) request(t *testing.T) string {
	t.Helper()
	select {
	case text := <-d.got:
		return text
	default:
		t.Fatal("no request came")
	}
	return ""
}

// The health check asks by PING; TCP works as a unix socket does.
func TestHealthy(t *testing.T) {
	s := func(address string) *spamassassin {
		s := &spamassassin{Address: address, MaxSize: 1}
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	d := serve(t, "tcp", "127.0.0.1:0", behaviour{say: "SPAMD/1.5 0 PONG\r\n"})
	if err := s(d.address).Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	if got := d.request(t); got != "PING SPAMC/1.2\r\n\r\n" {
		t.Errorf("request %q", got)
	}
	if err := s("unix:" + filepath.Join(t.TempDir(), "none")).Healthy(t.Context()); err == nil {
		t.Error("nobody is there, and it is healthy")
	}
	ctx, cancel := context.WithCancel(t.Context())
	hanging := fake(t, behaviour{hang: true})
	over := make(chan error)
	go func() { over <- s(hanging.address).Healthy(ctx) }()
	<-hanging.got
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
}

func FuzzReadTold(f *testing.F) {
	f.Add([]byte("SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\nContent-length: 2\r\n\r\n\r\n"))
	f.Add([]byte("SPAMD/1.1 69 Service Unavailable: TELL commands are not enabled, set the --allow-tell switch.\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if known, err := readTold(strings.NewReader(string(text))); err != nil && known && !strings.Contains(err.Error(), "reply") {
			t.Errorf("%v, %v", known, err)
		}
	})
}

func FuzzReadVerdict(f *testing.F) {
	f.Add([]byte("SPAMD/1.1 0 EX_OK\r\nContent-length: 7\r\nSpam: True ; 1000.0 / 5.0\r\n\r\nGTUBE\r\n"))
	f.Add([]byte("SPAMD/1.1 0 EX_OK\r\nSpam: False ; -2 / 5.0\r\n\r\n"))
	f.Add([]byte("SPAMD/1.0 76 Bad header line: (header line)\r\n"))
	f.Add([]byte("SPAMD/1.1 0 EX_OK\nSpam: yes;nan/inf\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := readVerdict(strings.NewReader(string(text)))
		if err != nil {
			return
		}
		if len(v.rules) > maxRules || !(v.points >= -maxPoints && v.points <= maxPoints) || !(v.required >= -maxPoints && v.required <= maxPoints) {
			t.Errorf("%+v", v)
		}
		for _, rule := range v.rules {
			if strings.ContainsAny(rule, "\r\n ,") || len(rule) > maxRule {
				t.Errorf("rule %q", rule)
			}
		}
	})
}
