package send

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// Kind says what a notice is about.
type Kind uint8

// The kinds of notices.
const (
	Failure Kind = iota // recipients were given up
	Delay               // recipients wait for long
	Double              // a bounce was given up; told to the postmaster
	Success             // recipients have it, and the sender asked to be told
)

// String is the kind's name in logs.
func (k Kind) String() string {
	return [...]string{"bounce", "delay notice", "double bounce", "success notice"}[min(k, Success)]
}

// Notice is a message to be queued about another one. Its envelope sender is the
// null path; the queue marks a double bounce as such (queue.Message.Double).
type Notice struct {
	Kind  Kind
	About *queue.Message // must not be changed
	To    message.Address
	ID    string // its own, once it is queued; set by Options.Bounce
	Body  []byte // the whole message, CRLF line ends; 7-bit but for a message that comes back whole
}

// report tells of e's failures, then of its successes, and makes them count as
// told. It reports false where that has to be tried again. e.mu is held.
func (s *Sender) report(e *entry) (told bool) {
	for _, state := range []queue.State{queue.Failed, queue.Delivered} {
		var list []int
		for i := range e.m.Recipients {
			if r := e.m.Recipients[i]; r.State == state && owedFor(r) {
				list = append(list, i)
			}
		}
		if len(list) > 0 && !s.reportThese(e, state, list) {
			return false
		}
	}
	s.farewell(e)
	return true
}

// reportThese is report for the recipients of one state.
func (s *Sender) reportThese(e *entry, state queue.State, list []int) (told bool) {
	c := s.conf.Load()
	kind, to := Failure, e.m.Sender.Owner()
	switch {
	case state == queue.Delivered:
		kind = Success
	case e.m.Sender.IsNull():
		kind, to = Double, c.DoubleBounceTo
	}
	reply := s.send(e, c, kind, to, list)
	if reply.Permanent() && kind == Failure {
		reply = s.send(e, c, Double, c.DoubleBounceTo, list)
	}
	if reply.Temporary() {
		return false
	}
	m := *e.m
	m.Recipients = slices.Clone(e.m.Recipients)
	for _, i := range list {
		m.Recipients[i].Next = time.Time{}
	}
	if !s.write(e, &m, nil) {
		e.told = list
		return false
	}
	return true
}

// delayNotice tells the sender which recipients wait. Whether it could is of no
// further interest: the message goes on its way. e.mu is held.
func (s *Sender) delayNotice(e *entry) {
	var list []int
	for i := range e.m.Recipients {
		if delayed(e.m.Recipients[i]) {
			list = append(list, i)
		}
	}
	if len(list) > 0 {
		s.send(e, s.conf.Load(), Delay, e.m.Sender.Owner(), list)
	}
}

// send queues a notice about the recipients in list. A notice to nobody counts
// as refused for good.
func (s *Sender) send(e *entry, c *Config, kind Kind, to message.Address, list []int) message.Reply {
	log := s.o.Log.With("id", e.id, "kind", kind.String(), "to", to.String())
	if to.IsNull() || e.m.Double {
		log.Warn("notice dropped: there is nobody to tell")
		return message.NewReply(550, "5.1.0", "there is nobody to tell")
	}
	r := report{
		kind: kind, config: c, about: e.m, to: to, list: list,
		now: s.o.Now(), id: message.NewID(s.o.Now()),
	}
	if kind == Failure && e.m.Size <= maxFull && strings.EqualFold(e.m.Ret, "FULL") {
		r.full = returnable(e.m, s.startOf(e, maxFull))
	}
	if r.full == nil {
		r.header = s.headerOf(e)
	}
	n := Notice{Kind: kind, About: e.m, To: to, Body: r.bytes()}
	if s.judged(e, &n, list) {
		return message.NewReply(250, "2.0.0", "dropped by a policy")
	}
	reply := s.o.Bounce(s.work, &n)
	if !reply.Positive() {
		log.Warn("notice refused", "reply", reply)
		if !reply.Permanent() {
			return message.NewReply(451, "4.3.0", "%s", reply.Text)
		}
	} else if n.ID != "" && (kind == Failure || kind == Double) {
		s.o.Record.Bounced(e.id, n.ID)
	}
	return reply
}

// maxHeader is how much of a message's header section a notice carries.
const maxHeader = 64 << 10

// maxFull is how large a message may be that comes back whole (RET=FULL, RFC 3461
// section 4.3, which leaves a bound to the server); of a larger one, the header
// section does.
const maxFull = 256 << 10

// returnable is a whole message that a notice may carry; nil where its form does
// not fit into a body part: it is binary, or its header section is beyond ASCII.
func returnable(m *queue.Message, whole []byte) []byte {
	if m.Binary || m.SMTPUTF8 || int64(len(whole)) < m.Size || len(whole) == 0 {
		return nil
	}
	return whole
}

// startOf is the start of e's message; empty where it can't be read, since a
// notice without it is better than none.
func (s *Sender) startOf(e *entry, limit int64) []byte {
	body, closer, err := s.open(e)
	if err != nil {
		s.o.Log.Error("opening a queued message", "id", e.id, "error", err)
		return nil
	}
	if closer != nil {
		defer closer.Close()
	}
	b := make([]byte, min(body.Size(), limit))
	n, err := body.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		s.o.Log.Error("reading a queued message", "id", e.id, "error", err)
	}
	return b[:n]
}

// headerOf is the start of e's header section.
func (s *Sender) headerOf(e *entry) []byte {
	b := s.startOf(e, maxHeader)
	n, whole := message.HeaderLen(b)
	if !whole && int64(n) < e.m.Size {
		n = 0
		for i := len(b) - 1; i > 0; i-- { // up to the last whole line
			if b[i-1] == '\r' && b[i] == '\n' {
				n = i + 1
				break
			}
		}
	}
	return b[:n]
}
