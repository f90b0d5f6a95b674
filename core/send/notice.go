package send

import (
	"io"
	"slices"
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
)

// String is the kind's name in logs.
func (k Kind) String() string {
	return [...]string{"bounce", "delay notice", "double bounce"}[min(k, Double)]
}

// Notice is a message to be queued about another one. Its envelope sender is the
// null path; the queue marks a double bounce as such (queue.Message.Double).
type Notice struct {
	Kind  Kind
	About *queue.Message // must not be changed
	To    message.Address
	Body  []byte // the whole message, CRLF line ends, 7-bit
}

// report tells of e's failures and makes them count as told. It reports false
// where that has to be tried again. e.mu is held.
func (s *Sender) report(e *entry) (told bool) {
	c := s.conf.Load()
	var list []int
	for i := range e.m.Recipients {
		if owedFor(e.m.Recipients[i]) {
			list = append(list, i)
		}
	}
	kind, to := Failure, e.m.Sender
	if e.m.Sender.IsNull() {
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
		return false
	}
	s.farewell(e)
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
		s.send(e, s.conf.Load(), Delay, e.m.Sender, list)
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
		kind: kind, config: c, about: e.m, to: to, list: list, header: s.headerOf(e),
		now: time.Now(), id: message.NewID(time.Now()),
	}
	reply := s.o.Bounce(s.work, &Notice{Kind: kind, About: e.m, To: to, Body: r.bytes()})
	if !reply.Positive() {
		log.Warn("notice refused", "reply", reply)
		if !reply.Permanent() {
			return message.NewReply(451, "4.3.0", "%s", reply.Text)
		}
	}
	return reply
}

// maxHeader is how much of a message's header section a notice carries.
const maxHeader = 64 << 10

// headerOf is the start of e's header section; empty where it can't be read,
// since a notice without it is better than none.
func (s *Sender) headerOf(e *entry) []byte {
	body, closer, err := s.open(e)
	if err != nil {
		s.o.Log.Error("opening a queued message", "id", e.id, "error", err)
		return nil
	}
	if closer != nil {
		defer closer.Close()
	}
	b := make([]byte, min(body.Size(), maxHeader))
	n, err := body.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		s.o.Log.Error("reading a queued message", "id", e.id, "error", err)
	}
	b = b[:n]
	n, whole := message.HeaderLen(b)
	if !whole && int64(n) < body.Size() {
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
