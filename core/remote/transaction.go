package remote

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// maxRounds bounds the transactions that one job is split into by a host that
// takes only so many recipients at once.
const maxRounds = 100

// transaction is one job's way through the hosts: which recipients have their
// outcome, and who gave it.
type transaction struct {
	ctx      context.Context // of Deliver; it ends the session
	c        *Client
	job      *send.Job
	started  time.Time
	rest     []int // recipients without an outcome
	outcomes []send.Outcome
	peer     string
	tls      string
	whole    bool // all recipients or none: who waits for the answer gets one for all

	// What was found out about the message, for all hosts.
	parts    *structure
	partsErr error
	eight    *bool
}

func newTransaction(ctx context.Context, c *Client, j *send.Job) *transaction {
	return &transaction{ctx: ctx, c: c, job: j, started: time.Now(), rest: slices.Clone(j.Recipients), outcomes: make([]send.Outcome, 0, len(j.Recipients))}
}

// decide gives recipient i its outcome.
func (t *transaction) decide(i int, result send.Result, r message.Reply) {
	t.rest = slices.DeleteFunc(t.rest, func(k int) bool { return k == i })
	t.outcomes = append(t.outcomes, send.Outcome{Recipient: i, Result: result, Reply: bound(r), Peer: t.peer, TLS: t.tls})
}

// all gives every recipient without an outcome this one.
func (t *transaction) all(result send.Result, r message.Reply) {
	for len(t.rest) > 0 {
		t.decide(t.rest[0], result, r)
	}
}

// refuse gives recipient i the outcome that a refusal means.
func (t *transaction) refuse(i int, r message.Reply) {
	result := send.Deferred
	if r.Permanent() {
		result = send.Bounced
	}
	t.decide(i, result, r)
}

func (t *transaction) refuseAll(r message.Reply) {
	for len(t.rest) > 0 {
		t.refuse(t.rest[0], r)
	}
}

func (t *transaction) finish() []send.Outcome {
	took := time.Since(t.started)
	for i := range t.outcomes {
		t.outcomes[i].Duration = took
	}
	return t.outcomes
}

// run makes the attempt over cn. An error means that the connection was lost
// with nothing at risk; recipients may have their outcome nevertheless. Else
// every recipient has one.
func (t *transaction) run(ctx context.Context, cn *conn) error {
	defer context.AfterFunc(ctx, cn.close)()
	t.peer, t.tls = cn.peer(), cn.tls
	for range maxRounds {
		keep, err := t.once(cn)
		if err != nil {
			cn.close()
			t.peer, t.tls = "", ""
			return err
		}
		if len(t.rest) > 0 && keep && !cn.wire.unasked() {
			continue
		}
		t.c.release(ctx, cn, keep)
		break
	}
	t.all(send.Deferred, message.NewReply(452, "4.5.3", "Too many recipients for the next hop"))
	return nil
}

// release keeps a session for the next message, or ends it where it is not fit.
func (c *Client) release(ctx context.Context, cn *conn, keep bool) {
	if keep && !cn.wire.unasked() && ctx.Err() == nil {
		c.pool.put(cn)
		return
	}
	cn.leave()
}

// once makes one transaction for as many recipients as the host takes. keep
// tells that the session is fit for another one.
func (t *transaction) once(cn *conn) (keep bool, err error) {
	f, err := t.form(cn)
	if e, ok := errors.AsType[errForm](err); ok {
		t.refuseAll(e.reply)
		return true, nil
	}
	if err != nil {
		t.unreadable(err)
		return true, nil
	}
	if len(f.rcpts) == 0 {
		return true, nil
	}
	e := envelope{t: t, cn: cn, f: f, used: cn.sent > 0}
	cn.sent++
	if err := e.run(); err != nil {
		return false, err
	}
	switch {
	case e.gone:
		return false, nil
	case len(e.taken) > 0 && e.partial():
		t.part()
		return !e.ready && t.reset(cn), nil // where it waits for a message, it does not get the end of one
	case len(e.taken) > 0 && (e.ready || f.chunked):
		return t.data(cn, f, e.taken)
	case e.ready: // a host that wants a message for nobody: the session ends without one
		return false, nil
	case e.refused:
		return true, nil
	}
	return t.reset(cn), nil
}

// part puts everybody off where the host took some of the recipients alone, and
// one answer has to do for all.
func (t *transaction) part() {
	r := message.NewReply(451, "4.5.3", "The next hop takes the message for some of the recipients alone now, please try again later")
	if len(t.outcomes) > 0 {
		no := &t.outcomes[0]
		r.Text += "; of " + t.job.Message.Recipients[no.Recipient].Address.Path() + " it said " + no.Reply.String()
	}
	t.outcomes, t.rest = nil, slices.Clone(t.job.Recipients)
	t.all(send.Deferred, r)
}

// unreadable puts off a message that can't be read from the queue.
func (t *transaction) unreadable(err error) {
	t.c.o.Log.Error("reading a queued message", "id", t.job.Message.ID, "error", err)
	t.all(send.Deferred, message.NewReply(451, "4.3.0", "The queued message can't be read"))
}

// data sends the message to those that were taken.
func (t *transaction) data(cn *conn, f *form, taken []int) (keep bool, err error) {
	err = cn.wire.writeMessage(f.content, f.chunked, t.c.o.Timeouts.DataBlock)
	switch {
	case errors.Is(err, errBody):
		t.unreadable(err)
		cn.close() // without its end nothing is delivered
		return false, nil
	case err != nil && !errors.Is(err, errUnknown):
		if r, e := cn.wire.reply(quitTimeout); e == nil && r.Negative() { // it refused in the middle
			for _, i := range taken {
				t.refuse(i, r)
			}
			return false, nil
		}
		return false, lost(cn, "the message", err)
	}
	answers := taken[:1]
	if cn.lmtp() { // RFC 2033 section 4.2: one for each recipient that was taken, in their order
		answers = taken
	}
	keep = true
	for n, i := range answers {
		var r message.Reply
		if err == nil {
			r, err = cn.wire.reply(t.c.o.Timeouts.DataEnd)
		}
		if err == nil && r.Code/100 == 3 {
			err = errBadReply
		}
		if err != nil {
			t.unknown(cn, taken[n:], err)
			return false, nil
		}
		about := []int{i}
		if !cn.lmtp() {
			about = taken
		}
		for _, i := range about {
			t.answered(cn, i, r)
		}
		keep = keep && r.Code != 421
	}
	return keep, nil
}

// answered gives recipient i the outcome that the answer to the message means.
func (t *transaction) answered(cn *conn, i int, r message.Reply) {
	if !r.Positive() {
		t.refuse(i, r)
		return
	}
	t.decide(i, send.Delivered, r)
	o := &t.outcomes[len(t.outcomes)-1]
	switch {
	case cn.ext.dsn:
		o.Reach = send.Handed
	case !cn.lmtp():
		o.Reach = send.Relayed
	}
}

// unknown puts off recipients who may have the message.
func (t *transaction) unknown(cn *conn, list []int, err error) {
	t.c.o.Log.Warn("no answer to a message that was sent: it is tried again, and may arrive twice",
		"id", t.job.Message.ID, "peer", cn.peer(), "recipients", len(list), "error", err)
	why := "The connection was lost before the answer to the message: " + plainError(err)
	switch t.ctx.Err() {
	case nil:
	case context.DeadlineExceeded:
		why = "The answer to the message did not come in time"
	default:
		why = "The mail system is stopping, and there was no answer to the message yet"
	}
	t.all(send.Deferred, message.NewReply(451, "4.4.2", "%s", why))
}

// reset ends a transaction in which no message was sent.
func (t *transaction) reset(cn *conn) bool {
	r, err := cn.wire.exchange(t.c.o.Timeouts.Command, "RSET")
	return err == nil && r.Code == 250
}

func lost(cn *conn, at string, err error) error {
	return failure{reply: message.NewReply(451, "4.4.2", "%s: connection lost at %s: %s", cn.host.name, at, plainError(err)), reached: true, peer: cn.peer()}
}
