package qmqp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Replies of the servers.
var (
	errStranger  = message.NewReply(554, "5.7.1", "This server takes mail from its own clients only")
	errMalformed = message.NewReply(554, "5.5.2", "The request is malformed")
	errAddress   = message.NewReply(553, "5.1.3", "An address has more than 999 bytes, or what no address can have")
	errMany      = message.NewReply(452, "4.5.3", "Too many recipients")
	errSize      = message.NewReply(552, "5.3.4", "The message is larger than this server takes")
	errNewline   = message.NewReply(554, "5.5.2", "A message of QMTP begins with LF or CR, by which its lines end")
	errSpool     = message.NewReply(451, "4.3.0", "The message can't be stored now, please try again later")
)

// refusal is what stands against all that a client asks for.
type refusal struct {
	at    hooks.Stage
	by    string
	reply message.Reply
}

// requests reads what a client asks for.
type requests struct {
	*conn
	in      *Reader
	refusal *refusal // of the client as a whole: its requests are read over
}

// message serves the one message of a QMQP connection. An error is one of the
// netstrings, of the connection, or a message.Reply that closes it.
func (r *requests) message() error {
	r.timed.begin()
	n, err := r.in.Length()
	if err != nil {
		return err
	}
	if n > r.largest() {
		return errSize // nobody would wait for its end
	}
	if r.refusal != nil { // it is told at the end, since a client may not listen before
		if err := r.in.Skip(n); err != nil {
			return err
		}
		if err := r.in.Comma(); err != nil {
			return err
		}
		r.refused(r.refusal)
		return r.flush()
	}
	r.in.Within(n)
	q := r.transaction()
	defer q.close()
	err = q.read(func() error { return q.recipients(func() bool { return r.in.Left() > 0 }) })
	if err != nil {
		return err
	}
	r.in.Without()
	if err := r.in.Comma(); err != nil {
		return err
	}
	r.answer(q.whole())
	return r.flush()
}

// largest is how long a request may be: the message, and any envelope.
func (r *requests) largest() int64 {
	return r.messageSize() + (qmail.MaxRecipients+2)*(maxAddress+8)
}

// unbounded is the bound where a connection rule gives none.
const unbounded = 1 << 40

func (r *requests) messageSize() int64 {
	if n := r.server.o.Intake.Limits(r.s); n > 0 {
		return n
	}
	return unbounded
}

// packages serves the packages of a QMTP connection.
func (r *requests) packages() error {
	for {
		r.timed.idle()
		n, err := r.in.Length()
		if err != nil {
			return err
		}
		r.timed.begin()
		if err := r.onePackage(n); err != nil {
			return err
		}
		if r.in.b.Buffered() > 0 {
			continue // the next one is there: answers go out together
		}
		if err := r.flush(); err != nil {
			return err
		}
	}
}

// onePackage serves one, of whose message the length was read.
func (r *requests) onePackage(n int64) error {
	if n > r.largest() {
		return errSize
	}
	q := r.transaction()
	defer q.close()
	if r.refusal != nil {
		q.against(r.refusal.reply)
	}
	err := q.unix(n)
	if err == nil {
		err = q.envelope(func() error {
			all, err := r.in.Length()
			if err != nil {
				return err
			}
			r.in.Within(all)
			err = q.recipients(func() bool { return r.in.Left() > 0 })
			if r.in.Without(); err != nil {
				return err
			}
			return r.in.Comma()
		})
	}
	if err != nil {
		return err
	}
	for _, reply := range q.each() {
		r.answer(reply)
	}
	return nil
}

// refused tells and records a refusal of the client.
func (r *requests) refused(f *refusal) {
	r.server.o.Record.Refused(&r.conn.whole, f.at, f.by, f.reply)
	r.server.o.Record.Verdict(&r.conn.whole, record.Rejected, f.reply, "")
	r.answer(f.reply)
}

// request is one message with its envelope.
type request struct {
	r       *requests
	tx      *hooks.Transaction
	spool   *qmail.Spool
	replies []message.Reply   // what stands against each recipient, in their order; a zero one: nothing
	to      []message.Address // of those against whom nothing stands
	wrong   message.Reply     // what stands against the whole
}

func (r *requests) transaction() *request {
	return &request{r: r, tx: hooks.NewTransaction(r.s, message.NewID(time.Now()))}
}

func (q *request) close() {
	if q.spool != nil {
		q.spool.Close()
	}
}

// against remembers what stands against the message; the first thing counts.
func (q *request) against(r message.Reply) {
	if q.wrong.IsZero() {
		q.wrong = r
	}
}

// read reads the message, the sender, and what recipients reads.
func (q *request) read(recipients func() error) error {
	n, err := q.r.in.Length()
	if err != nil {
		return err
	}
	if err := q.take(q.r.in.Content(n), n); err != nil {
		return err
	}
	return q.envelope(recipients)
}

// unix reads a message of n bytes as QMTP has it: its first byte says how lines end.
// CRLF needs no care: it is what goes into the queue.
func (q *request) unix(n int64) error {
	if n == 0 {
		return errNewline
	}
	var first [1]byte
	in := q.r.in.Content(n)
	if _, err := io.ReadFull(in, first[:]); err != nil {
		return err
	}
	if first[0] != '\n' && first[0] != '\r' {
		return errNewline
	}
	return q.take(in, n-1)
}

// take reads a message of n bytes to its end.
func (q *request) take(in io.Reader, n int64) (err error) {
	if n > q.r.messageSize() {
		q.against(errSize)
	}
	if !q.wrong.IsZero() {
		_, err := io.Copy(io.Discard, in)
		return err
	}
	if q.spool, err = qmail.ReadSpool(q.r.server.o.Spool, in); err == nil {
		return nil
	}
	if status, ok := errors.AsType[qmail.Status](err); ok && status != qmail.ReadFailed {
		q.r.server.log.Error("message not stored", "session", q.r.s.ID, "at", "spool", "error", err)
		q.against(errSpool)
		_, err = io.Copy(io.Discard, in)
	}
	return err
}

// envelope reads the comma behind the message, the sender, and what recipients reads.
func (q *request) envelope(recipients func() error) error {
	if err := q.r.in.Comma(); err != nil {
		return err
	}
	text, ok, err := q.r.in.Short(maxAddress)
	if err != nil {
		return err
	}
	var bad message.Reply
	if q.tx.Sender, bad = q.address(text, ok); !bad.IsZero() {
		q.against(bad)
	}
	return recipients()
}

// recipients reads them while more says so.
func (q *request) recipients(more func() bool) error {
	for more() {
		text, ok, err := q.r.in.Short(maxAddress)
		if err != nil {
			return err
		}
		if len(q.replies) >= qmail.MaxRecipients {
			return errMany
		}
		a, bad := q.address(text, ok)
		if bad.IsZero() && a.IsNull() {
			bad = errAddress
		}
		if bad.IsZero() {
			q.to = append(q.to, a)
		}
		q.replies = append(q.replies, bad)
	}
	return nil
}

// address is one of the envelope, or what is wrong with it.
func (q *request) address(text []byte, ok bool) (a message.Address, bad message.Reply) {
	if !ok || bytes.IndexByte(text, 0) >= 0 {
		return a, errAddress
	}
	a, err := qmail.Address(string(text), q.r.server.o.Intake.EnvNoAtHost())
	if err != nil {
		return a, message.NewReply(errAddress.Code, errAddress.Status(), "%q: %v", text, err)
	}
	return a, message.Reply{}
}

// whole is the answer to a QMQP request: any recipient that is refused refuses it.
func (q *request) whole() message.Reply {
	for _, bad := range q.replies {
		if !bad.IsZero() {
			q.against(bad)
		}
	}
	switch {
	case !q.wrong.IsZero():
		q.told(q.wrong)
		return q.wrong
	case len(q.replies) == 0: // as with qmail: it is taken, and nobody is to get it
		return accepted(q.tx.ID)
	}
	q.addressed()
	return q.r.server.o.Intake.Inject(q.r.work, q.r.peer.Chain, q.tx, q.spool.Reader())
}

// each is the answers to a QMTP package: one for each recipient.
func (q *request) each() []message.Reply {
	if !q.wrong.IsZero() {
		q.told(q.wrong)
		for i := range q.replies {
			q.replies[i] = q.wrong
		}
		return q.replies
	}
	if len(q.to) == 0 {
		return q.replies
	}
	q.addressed()
	answers := q.r.server.o.Intake.InjectEach(q.r.work, q.r.peer.Chain, q.tx, q.spool.Reader())
	for i := range q.replies {
		if q.replies[i].IsZero() {
			q.replies[i], answers = answers[0], answers[1:]
		}
	}
	return q.replies
}

func (q *request) addressed() {
	wide := !q.tx.Sender.IsASCII()
	for _, a := range q.to {
		wide = wide || !a.IsASCII()
		q.tx.Recipients = append(q.tx.Recipients, &hooks.Recipient{Address: a, Given: a})
	}
	if wide {
		q.tx.Params = append(q.tx.Params, hooks.Param{Key: "SMTPUTF8"})
	}
}

// told records a refusal that came before any stage.
func (q *request) told(reply message.Reply) {
	verdict := record.Rejected
	if reply.Temporary() {
		verdict = record.Deferred
	}
	q.r.server.o.Record.Refused(q.tx, hooks.Data, "postern", reply)
	q.r.server.o.Record.Verdict(q.tx, verdict, reply, "")
}

func accepted(id string) message.Reply {
	return message.NewReply(250, "2.0.0", "Ok: queued as %s", id)
}

// reason is a reply as an answer has it.
func reason(session string, r message.Reply) string {
	if r.Negative() {
		return qmail.Reason(r)
	}
	id := session
	if at := bytes.LastIndexByte([]byte(r.Text), ' '); at >= 0 {
		id = r.Text[at+1:]
	}
	return fmt.Sprintf("Kok %d qp %s", time.Now().Unix(), id)
}
