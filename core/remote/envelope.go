package remote

import (
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// envelope is the exchange of MAIL, RCPT for each recipient, and DATA. Where the
// host offers PIPELINING (RFC 2920), commands go out together, as many as surely
// fit into the buffers between us while their replies wait to be read.
type envelope struct {
	t    *transaction
	cn   *conn
	f    *form
	used bool // the session had a transaction before

	taken   []int // recipients that the host took
	refused bool  // MAIL was refused
	full    bool  // a recipient was one too many
	ready   bool  // DATA was answered 354
	gone    bool  // the host said 421

	last message.Reply // to the last RCPT
}

// steps is how many commands there are. BDAT comes with the message.
func (e *envelope) steps() int {
	if e.f.chunked {
		return 1 + len(e.f.rcpts)
	}
	return 2 + len(e.f.rcpts)
}

// run has the exchange. An error means that the connection was lost, with nothing
// at risk.
func (e *envelope) run() error {
	sent := 0
	for at := 0; at < e.steps() && !e.gone; at++ {
		if at == sent { // all replies were read
			if e.full && at <= len(e.f.rcpts) { // those that are left go into the next transaction
				at = len(e.f.rcpts) + 1
			}
			if e.refused || at > len(e.f.rcpts) && (len(e.taken) == 0 || e.partial() || at >= e.steps()) {
				break
			}
			sent = e.say(at)
			if err := e.cn.wire.flush(e.timeout(at)); err != nil {
				return lost(e.cn, e.name(at), err)
			}
		}
		r, err := e.cn.wire.reply(e.timeout(at))
		if err != nil {
			return lost(e.cn, e.name(at), err)
		}
		if err := e.take(at, r); err != nil {
			return lost(e.cn, e.name(at), err)
		}
	}
	if !e.gone && e.cn.wire.unasked() {
		return lost(e.cn, "DATA", errUnasked)
	}
	return nil
}

// partial tells whether nobody is to get a message that the host takes for some
// of the recipients alone.
func (e *envelope) partial() bool {
	return e.t.whole && len(e.taken) < len(e.t.job.Recipients)
}

// say puts commands from the given one on into the buffer, and returns the first
// that is left for later.
func (e *envelope) say(at int) int {
	w := e.cn.wire
	for start := at; at < e.steps(); at++ {
		if at > start && (!e.cn.ext.pipelining || len(w.out) >= window || e.t.whole && at > len(e.f.rcpts)) {
			break
		}
		switch {
		case at == 0:
			w.say(e.f.mail)
		case at <= len(e.f.rcpts):
			e.sayRcpt(e.f.rcpts[at-1])
		default:
			w.say("DATA")
		}
	}
	return at
}

func (e *envelope) sayRcpt(i int) {
	r, ext := &e.t.job.Message.Recipients[i], &e.cn.ext
	params := ""
	if ext.dsn {
		params = rcptDSN(r.Notify, r.Original, ext.utf8)
	}
	e.cn.wire.say("RCPT TO:<", pathFor(r.AddressFor(ext.utf8), ext.utf8), ">", params)
}

// take takes in the reply to a command.
func (e *envelope) take(at int, r message.Reply) error {
	t := e.t
	if at > 0 && at <= len(e.f.rcpts) {
		e.last = r
	}
	switch {
	case r.Code == 421 && at == 0 && e.used: // an idle connection that the host is done with
		return r
	case r.Code == 421:
		t.all(send.Deferred, r)
		e.gone = true
	case r.Code == 354 && at > len(e.f.rcpts):
		e.ready = true
	case r.Code/100 == 3, r.Positive() && at > len(e.f.rcpts):
		return errBadReply
	case r.Positive():
		if at > 0 && !e.refused {
			e.taken = append(e.taken, e.f.rcpts[at-1])
		}
	case e.refused:
	case at == 0:
		t.refuseAll(r)
		e.refused = true
	case at <= len(e.f.rcpts):
		if e.full = e.full || tooMany(r) && len(e.taken) > 0; !tooMany(r) || len(e.taken) == 0 {
			t.refuse(e.f.rcpts[at-1], r)
		}
	default:
		for _, i := range e.taken {
			t.refuse(i, r)
		}
		e.taken = nil
	}
	return nil
}

// tooMany tells whether a reply to RCPT means that a transaction has enough
// recipients (RFC 5321 section 4.5.3.1.10; 552 is how it was said before).
func tooMany(r message.Reply) bool {
	return (r.Code == 452 || r.Code == 552) && (r.Enhanced == [3]int{} || r.Enhanced[1] == 5 && r.Enhanced[2] == 3)
}

func (e *envelope) timeout(at int) time.Duration {
	if at > len(e.f.rcpts) {
		return e.t.c.o.Timeouts.DataInit
	}
	return e.t.c.o.Timeouts.Command
}

func (e *envelope) name(at int) string {
	switch {
	case at == 0:
		return "MAIL"
	case at <= len(e.f.rcpts):
		return "RCPT"
	}
	return "DATA"
}
