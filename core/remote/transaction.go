package remote

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/emersion/go-smtp"

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
}

func newTransaction(ctx context.Context, c *Client, j *send.Job) *transaction {
	t := &transaction{ctx: ctx, c: c, job: j, started: time.Now(), rest: slices.Clone(j.Recipients), outcomes: make([]send.Outcome, 0, len(j.Recipients))}
	plain := j.Message.Sender.IsASCII()
	for _, i := range j.Recipients {
		if !plain || !j.Message.Recipients[i].Address.IsASCII() {
			t.decide(i, send.Bounced, message.NewReply(553, "5.6.7", "An address beyond ASCII can't be sent to the next hop"))
		}
	}
	return t
}

// decide gives recipient i its outcome.
func (t *transaction) decide(i int, result send.Result, r message.Reply) {
	t.rest = slices.DeleteFunc(t.rest, func(k int) bool { return k == i })
	t.outcomes = append(t.outcomes, send.Outcome{Recipient: i, Result: result, Reply: r, Peer: t.peer, TLS: t.tls})
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
	t.peer, t.tls = cn.host.String(), cn.tls
	for range maxRounds {
		keep, err := t.once(cn)
		if err != nil {
			cn.close()
			t.peer, t.tls = "", ""
			return err
		}
		switch {
		case len(t.rest) > 0 && keep:
			continue
		case keep && ctx.Err() == nil:
			t.c.pool.put(cn)
		default:
			cn.leave()
		}
		break
	}
	t.all(send.Deferred, message.NewReply(452, "4.5.3", "Too many recipients for the next hop"))
	return nil
}

// once makes one transaction for as many recipients as the host takes. keep
// tells that the session is fit for another one.
func (t *transaction) once(cn *conn) (keep bool, err error) {
	size := t.job.Body.Size()
	if limit, ok := cn.client.MaxMessageSize(); ok && limit > 0 && size > int64(limit) {
		t.all(send.Bounced, message.NewReply(552, "5.3.4", "The message has %d bytes, the next hop takes %d", size, limit))
		return true, nil
	}
	cn.client.CommandTimeout = t.c.o.Timeouts.Command
	cn.wire.expect()
	used := cn.sent > 0
	cn.sent++
	if err := cn.client.Mail(t.job.Message.Sender.String(), &smtp.MailOptions{Size: size}); err != nil {
		r, ok := replyOf(err)
		if !ok || used && r.Code == 421 { // an idle connection that the host is done with
			return false, lost(cn, "MAIL", err)
		}
		t.refuseAll(r)
		return r.Code != 421, nil
	}
	taken, keep, err := t.recipients(cn)
	if err != nil || !keep {
		return keep, err
	}
	if len(taken) == 0 {
		return t.reset(cn), nil
	}
	return t.data(cn, taken)
}

// recipients says RCPT for each recipient and returns those that were taken.
// Those that are one too many stay without an outcome for the next transaction.
func (t *transaction) recipients(cn *conn) (taken []int, keep bool, err error) {
	for _, i := range slices.Clone(t.rest) {
		cn.wire.expect()
		err := cn.client.Rcpt(t.job.Message.Recipients[i].Address.String(), nil)
		if err == nil {
			taken = append(taken, i)
			continue
		}
		r, ok := replyOf(err)
		switch {
		case !ok:
			return nil, false, lost(cn, "RCPT", err)
		case r.Code == 421:
			t.all(send.Deferred, r)
			return nil, false, nil
		case tooMany(r) && len(taken) > 0:
			return taken, true, nil
		}
		t.refuse(i, r)
	}
	return taken, true, nil
}

// tooMany tells whether a reply to RCPT means that a transaction has enough
// recipients (RFC 5321 section 4.5.3.1.10; 552 is how it was said before).
func tooMany(r message.Reply) bool {
	return (r.Code == 452 || r.Code == 552) && (r.Enhanced == [3]int{} || r.Enhanced[1] == 5 && r.Enhanced[2] == 3)
}

// data sends the message to those that were taken.
func (t *transaction) data(cn *conn, taken []int) (keep bool, err error) {
	cn.client.CommandTimeout = t.c.o.Timeouts.DataInit
	cn.wire.expect()
	data, err := cn.client.Data()
	if err != nil {
		r, ok := replyOf(err)
		if !ok {
			return false, lost(cn, "DATA", err)
		}
		for _, i := range taken {
			t.refuse(i, r)
		}
		return r.Code != 421 && t.reset(cn), nil
	}
	if err := cn.wire.writeBody(t.job.Body, t.c.o.Timeouts.DataBlock); err != nil {
		if errors.Is(err, errBody) {
			t.c.o.Log.Error("reading a queued message", "id", t.job.Message.ID, "error", err)
			t.all(send.Deferred, message.NewReply(451, "4.3.0", "The queued message can't be read"))
			cn.close() // without the final dot nothing is delivered
			return false, nil
		}
		return false, lost(cn, "the message", err)
	}
	cn.wire.expect()
	answer, err := data.CloseWithResponse()
	if err == nil {
		for _, i := range taken {
			t.decide(i, send.Delivered, accepted(answer.StatusText))
		}
		return true, nil
	}
	r, ok := replyOf(err)
	if !ok {
		t.c.o.Log.Warn("no answer to a message that was sent: it is tried again, and may arrive twice",
			"id", t.job.Message.ID, "peer", cn.host.String(), "recipients", len(taken), "error", err)
		t.all(send.Deferred, message.NewReply(451, "4.4.2", "The connection was lost before the answer to the message: %s", plainError(err)))
		return false, nil
	}
	for _, i := range taken {
		t.refuse(i, r)
	}
	return r.Code != 421, nil
}

// reset ends a transaction in which no message was sent. The library's own Reset
// would begin the session anew.
func (t *transaction) reset(cn *conn) bool {
	code, more, err := cn.wire.exchange("RSET", t.c.o.Timeouts.Command)
	return err == nil && code == 250 && !more
}

func lost(cn *conn, at string, err error) error {
	return failure{reply: message.NewReply(451, "4.4.2", "%s: connection lost at %s: %s", cn.host.name, at, plainError(err)), reached: true}
}
