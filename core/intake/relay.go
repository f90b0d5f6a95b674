package intake

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// Way is where a recipient's mail goes while its client waits: a next hop and how
// it is talked to. Ways are compared with ==.
type Way interface {
	String() string // the next hop as the configuration writes it
	// Each tells whether the next hop answers a message for each of its recipients,
	// as LMTP does.
	Each() bool
}

// NextHop passes mail on while its client waits, for routes in proxy mode. It is
// called from many goroutines at once.
type NextHop interface {
	// Open begins a passage; nobody is asked before its first recipient.
	Open(w Way) Passage
}

// Passage is one client's transaction with a next hop. It belongs to one
// goroutine.
type Passage interface {
	// Offer asks the next hop about the last recipient of m, whose others it took in
	// calls before, and returns its answer; 4xx where it gives none. m.Size is what
	// the client said, 0: nothing.
	Offer(ctx context.Context, m *queue.Message) message.Reply
	// Send hands on m, whose envelope may differ from what was offered, and body, and
	// returns what became of each recipient, in their order. With whole set, the
	// message goes to all of them or to none. It ends the passage.
	Send(ctx context.Context, m *queue.Message, body message.Body, whole bool) []Sent
	// Close ends the passage without a message; it may be called at any time.
	Close()
}

// Sent is what became of one recipient in a passage.
type Sent struct {
	Reply message.Reply // the next hop's, or what we say of a failure
	Peer  string        // who said so, "" where nobody was reached
	TLS   string        // "TLSv1.3 TLS_AES_128_GCM_SHA256" or ""
	Took  time.Duration
}

// Replies about recipients that go different ways. RFC 5321 section 4.5.3.1.10:
// after 452 a client sends to the rest in another transaction.
var (
	errOtherWay = message.NewReply(452, "4.5.3", "This recipient goes another way than those before, please send to it in another message")
	errOneByOne = message.NewReply(452, "4.5.3", "One recipient of a message at a time goes that way, please send to this one in another message")
	errMixed    = message.NewReply(451, "4.3.5", "Policies gave the recipients of the message different ways, one of which can't wait")
	errHold     = message.NewReply(451, "4.3.5", "The message is to be held here, which is not possible while its next hop is to answer")
	errCopies   = message.NewReply(451, "4.3.5", "Policies gave the recipients of the message copies of their own, which its next hop is to answer together")
	errTogether = message.NewReply(451, "4.3.5", "Policies gave the message several recipients, which its next hop answers one by one")
)

// byNextHop is who refused where a next hop did.
const byNextHop = "next-hop"

// Relay is the way of one transaction to next hops that answer while the client
// waits. It belongs to the goroutine of its connection.
type Relay struct {
	in      *Intake
	set     *Settings
	tx      *hooks.Transaction
	each    bool
	taken   []*hooks.Recipient // whoever was not refused
	way     Way                // of those taken, or of the passage; nil: the queue
	passage Passage
	m       queue.Message // as offered
}

// Relay begins the way of a transaction after MAIL. each tells that the client
// takes an answer for each recipient (LMTP, PRDR). nil where all mail is queued.
func (in *Intake) Relay(tx *hooks.Transaction, each bool) *Relay {
	set := in.set.Load()
	if set.Proxied == nil || in.o.NextHop == nil {
		return nil
	}
	return &Relay{in: in, set: set, tx: tx, each: each}
}

// wayOf is where a recipient goes; nil: into the queue.
func (r *Relay) wayOf(to *hooks.Recipient) Way {
	if w, ok := r.set.Proxied(r.tx, to); ok {
		return w
	}
	return nil
}

// Offer asks the next hop of a recipient that all policies accepted. The reply is
// what the client is to hear, a zero one the usual; by is who refused.
func (r *Relay) Offer(ctx context.Context, to *hooks.Recipient) (reply message.Reply, by string) {
	way := r.wayOf(to)
	switch {
	case len(r.taken) == 0:
	case way != r.way:
		return errOtherWay, RuleName
	case way != nil && (way.Each() && !r.each || r.tx.Sender.IsVERP()):
		return errOneByOne, RuleName
	}
	if r.passage != nil && way != r.way {
		r.Close()
	}
	r.way = way
	if way == nil {
		r.taken = append(r.taken, to)
		return message.Reply{}, ""
	}
	if r.passage == nil {
		r.passage = r.in.o.NextHop.Open(way)
		r.m = queue.Message{ID: r.tx.ID, Arrived: time.Now(), Size: r.tx.Size}
		if r.m.Size > 0 {
			r.m.Size += traceRoom
		}
		envelopeOf(&r.m, r.tx, nil)
	}
	envelopeOf(&r.m, r.tx, []*hooks.Recipient{to})
	r.m.Sender, _ = r.set.returnPath(way, r.tx.Sender.For(to.Address), r.in.o.Now())
	reply = plainReply(r.passage.Offer(ctx, &r.m))
	if !reply.Positive() {
		r.m.Recipients = r.m.Recipients[:len(r.m.Recipients)-1]
		return reply, byNextHop
	}
	r.taken = append(r.taken, to)
	return reply, ""
}

// traceRoom is what our Received field and the edits of policies may add to the
// size that the client said.
const traceRoom = 1 << 10

// Close ends what is open at a next hop. It may be called at any time.
func (r *Relay) Close() {
	if r.passage != nil {
		r.passage.Close()
		r.passage = nil
	}
}

// final is where the transaction goes now that all policies have decided. mixed:
// its recipients go different ways.
func (r *Relay) final() (way Way, mixed bool) {
	for i, to := range r.tx.Recipients {
		w := r.wayOf(to)
		if i > 0 && w != way {
			return nil, true
		}
		way = w
	}
	return way, false
}

// send hands the message on by way. What was opened elsewhere is given up.
func (r *Relay) send(ctx context.Context, way Way, m *queue.Message, body message.Body) []Sent {
	if r.passage != nil && way != r.way {
		r.Close()
	}
	p := r.passage
	if p == nil {
		p = r.in.o.NextHop.Open(way)
	}
	r.passage = nil
	sent := p.Send(ctx, m, body, !way.Each())
	for i := range sent {
		sent[i].Reply = plainReply(sent[i].Reply)
	}
	return sent
}

// each gives each RCPT that was answered 250 its own reply. A recipient that a
// policy replaced since is found by what the client said.
func (r *Relay) replies(sent []Sent) map[*hooks.Recipient]message.Reply {
	m := make(map[*hooks.Recipient]message.Reply, len(sent))
	for i, to := range r.tx.Recipients {
		m[to] = sent[i].Reply
		for _, was := range r.taken {
			if was.Given == to.Given {
				m[was] = sent[i].Reply
			}
		}
	}
	return m
}

// Bounds of a next hop's reply that becomes ours.
const (
	maxReplyText  = 1 << 10
	maxReplyLines = 10
)

// plainReply is a next hop's reply as one that we may give: with an enhanced
// status, which we announce, of few lines, and never one that ends a connection
// (421) or promises more (3xx).
func plainReply(r message.Reply) message.Reply {
	switch {
	case r.Code == 421 || !r.Positive() && !r.Negative() || r.Code/100 == 3 || r.Code > 599:
		r.Code = 451
	case r.Code/100 == 2 && r.Code > 252 || r.Code < 250:
		r.Code = 250
	}
	if r.Enhanced[0] != r.Code/100 {
		r.Enhanced = [3]int{r.Code / 100, 0, 0}
	}
	r.Text = strings.ToValidUTF8(r.Text[:min(len(r.Text), maxReplyText)], "")
	if lines := strings.SplitN(r.Text, "\n", maxReplyLines+1); len(lines) > maxReplyLines {
		r.Text = strings.Join(lines[:maxReplyLines], "\n")
	}
	r.Text = strings.TrimRight(r.Text, "\r\n ")
	return r
}

// withID puts the message's id behind a next hop's text.
func withID(r message.Reply, id string) message.Reply {
	r.Text = strings.TrimLeft(r.Text+" ("+id+")", " ")
	return r
}

// wholeReply is the one reply to several recipients: a good one where somebody
// got the message, else one that lets the client try again.
func wholeReply(sent []Sent) message.Reply {
	for _, good := range []func(message.Reply) bool{message.Reply.Positive, message.Reply.Temporary} {
		if i := slices.IndexFunc(sent, func(s Sent) bool { return good(s.Reply) }); i >= 0 {
			return sent[i].Reply
		}
	}
	return sent[0].Reply
}
