package remote

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// passage is a transaction with a next hop that goes on as its client's does:
// MAIL and the first RCPT when the first recipient is known, each further RCPT by
// itself, and the message when it is whole. Until its end is sent nothing is at
// risk, so a session that was lost meanwhile is made good by another one, which is
// told everything again.
type passage struct {
	c   *Client
	way send.Way

	cn   *conn             // with a transaction open; nil: none
	mail mailFacts         // what MAIL said in it
	told []queue.Recipient // whom the host took in it
	utf8 bool              // SMTPUTF8 was said in it
	no   message.Reply     // what every recipient gets: no host answered, or MAIL was refused
}

// mailFacts is what MAIL says of a message before it is there.
type mailFacts struct {
	sender     message.Address
	unicode    string
	ret, envID string
	binary     bool
}

func factsOf(m *queue.Message) mailFacts {
	return mailFacts{m.Sender, m.Unicode, m.Ret, m.EnvID, m.Binary}
}

// Open implements intake.NextHop.
func (c *Client) Open(w intake.Way) intake.Passage {
	way, _ := w.(send.Way) // the only ways there are; a zero one leads nowhere
	return &passage{c: c, way: way}
}

func jobFor(w send.Way, m *queue.Message, body message.Body) *send.Job {
	j := &send.Job{Message: m, Body: body, NextHop: w.NextHop, TLS: w.TLS, Auth: w.Auth, Source: w.Source}
	for i := range m.Recipients {
		j.Recipients = append(j.Recipients, i)
	}
	return j
}

// errOurselves is why a next hop that waits for us is not waited for.
var errOurselves = message.NewReply(451, "4.3.5", "The next hop is this server itself")

// servers are the addresses of the server that a job goes to.
func (c *Client) servers(ctx context.Context, j *send.Job) ([]host, *nowhere) {
	if !j.NextHop.Server() {
		return nil, postpone("4.3.5", "No server can be asked by the way of %s", j.NextHop)
	}
	list, fail := c.hosts(ctx, j)
	if fail != nil {
		fail.reply = nameless(j.NextHop, fail.reply)
	}
	if fail == nil && slices.ContainsFunc(list, func(h host) bool { return h.addr.IsValid() && c.o.Own(h.addr) }) {
		return nil, &nowhere{reply: errOurselves}
	}
	return list, fail
}

// nameless is what we say of a failure without the next hop's name, which may be
// none of the client's business.
func nameless(n send.NextHop, r message.Reply) message.Reply {
	for _, name := range [...]string{n.Host, asciiDomain(n.Host), n.Path} {
		if name == "" {
			continue
		}
		if what, ok := strings.CutPrefix(r.Text, name+": "); ok {
			r.Text = "The next hop: " + what
		}
		r.Text = strings.Replace(r.Text, "he next hop "+name, "he next hop", 1)
	}
	return r
}

// Offer implements intake.Passage.
func (p *passage) Offer(ctx context.Context, m *queue.Message) message.Reply {
	if !p.no.IsZero() {
		return p.no
	}
	ctx, done := context.WithTimeout(ctx, p.c.o.Timeouts.Passage)
	defer done()
	if p.cn != nil {
		if r, err := p.further(ctx, m); err == nil {
			return r
		}
		p.cn.close()
		p.cn = nil
	}
	return p.begin(ctx, m)
}

// further says RCPT in the transaction that is open. An error means that it is
// not good for it.
func (p *passage) further(ctx context.Context, m *queue.Message) (message.Reply, error) {
	defer context.AfterFunc(ctx, p.cn.close)()
	t := newTransaction(ctx, p.c, jobFor(p.way, m, nil))
	last := len(m.Recipients) - 1
	t.rest = []int{last}
	f := &form{chunked: true}
	utf8, err := t.international(p.cn, f)
	switch {
	case err != nil:
		return formReply(err)
	case len(f.rcpts) == 0:
		return t.outcomes[0].Reply, nil
	case utf8 && !p.utf8 || p.cn.wire.unasked():
		return message.Reply{}, errUnasked
	}
	e := envelope{t: t, cn: p.cn, f: f}
	e.sayRcpt(last)
	if err := p.cn.wire.flush(p.c.o.Timeouts.Command); err != nil {
		return message.Reply{}, err
	}
	r, err := p.cn.wire.reply(p.c.o.Timeouts.Command)
	if err != nil || r.Code == 421 || r.Code/100 == 3 {
		return r, errors.Join(err, errBadReply)
	}
	if r.Positive() {
		p.told = append(p.told, m.Recipients[last])
	}
	return bound(r), nil
}

func formReply(err error) (message.Reply, error) {
	if e, ok := errors.AsType[errForm](err); ok {
		return e.reply, nil
	}
	return message.Reply{}, err
}

// begin opens a transaction and offers all recipients of m, of whom the last one
// is in question.
func (p *passage) begin(ctx context.Context, m *queue.Message) (reply message.Reply) {
	j := jobFor(p.way, m, nil)
	hosts, nobody := p.c.servers(ctx, j)
	if nobody != nil {
		p.no = nobody.reply
		return p.no
	}
	fail := p.c.reach(ctx, j, hosts, func(cn *conn) (err error) {
		reply, err = p.open(ctx, cn, j)
		return err
	})
	if fail != nil {
		p.c.o.Log.Info("next hop not reached while a client waits", "id", m.ID, "next_hop", p.way.String(), "error", fail.reply)
		p.no = nameless(p.way.NextHop, fail.reply)
		return p.no
	}
	return reply
}

// open says MAIL and RCPT over cn, and keeps it. An error means that the
// connection was lost.
func (p *passage) open(ctx context.Context, cn *conn, j *send.Job) (message.Reply, error) {
	defer context.AfterFunc(ctx, cn.close)()
	t := newTransaction(ctx, p.c, j)
	t.peer, t.tls = cn.peer(), cn.tls
	f, err := t.preview(cn)
	if err != nil {
		p.c.pool.put(cn)
		p.no, err = formReply(err)
		return p.no, err
	}
	e := envelope{t: t, cn: cn, f: f, used: cn.sent > 0}
	if len(f.rcpts) > 0 {
		cn.sent++
		if err := e.run(); err != nil {
			cn.close()
			return message.Reply{}, err
		}
	}
	reply, last := bound(e.last), len(j.Recipients)-1
	for _, o := range t.outcomes {
		if o.Recipient == last {
			reply = o.Reply
		}
	}
	switch {
	case e.gone:
		cn.close()
	case len(f.rcpts) == 0:
		p.c.pool.put(cn)
	case e.refused:
		p.no = reply
		p.c.release(ctx, cn, true)
	default:
		p.cn, p.mail, p.told, p.utf8 = cn, factsOf(j.Message), nil, f.utf8
		for _, i := range e.taken {
			p.told = append(p.told, j.Message.Recipients[i])
		}
	}
	return reply, nil
}

// Send implements intake.Passage.
func (p *passage) Send(ctx context.Context, m *queue.Message, body message.Body, whole bool) []intake.Sent {
	ctx, done := context.WithTimeout(ctx, p.c.o.Timeouts.PassEnd)
	defer done()
	j := jobFor(p.way, m, body)
	t := newTransaction(ctx, p.c, j)
	t.whole = whole
	if p.cn == nil || p.mail != factsOf(m) || !slices.EqualFunc(p.told, m.Recipients, sameRcpt) {
		p.Close()
		p.anew(ctx, t)
	} else if err := p.resume(ctx, t); err != nil {
		p.anew(ctx, t)
	}
	sent := make([]intake.Sent, len(m.Recipients))
	for _, o := range t.finish() {
		sent[o.Recipient] = intake.Sent{Reply: nameless(p.way.NextHop, o.Reply), Peer: o.Peer, TLS: o.TLS, Took: o.Duration}
		if o.Result == send.Deferred && !o.Reply.Temporary() {
			sent[o.Recipient].Reply = message.NewReply(451, "4.3.0", "%s", o.Reply.Text)
		}
	}
	return sent
}

// sameRcpt tells whether RCPT would say the same of both.
func sameRcpt(a, b queue.Recipient) bool {
	return a.Address == b.Address && a.Unicode == b.Unicode && a.Notify == b.Notify && a.Original == b.Original
}

// anew makes the whole attempt, from MAIL on.
func (p *passage) anew(ctx context.Context, t *transaction) {
	hosts, nobody := p.c.servers(ctx, t.job)
	if nobody != nil {
		t.all(nobody.result, nobody.reply)
		return
	}
	p.c.deliver(ctx, t, hosts)
}

// resume sends the message in the transaction that is open. An error means that
// it was lost with nothing at risk.
func (p *passage) resume(ctx context.Context, t *transaction) error {
	cn := p.cn
	p.cn = nil
	defer context.AfterFunc(ctx, cn.close)()
	t.peer, t.tls = cn.peer(), cn.tls
	keep, err := p.message(cn, t)
	if err != nil {
		cn.close()
		t.peer, t.tls = "", ""
		return err
	}
	p.c.release(ctx, cn, keep)
	return nil
}

// message is the end of a transaction, from DATA on.
func (p *passage) message(cn *conn, t *transaction) (keep bool, err error) {
	f, err := t.form(cn)
	if e, ok := errors.AsType[errForm](err); ok {
		t.refuseAll(e.reply)
		return t.reset(cn), nil
	}
	if err != nil {
		t.unreadable(err)
		return t.reset(cn), nil
	}
	if len(f.rcpts) != len(t.job.Recipients) || f.utf8 && !p.utf8 || cn.wire.unasked() {
		return false, lost(cn, "DATA", errUnasked)
	}
	if !f.chunked {
		r, err := cn.wire.exchange(p.c.o.Timeouts.DataInit, "DATA")
		switch {
		case err != nil:
			return false, lost(cn, "DATA", err)
		case r.Code == 421: // it had enough of waiting
			return false, lost(cn, "DATA", r)
		case r.Negative():
			t.refuseAll(r)
			return t.reset(cn), nil
		case r.Code != 354:
			return false, lost(cn, "DATA", errBadReply)
		}
	}
	return t.data(cn, f, f.rcpts)
}

// Close implements intake.Passage: the host forgets the transaction, and the
// session waits for another one.
func (p *passage) Close() {
	cn := p.cn
	if cn == nil {
		return
	}
	p.cn, p.told = nil, nil
	r, err := cn.wire.exchange(quitTimeout, "RSET")
	p.c.release(context.Background(), cn, err == nil && r.Code == 250)
}
