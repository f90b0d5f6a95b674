package remote

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mail is a message as the sink got it.
type mail struct {
	from  string // all behind MAIL FROM:
	rcpts []string
	lines []string // the RCPT commands
	data  []byte   // as sent, dots unstuffed, up to and with the last line end
	bdat  bool
	login string
	tls   bool
}

// sink is a strict SMTP server. Its answers can be replaced by verb; an empty
// answer drops the connection, "hang" waits until the sink is closed.
type sink struct {
	t      testing.TB
	ln     net.Listener
	addr   netip.AddrPort
	greet  string
	ehlo   []string
	tls    *tls.Config
	lmtp   bool
	direct bool   // TLS from the first byte
	path   string // of a unix socket to listen on
	strict bool   // it ends sessions that send more than one command at once where that was not offered
	users  map[string]string
	far    time.Duration // before each reply where nothing more is to be read
	answer func(s *sink, session int, verb, line string) (reply string, ok bool)
	dot    func(n int) string                  // the answer to the n-th message, from 1
	dotFor func(n int, rcpt string) (r string) // by LMTP, for each recipient

	mu       sync.Mutex
	mails    []mail
	commands []string
	bad      []string
	sessions int
	done     chan struct{}
	running  sync.WaitGroup
}

func newSink(t testing.TB, change func(*sink)) *sink {
	t.Helper()
	s := &sink{t: t, greet: "220 sink ESMTP", ehlo: []string{"8BITMIME", "SIZE 1000000000"}, strict: true, done: make(chan struct{})}
	if change != nil {
		change(s)
	}
	network, address := "tcp", "127.0.0.1:0"
	if s.path != "" {
		network, address = "unix", s.path
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s.ln = ln
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		s.addr = a.AddrPort()
	}
	s.running.Go(s.serve)
	t.Cleanup(s.close)
	return s
}

func (s *sink) close() {
	select {
	case <-s.done:
		return
	default:
	}
	close(s.done)
	s.ln.Close()
	s.running.Wait()
	if len(s.bad) > 0 {
		s.t.Errorf("the sink saw: %q", s.bad)
	}
}

func (s *sink) serve() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.sessions++
		n := s.sessions
		s.mu.Unlock()
		s.running.Go(func() {
			stop := make(chan struct{})
			s.running.Go(func() {
				select {
				case <-s.done:
				case <-stop:
				}
				c.Close()
			})
			defer close(stop)
			ss := &sinkSession{s: s, n: n, c: c}
			if s.direct {
				ss.c, ss.tls = tls.Server(c, s.tls), true
			}
			ss.r = bufio.NewReader(ss.c)
			ss.run()
		})
	}
}

type sinkSession struct {
	s    *sink
	n    int
	c    net.Conn
	r    *bufio.Reader
	tls  bool
	mail *mail
	user string
	part []byte // of BDAT
}

func (ss *sinkSession) complain(what string) {
	ss.s.mu.Lock()
	defer ss.s.mu.Unlock()
	if ss.s.strict {
		ss.s.bad = append(ss.s.bad, what)
	}
}

// say writes a reply; false ends the session.
func (ss *sinkSession) say(reply string) bool {
	switch reply {
	case "":
		return false
	case "hang":
		<-ss.s.done
		return false
	}
	if ss.s.far > 0 && ss.r.Buffered() == 0 {
		<-time.After(ss.s.far)
	}
	_, err := ss.c.Write([]byte(reply + "\r\n"))
	return err == nil
}

func (ss *sinkSession) run() {
	s := ss.s
	if !ss.say(s.greet) {
		return
	}
	for {
		line, err := ss.r.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasSuffix(line, "\r\n") || strings.ContainsAny(line[:len(line)-2], "\r\x00") {
			ss.complain(line)
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if more := ss.r.Buffered(); s.strict && more > 0 && verb != "BDAT" && (verb == "EHLO" || verb == "LHLO" || verb == "DATA" || !slices.Contains(s.ehlo, "PIPELINING")) {
			ss.complain(fmt.Sprintf("%d bytes behind %s", more, line)) // as OpenSMTPD does
			return
		}
		s.mu.Lock()
		s.commands = append(s.commands, line)
		s.mu.Unlock()
		reply, ok := "", false
		if s.answer != nil {
			if reply, ok = s.answer(s, ss.n, verb, line); !ok {
				reply = ""
			}
		}
		if ok && !strings.HasPrefix(reply, "2") && !strings.HasPrefix(reply, "3") {
			if !ss.say(reply) {
				return
			}
			continue
		}
		if !ss.act(verb, line, reply) {
			return
		}
	}
}

func (ss *sinkSession) act(verb, line, reply string) bool {
	s := ss.s
	say := func(or string) bool {
		if reply != "" {
			or = reply
		}
		return ss.say(or)
	}
	switch verb {
	case "EHLO", "LHLO":
		if (verb == "LHLO") != s.lmtp {
			return ss.say("500 5.5.1 not here")
		}
		var b strings.Builder
		ext := s.ehlo
		if len(s.users) > 0 && ss.tls {
			ext = append([]string{"AUTH " + s.mechs()}, ext...)
		}
		if s.tls != nil && !ss.tls {
			ext = append([]string{"STARTTLS"}, ext...)
		}
		b.WriteString("250-sink")
		for _, e := range ext {
			b.WriteString("\r\n250-" + e)
		}
		return ss.say(b.String() + "\r\n250 HELP")
	case "HELO":
		return say("250 sink")
	case "STARTTLS":
		if !say("220 go ahead") {
			return false
		}
		t := tls.Server(ss.c, s.tls)
		if t.Handshake() != nil {
			return false
		}
		ss.c, ss.r, ss.tls = t, bufio.NewReader(t), true
		return true
	case "MAIL":
		if ss.mail != nil {
			ss.complain("nested " + line)
		}
		ss.mail = &mail{from: line[len("MAIL FROM:"):], tls: ss.tls, login: ss.user}
		ss.part = nil
		return say("250 2.1.0 ok")
	case "RCPT":
		if ss.mail == nil {
			return ss.say("503 5.5.1 MAIL first")
		}
		to, _, _ := strings.Cut(line[len("RCPT TO:<"):], ">")
		ss.mail.rcpts = append(ss.mail.rcpts, to)
		ss.mail.lines = append(ss.mail.lines, line)
		return say("250 2.1.5 ok")
	case "DATA":
		if ss.mail == nil || len(ss.mail.rcpts) == 0 {
			if slices.Contains(s.ehlo, "PIPELINING") {
				return ss.say("503 5.5.1 no valid recipients")
			}
			ss.complain("DATA without recipients")
		}
		return say("354 go on") && ss.data()
	case "BDAT":
		return ss.chunk(line)
	case "AUTH":
		return ss.auth(line)
	case "RSET":
		ss.mail = nil
		return say("250 2.0.0 flushed")
	case "QUIT":
		ss.say("221 2.0.0 bye")
		return false
	}
	ss.complain("unknown " + line)
	return ss.say("500 5.5.2 what")
}

func (ss *sinkSession) data() bool {
	var got []byte
	for {
		line, err := ss.r.ReadBytes('\n')
		if err != nil {
			return false
		}
		if !bytes.HasSuffix(line, []byte("\r\n")) || bytes.IndexByte(line[:len(line)-2], '\r') >= 0 {
			ss.complain("data line " + string(line))
		}
		if string(line) == ".\r\n" {
			break
		}
		got = append(got, bytes.TrimPrefix(line, []byte("."))...)
	}
	ss.mail.data = got
	return ss.end()
}

// chunk takes BDAT (RFC 3030 section 2).
func (ss *sinkSession) chunk(line string) bool {
	var size int
	var last string
	if n, _ := fmt.Sscanf(line, "BDAT %d %s", &size, &last); n < 1 || ss.mail == nil || len(ss.mail.rcpts) == 0 {
		ss.complain(line)
		return false
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(ss.r, b); err != nil {
		return false
	}
	ss.part = append(ss.part, b...)
	if last != "LAST" {
		return ss.say("250 2.0.0 chunk")
	}
	ss.mail.data, ss.mail.bdat, ss.part = ss.part, true, nil
	return ss.end()
}

// end answers a message that is complete.
func (ss *sinkSession) end() bool {
	s := ss.s
	rcpts := ss.mail.rcpts
	s.mu.Lock()
	s.mails = append(s.mails, *ss.mail)
	n := len(s.mails)
	s.mu.Unlock()
	ss.mail = nil
	if s.lmtp {
		for _, r := range rcpts {
			answer := "250 2.1.5 " + r + " Saved"
			if s.dotFor != nil {
				answer = s.dotFor(n, r)
			}
			if !ss.say(answer) {
				return false
			}
		}
		return true
	}
	if s.dot != nil {
		return ss.say(s.dot(n))
	}
	return ss.say("250 2.0.0 Ok: queued as SINK")
}

func (s *sink) got() []mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]mail(nil), s.mails...)
}

func (s *sink) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sink"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
