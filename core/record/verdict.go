package record

import (
	"log/slog"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Verdict is what became of a transaction.
type Verdict uint8

// The verdicts.
const (
	Queued      Verdict = iota // durable in our queue, 250 said
	Held                       // queued, but waits for an operator
	Relayed                    // the next hop took it while the client waited
	Rejected                   // refused for good
	Deferred                   // refused for now
	Discarded                  // 250 said and thrown away
	Quarantined                // queued for an operator's judgement
	Abandoned                  // the client ended it before there was a verdict
	verdictEnd
)

var verdictNames = [verdictEnd]string{"queued", "held", "relayed", "rejected", "deferred", "discarded", "quarantined", "abandoned"}

// String is the verdict's name in stories, logs and metrics.
func (v Verdict) String() string { return verdictNames[min(v, Abandoned)] }

// Good tells whether the message goes on its way.
func (v Verdict) Good() bool { return v == Queued || v == Relayed }

// Refuses tells whether the client got a negative reply.
func (v Verdict) Refuses() bool { return v == Rejected || v == Deferred }

// Attempt is what one recipient got in one delivery attempt.
type Attempt struct {
	Time      time.Time // the attempt's start
	Recipient string
	Sender    string
	NextHop   string        // as a route names it: smtp://host:port, mx, local, discard
	Peer      string        // name and address of who answered, "" where nobody was reached
	TLS       string        // "TLSv1.3 TLS_AES_128_GCM_SHA256" or ""
	Reply     message.Reply // what the peer said, or what we say of a failure of our own
	Outcome   string        // delivered, deferred, bounced
	Duration  time.Duration
	Attempt   int           // 1 for the first
	Delivery  uint64        // its number, of Begin; 0: it had none
	Size      int64         // of the stored message, in bytes
	Age       time.Duration // since arrival
	Queued    bool          // the message is in the queue, not on its way in proxy mode
}

// Attempt tells the outcome of a delivery attempt for one recipient of message id.
func (r *Recorder) Attempt(id string, a Attempt) {
	if r == nil {
		return
	}
	r.metrics.attempt(&a)
	e := Event{
		Time: time.Now(), ID: id, Sender: a.Sender, Recipient: a.Recipient, Verdict: a.Outcome,
		NextHop: a.NextHop, Peer: a.Peer, Reply: a.Reply,
	}
	r.logAttempt(id, &a)
	if r.o.Qmail != nil && a.Queued {
		r.o.Qmail.attempt(id, &a)
	}
	r.show(&e)
	if !r.o.ReadOnly {
		r.list.add(&attempted{id: id, a: a}, r)
	}
}

// Left tells that message id left the queue: every recipient's fate is settled.
// age is the time since it arrived.
func (r *Recorder) Left(id string, age time.Duration) {
	if r == nil {
		return
	}
	r.metrics.left(age)
	r.logLeft(id, age)
	if r.o.Qmail != nil {
		r.o.Qmail.gone(id)
	}
	if !r.o.ReadOnly {
		r.list.add(&left{id: id, time: time.Now()}, r)
	}
}

// Operated tells what was done to queued message id beside its delivery: event is
// released, held, rerouted, imported, learned, returned, deleted or expired, by
// "operator", "quarantine" or "recipient". Deleted and expired end the message. In its story it is a line of stage queued.
func (r *Recorder) Operated(id, event, by, why string) {
	if r == nil {
		return
	}
	if r.logs(slog.LevelInfo) {
		r.emit(slog.LevelInfo, event, optional([]slog.Attr{slog.String("id", id), slog.String("by", by)}, "reason", why)...)
	}
	if r.o.ReadOnly && r.o.Qmail == nil {
		return
	}
	verb, now := hooks.Discard, time.Now()
	switch event {
	case "released", "rerouted", "imported", "learned":
		verb = hooks.Accept
	case "held":
		verb = hooks.Hold
	case "returned":
		verb = hooks.Reject
	}
	if verb == hooks.Discard && r.o.Qmail != nil {
		r.o.Qmail.gone(id)
	}
	if r.o.ReadOnly {
		return
	}
	if why != "" {
		event += ": " + why
	}
	run := hooks.StageRun{Stage: hooks.Queued, Time: now, Handlers: []hooks.HandlerRun{{Policy: by, Verb: verb, Reason: event}}}
	r.list.add(&late{id: id, run: run}, r)
	if verb == hooks.Discard {
		r.list.add(&left{id: id, time: now}, r)
	}
}

// tell is the verdict's log line, metric and line on the terminal. The terminal
// has seen a refusal that is known.
func (r *Recorder) tell(tx *hooks.Transaction, d *draft, known bool) {
	r.metrics.verdict(d.verdict)
	r.metrics.accepted(d)
	e := eventOf(tx, d.ended)
	e.Verdict, e.Policy, e.Reply, e.Reason, e.Size = d.verdict.String(), d.by, d.reply, d.reason, d.size
	if d.by != "" {
		e.Stage = d.at.String()
	}
	if e.Recipient == "" && len(d.seen) > 0 {
		e.Recipient, e.More = d.seen[0], len(d.seen)-1
	}
	r.logVerdict(tx, &e, d)
	r.recent.add(e)
	if !known {
		r.show(&e)
	}
}
