package t

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/time/rate"
)

// load is a crowd of clients that send until they are stopped. It remembers what
// was answered 250, and checks it against what arrived.
type load struct {
	addr  string
	retry bool // send again what was not answered 250
	each  int  // messages of one connection; 0: all that there are
	most  int  // messages that are accepted

	mu       sync.Mutex
	accepted map[string][]byte // message by its token
	open     map[string]int    // how often a message was sent and got no answer, by its token
	tally    map[string]int    // replies to the final dot by code; "lost": no reply; "refused": no connection
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

const (
	loadRate = 400 // messages a second, all sessions together
	loadMax  = 6000
)

func startLoad(addr string, sessions, each int, retry bool) *load {
	l := newLoadOf(addr, each, loadMax, retry)
	l.begin(sessions, loadRate)
	return l
}

// newLoadOf is a load that has not begun.
func newLoadOf(addr string, each, most int, retry bool) *load {
	return &load{addr: addr, retry: retry, each: each, most: most, accepted: map[string][]byte{}, open: map[string]int{}, tally: map[string]int{}, stop: func() {}}
}

// begin has the sessions send so many messages a second, all together.
func (l *load) begin(sessions, each int) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	pace := rate.NewLimiter(rate.Limit(each), sessions)
	for range sessions {
		l.wg.Go(func() { l.session(ctx, pace) })
	}
}

// end waits for the messages under way.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// session sends one message after the other; a connection that breaks is opened again.
func (l *load) session(ctx context.Context, pace *rate.Limiter) {
	var c *loadConn
	defer func() { c.close() }()
	token, body := newLoad(l.count())
	sent := 0
	for pace.Wait(ctx) == nil && l.count() < l.most {
		if c == nil {
			if c, sent = dialLoad(l.addr), 0; c == nil {
				if l.each > 0 {
					l.note(-1, token, body)
				}
				continue
			}
		}
		code, err := c.send(token, body)
		l.note(code, token, body)
		if sent++; err != nil || code == 421 || sent == l.each {
			c.close()
			c = nil
		}
		if code == 250 || !l.retry {
			token, body = newLoad(l.count())
		}
	}
}

// one sends one message over a connection and returns its code.
func (l *load) one(c *loadConn) int {
	token, body := newLoad(1)
	code, _ := c.send(token, body) // without an answer the code is 0
	l.note(code, token, body)
	return code
}

// newLoad makes a message; one in thirty is large enough for a file of its own.
func newLoad(n int) (token string, body []byte) {
	token = rand.Text()[:16]
	size := 100 + n*37%4000
	if n%30 == 29 {
		size = 300_000
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: load@client.example\r\nSubject: load %s\r\n\r\n", token)
	for b.Len() < size {
		fmt.Fprintf(&b, ".%s %d\r\n", token, b.Len())
	}
	return token, []byte(b.String())
}

func (l *load) note(code int, token string, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch code {
	case -1:
		l.tally["refused"]++
		return
	case 0:
		l.tally["lost"]++
		l.open[token]++
		return
	}
	l.tally[strconv.Itoa(code)]++
	if code == 250 {
		l.accepted[token] = body
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, code := range slices.Sorted(maps.Keys(l.tally)) {
		fmt.Fprintf(&b, "%s=%d ", code, l.tally[code])
	}
	return b.String()
}

type loadConn struct {
	net.Conn
	r *bufio.Reader
}

// dialLoad connects and says EHLO; nil where that fails.
func dialLoad(addr string) *loadConn {
	nc, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return nil
	}
	c := &loadConn{nc, bufio.NewReader(nc)}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if code, err := c.reply(); err == nil && code == 220 {
		if code, err := c.say("EHLO client.example\r\n"); err == nil && code == 250 {
			return c
		}
	}
	c.close()
	return nil
}

func (c *loadConn) close() {
	if c != nil {
		_ = c.Close()
	}
}

func (c *loadConn) reply() (int, error) {
	lines, err := readReply(c.r)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(lines[0][:3])
}

func (c *loadConn) say(s string) (int, error) {
	if _, err := c.Write([]byte(s)); err != nil {
		return 0, err
	}
	return c.reply()
}

// send returns the code that the message ended with, 0 if none came.
func (c *loadConn) send(token string, body []byte) (code int, err error) {
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	for _, cmd := range []string{"RSET", "MAIL FROM:<load@client.example>", "RCPT TO:<" + token + "@example.net>", "DATA"} {
		if code, err = c.say(cmd + "\r\n"); err != nil || code >= 400 {
			return code, err
		}
	}
	return c.say(string(stuffed(body)))
}

var loadSubject = regexp.MustCompile(`(?m)^Subject: load ([A-Z0-9]{16})\r$`)

// audit compares what was accepted with what arrived.
type audit struct {
	missing, damaged []string
	twice            []string // more often than it was sent without an answer, and once
	arrived, resent  int
}

func (l *load) audit(mails []arrival) audit {
	l.mu.Lock()
	defer l.mu.Unlock()
	var a audit
	seen := map[string]int{}
	for _, m := range mails {
		found := loadSubject.FindSubmatch(m.Data)
		if found == nil {
			continue
		}
		token := string(found[1])
		if body, ok := l.accepted[token]; ok {
			seen[token]++
			switch {
			case seen[token] > 1+l.open[token]:
				a.twice = append(a.twice, token)
			case seen[token] > 1:
				a.resent++ // an accepted message whose 250 was lost is not told from one that was not
			}
			if diff := behindTrace(m.Data, body); diff != "" {
				a.damaged = append(a.damaged, token+": "+diff)
			}
		}
	}
	for token := range l.accepted {
		if seen[token] == 0 {
			a.missing = append(a.missing, token)
		}
	}
	a.arrived = len(seen)
	return a
}

// few is enough of a list for a message.
func few(list []string) []string { return list[:min(len(list), 5)] }

// cmdLoad:
//
//	load start [SESSIONS]   clients send until stop; 8 unless told
//	load more N             waits until N more messages are accepted
//	load stop               stdout: how many messages ended with which code, "lost" without a reply
//	load audit              waits until what was accepted has arrived, and checks: whole, and once
func cmdLoad(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	arg := func(i, usual int) int {
		if len(args) <= i {
			return usual
		}
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	if len(args) == 0 {
		ts.Fatalf("usage: load VERB [N...]")
	}
	switch args[0] {
	case "start":
		w.load = startLoad(ts.Getenv("SMTP"), arg(1, 8), arg(2, 0), false)
		ts.Defer(w.load.end)
	case "more":
		want := w.load.count() + arg(1, 100)
		if !poll(waitLimit, func() bool { return w.load.count() >= want }) {
			ts.Fatalf("only %d of %d were accepted: %s", w.load.count(), want, w.load)
		}
	case "stop":
		w.load.end()
		fmt.Fprintln(ts.Stdout(), w.load)
	case "audit":
		s := sinkOf(ts, "SINK")
		var a audit
		poll(waitLimit, func() bool {
			a = w.load.audit(s.arrivals())
			return len(a.missing) == 0
		})
		if len(a.missing)+len(a.damaged)+len(a.twice) > 0 {
			ts.Fatalf("of %d accepted: missing %d %q, damaged %d %q, twice %d %q", w.load.count(), len(a.missing), few(a.missing), len(a.damaged), few(a.damaged), len(a.twice), few(a.twice))
		}
		fmt.Fprintf(ts.Stdout(), "%d accepted, all arrived once\n", w.load.count())
	default:
		ts.Fatalf("unknown verb %s", args[0])
	}
}
