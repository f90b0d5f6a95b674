package t

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// sink is a next hop: a strict SMTP server that keeps envelopes and the exact
// bytes of what it took. What a client does wrong is kept too, and fails the test.
type sink struct {
	addr string

	mu      sync.Mutex
	ln      net.Listener
	conns   map[net.Conn]bool
	tls     *tls.Config
	mails   []arrival
	wrong   []string
	said    []string          // the first commands
	replies map[string]string // by stage, or stage:address
	offers  []string          // what EHLO lists; nil: the usual
	lmtp    bool
	drop    bool // close instead of the next reply to the final dot
	peak    int  // connections at a time, at most
	wg      sync.WaitGroup
}

// arrival is a message that the sink took.
type arrival struct {
	Helo, Sender string
	Rcpts        []string
	Params       string // of MAIL
	Data         []byte
	TLS          bool
	Chunked      bool // it came by BDAT
}

func newSink(addr string) *sink {
	return &sink{addr: addr, conns: map[net.Conn]bool{}, replies: map[string]string{}}
}

// up starts listening; with a TLS configuration STARTTLS is offered.
func (s *sink) up(secure *tls.Config) error {
	var ln net.Listener
	var err error
	// A process that another test forks this moment may still hold the port.
	poll(5*time.Second, func() bool {
		ln, err = net.Listen("tcp", s.addr)
		return err == nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.ln, s.tls = ln, secure
	s.mu.Unlock()
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.peak = max(s.peak, len(s.conns))
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	return nil
}

// down closes the port and every connection.
func (s *sink) down() {
	s.mu.Lock()
	if s.ln != nil {
		_ = s.ln.Close()
		s.ln = nil
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *sink) arrivals() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

func (s *sink) faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wrong)
}

// most is the highest number of connections at a time.
func (s *sink) most() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

// set has it say other things at the stages.
func (s *sink) set(replies map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = replies
}

func (s *sink) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrong) < 20 {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

// reply is what the script wants said at a stage, else usual.
func (s *sink) reply(stage, address, usual string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text, ok := s.replies[stage+":"+address]; ok {
		return text
	}
	if text, ok := s.replies[stage]; ok {
		return text
	}
	return usual
}

// visit is one connection to the sink.
type visit struct {
	sink   *sink
	conn   net.Conn
	r      *bufio.Reader
	mail   arrival
	helo   string
	secure bool
}

func (s *sink) serve(c net.Conn) {
	v := &visit{sink: s, conn: c, r: bufio.NewReaderSize(c, 64<<10)}
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = v.conn.Close()
	}()
	switch text := s.reply("connect", "", "220 sink.example ESMTP"); {
	case text == "hang":
		_, _ = io.Copy(io.Discard, c) // until the other side, or down, closes it
		return
	case !v.say(text):
		return
	}
	for {
		line, ok := v.line()
		if !ok || !v.obey(line) {
			return
		}
	}
}

// say sends a reply; a 421 ends the conversation, and so does "close" without one.
func (v *visit) say(text string) bool {
	if text == "close" {
		return false
	}
	_ = v.conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, err := io.WriteString(v.conn, text+"\r\n")
	return err == nil && !strings.HasPrefix(text, "421")
}

// line reads to LF; anything but CRLF at its end, or CR or NUL in it, is a fault.
func (v *visit) line() ([]byte, bool) {
	_ = v.conn.SetDeadline(time.Now().Add(60 * time.Second))
	line, err := v.r.ReadBytes('\n')
	if err != nil {
		return nil, false
	}
	body, crlf := bytes.CutSuffix(line, []byte("\r\n"))
	if !crlf || bytes.ContainsAny(body, "\r\x00") {
		v.sink.fault("a line with bare CR, LF or NUL: %.80q", line)
	}
	return body, true
}

var (
	mailLine = regexp.MustCompile(`^MAIL FROM:<([^<>]*)>((?: [A-Z0-9-]+(?:=[!-<>-~]+)?)*)$`)
	rcptLine = regexp.MustCompile(`^RCPT TO:<([^<>]+)>((?: [A-Z0-9-]+(?:=[!-<>-~]+)?)*)$`)
)

// maxSaid bounds the commands that are kept.
const maxSaid = 10_000

func (v *visit) obey(line []byte) bool {
	verb, arg, _ := strings.Cut(string(line), " ")
	v.sink.mu.Lock()
	if len(v.sink.said) < maxSaid {
		v.sink.said = append(v.sink.said, string(line))
	}
	v.sink.mu.Unlock()
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO":
		if (line[0]|0x20 == 'l') != v.sink.lmtp {
			return v.say("500 5.5.1 Not here")
		}
		v.helo = arg
		return v.ehlo()
	case "HELO":
		v.helo = arg
		return v.say("250 sink.example")
	case "STARTTLS":
		return v.startTLS()
	case "MAIL":
		return v.mailFrom(string(line))
	case "RCPT":
		return v.rcptTo(string(line))
	case "DATA":
		return v.data()
	case "BDAT":
		return v.chunk(arg)
	case "RSET":
		v.mail = arrival{}
		return v.say("250 2.0.0 Ok")
	case "NOOP":
		return v.say("250 2.0.0 Ok")
	case "QUIT":
		v.say("221 2.0.0 Bye")
		return false
	}
	v.sink.fault("unknown command: %.80q", line)
	return v.say("500 5.5.2 Unknown command")
}

func (v *visit) ehlo() bool {
	if text := v.sink.reply("ehlo", "", ""); text != "" {
		return v.say(text)
	}
	v.mail = arrival{}
	list := []string{"sink.example", "PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES"}
	if v.sink.offers != nil {
		list = append(list[:1:1], v.sink.offers...)
	}
	if v.sink.tls != nil && !v.secure {
		list = append(list, "STARTTLS")
	}
	return v.say("250-" + strings.Join(list[:len(list)-1], "\r\n250-") + "\r\n250 " + list[len(list)-1])
}

func (v *visit) startTLS() bool {
	if v.sink.tls == nil || v.secure || v.r.Buffered() > 0 {
		v.sink.fault("STARTTLS where it was not offered, or with bytes behind it")
		return false
	}
	if text := v.sink.reply("starttls", "", ""); text != "" {
		return v.say(text)
	}
	if !v.say("220 2.0.0 Go ahead") {
		return false
	}
	secure := tls.Server(v.conn, v.sink.tls)
	if secure.Handshake() != nil {
		return false
	}
	v.conn, v.r, v.secure, v.helo = secure, bufio.NewReaderSize(secure, 64<<10), true, ""
	return true
}

func (v *visit) mailFrom(line string) bool {
	m := mailLine.FindStringSubmatch(line)
	if m == nil || v.helo == "" || v.mail.Helo != "" {
		v.sink.fault("MAIL: %.200q (greeted %q)", line, v.helo)
		return v.say("503 5.5.1 Bad MAIL")
	}
	text := v.sink.reply("mail", m[1], "250 2.1.0 Ok")
	if text[0] == '2' {
		v.mail = arrival{Helo: v.helo, Sender: m[1], Params: strings.TrimSpace(m[2]), TLS: v.secure}
	}
	return v.say(text)
}

func (v *visit) rcptTo(line string) bool {
	m := rcptLine.FindStringSubmatch(line)
	if m == nil {
		v.sink.fault("RCPT: %.200q", line)
		return v.say("501 5.5.4 Bad RCPT")
	}
	if v.mail.Helo == "" { // pipelined behind a MAIL that was refused
		return v.say("503 5.5.1 MAIL first")
	}
	text := v.sink.reply("rcpt", m[1], "250 2.1.5 Ok")
	if text[0] == '2' {
		v.mail.Rcpts = append(v.mail.Rcpts, m[1])
	}
	return v.say(text)
}

func (v *visit) data() bool {
	if len(v.mail.Rcpts) == 0 {
		v.mail = arrival{}
		return v.say("554 5.5.1 No valid recipients")
	}
	if text := v.sink.reply("data", "", "354 Go ahead"); !strings.HasPrefix(text, "354") {
		v.mail = arrival{}
		return v.say(text)
	} else if !v.say(text) {
		return false
	}
	var data []byte
	for {
		line, ok := v.line()
		if !ok {
			return false
		}
		if len(line) == 1 && line[0] == '.' {
			break
		}
		data = append(append(data, bytes.TrimPrefix(line, []byte("."))...), "\r\n"...)
	}
	return v.take(data)
}

// chunk takes BDAT (RFC 3030 section 2).
func (v *visit) chunk(arg string) bool {
	var size int64
	var last string
	if n, _ := fmt.Sscanf(arg, "%d %s", &size, &last); n < 1 || !slices.Contains(v.sink.offers, "CHUNKING") {
		v.sink.fault("BDAT %s", arg)
		return false
	}
	octets, err := io.ReadAll(io.LimitReader(v.r, size))
	if err != nil || int64(len(octets)) < size {
		return false
	}
	if len(v.mail.Rcpts) == 0 {
		return v.say("503 5.5.1 RCPT first")
	}
	v.mail.Data, v.mail.Chunked = append(v.mail.Data, octets...), true
	if last != "LAST" {
		return v.say("250 2.0.0 Ok")
	}
	return v.take(v.mail.Data)
}

// take answers the final dot; by LMTP to each recipient (RFC 2033 section 4.2).
func (v *visit) take(data []byte) bool {
	m := v.mail
	m.Data, v.mail = data, arrival{}
	text := v.sink.reply("dot", m.Rcpts[0], "250 2.0.0 Ok: taken")
	s := v.sink
	s.mu.Lock()
	drop, lmtp := s.drop, s.lmtp
	if text[0] == '2' || drop {
		s.mails = append(s.mails, m)
	}
	s.drop = false
	s.mu.Unlock()
	if drop {
		return false
	}
	if !lmtp {
		return v.say(text)
	}
	for _, r := range m.Rcpts {
		if !v.say(s.reply("dot", r, "250 2.0.0 "+r+" Ok: taken")) {
			return false
		}
	}
	return true
}

// count is how many of the commands so far match.
func (s *sink) count(re *regexp.Regexp) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.said {
		if re.MatchString(line) {
			n++
		}
	}
	return n
}
