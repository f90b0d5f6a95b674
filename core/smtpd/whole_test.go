package smtpd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// whole is the engine with everything real around it, on a socket.
type whole struct {
	t      *testing.T
	addr   string
	record *record.Recorder
	mu     sync.Mutex
	texts  []string
	mails  []*queue.Message
}

// newWhole starts it; the recipient rule comes behind the policies.
func newWhole(t *testing.T, l Limits, policies ...hooks.Entry) *whole {
	t.Helper()
	dir := t.TempDir()
	w := &whole{t: t}
	q, err := queue.Open(filepath.Join(dir, "queue"), pebble.Open, queue.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if w.record, err = record.Open(filepath.Join(dir, "record"), record.Options{}); err != nil {
		t.Fatal(err)
	}
	in := intake.New(intake.Options{Queue: q, Record: w.record, Log: slog.New(slog.DiscardHandler), Accepted: w.accepted},
		intake.Settings{Hostname: "mx.example.net", MessageSize: 1 << 20, HeaderSize: 64 << 10, Hops: 100, Domains: intake.NewDomains([]intake.Domain{{Name: "example.net"}})})
	certs, err := gate.NewCertificates("mx.example.net", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	logins, err := auth.New(auth.Options{Files: []string{passwordFile(t)}})
	if err != nil {
		t.Fatal(err)
	}
	server := New(Options{Hostname: "mx.example.net", Limits: l, Grace: time.Second, Intake: in, Record: w.record, TLS: certs.Config, Auth: logins})
	chain := hooks.NewChain(append(policies, hooks.Entry{Name: "rule", Handler: in.RecipientRule()}), hooks.Options{Observer: w.record})
	g := gate.New(gate.Options{
		Hostname: "mx.example.net", Limits: gate.Limits{Connections: 100, PerClient: 100}, Record: w.record, Log: slog.New(slog.DiscardHandler),
		Chain: func() *hooks.Chain { chain.Acquire(); return chain },
	})
	listener := &gate.Listener{Name: "mx", Protocol: "smtp", StartTLS: true, Auth: auth.Mechanisms(), XclientFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.Serve(ctx, ln, func() *gate.Listener { return listener }, server.Serve); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		chain.Wait()
		_ = w.record.Close()
		_ = q.Close()
	})
	return w
}

func (w *whole) accepted(m *queue.Message, body message.Body) {
	b, err := io.ReadAll(message.NewReader(body))
	if err != nil {
		w.t.Error(err)
	}
	if r, ok := body.(message.Retainer); ok {
		r.Release()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts, w.mails = append(w.texts, string(b)), append(w.mails, m)
}

func (w *whole) dial() *client {
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &client{t: w.t, nc: nc}
	c.listen()
	w.t.Cleanup(func() { _ = nc.Close() })
	c.want("220 mx.example.net ESMTP\r\n")
	return c
}

// TestWhole: messages over a socket, in clear and in TLS, to the queue, byte for
// byte behind our trace field, and their stories.
func TestWhole(t *testing.T) {
	w := newWhole(t, Limits{})
	c := w.dial()
	c.say("EHLO client.example.org", "250")
	large := "Subject: large\r\n\r\n" + strings.Repeat("A line of text that is neither long nor short.\r\n", 15000)
	for _, text := range []string{"Subject: one\r\n\r\nx\r\n", "", "\r\n", "no header at all\r\n", large} {
		c.begin()
		c.say("DATA", "354")
		c.send(text + ".\r\n")
		c.want("250 2.0.0 Ok: queued as ")
		head, rest, _ := strings.Cut(w.texts[len(w.texts)-1], "\r\n\t"+"by mx.example.net with ESMTP id ")
		if _, rest, _ = strings.Cut(rest, "00\r\n"); rest != text || !strings.HasPrefix(head, "Received: from client.example.org (localhost [127.0.0.1])") {
			t.Errorf("%.60q arrived as %.200q", text, w.texts[len(w.texts)-1])
		}
	}
	c.begin()
	c.say("RCPT TO:<x@elsewhere.example>", "550 5.7.1")
	c.secure()
	c.say("EHLO client.example.org", "250")
	c.begin()
	c.say("DATA", "354")
	c.send("Subject: tls\r\n\r\n.\r\n")
	c.want("250")
	if got := w.texts[len(w.texts)-1]; !strings.Contains(got, " with ESMTPS id ") {
		t.Errorf("in TLS: %q", got)
	}
	c.begin()
	c.say("DATA", "354")
	c.send("bare\nLF\r\n.\r\n")
	c.want("554 5.6.11")
	c.begin()
	c.say("DATA", "354")
	c.send(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1100) + ".\r\n")
	c.want("552 5.3.4")
	c.say("QUIT", "221")
	c.closed()
	c = w.dial()
	play(t, c, "XCLIENT ADDR=192.0.2.7\n< 220\nEHLO x\n< 250\n"+from+"RCPT TO:<x@elsewhere.example>\n< 550 5.7.1"+bye)
}

// TestLastReplyArrives: a client that is cut while it sends still hears why,
// since our close is no reset.
func TestLastReplyArrives(t *testing.T) {
	w := newWhole(t, Limits{Errors: 2})
	for range 20 {
		c := w.dial()
		c.send("POST / HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("EHLO x\r\n", 2000))
		c.want("421 5.7.0")
		c.closed()
		c = w.dial()
		c.send(strings.Repeat("FROB\r\n", 5000))
		c.want("500")
		c.want("500")
		c.want("421 4.7.0")
		c.closed()
	}
}
