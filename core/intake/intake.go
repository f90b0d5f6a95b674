// Package intake is the one door into the queue. Whatever way a message came,
// it passes here, in this order:
//
//  0. Domains are brought to one form (idna.go).
//  1. The recipient rule (rule.go) answers RCPT where no policy did.
//  2. Begin opens a Mail (mail.go); the protocol writes the message's bytes into
//     it. When the header section is complete the hops are counted and stage
//     headers runs.
//  3. End runs stages message, the score thresholds, and queue, stamps our
//     Received field, signs what is ours (sign.go), writes the edited message and commits it: one durable
//     step, and only then 250.
//     For a route in proxy mode the next hop's answer (relay.go, passon.go) takes the
//     commit's place.
//  4. The committed message is handed to delivery in memory (Accepted), and
//     stage queued is told.
//
// Nothing is accepted twice and nothing is half accepted: every failure before
// the commit is a negative reply, and the draft is gone.
package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Options of New: what does not change while the daemon runs.
type Options struct {
	Queue  *queue.Queue
	Record *record.Recorder
	Log    *slog.Logger
	// Accepted takes a committed message for its first attempt, with its body in
	// memory, which it owns from then on (message.Retainer). It must not wait.
	Accepted func(m *queue.Message, body message.Body)
	// NextHop is asked while a client waits, for the routes in proxy mode; nil: there
	// are none.
	NextHop NextHop
	// Now is the clock of arrivals and trace fields; nil: time.Now.
	Now func() time.Time
	// Verifier asks next hops about recipients of domains with Callout.
	Verifier Verifier
}

// Settings are what a reload may change.
type Settings struct {
	Hostname    string
	EnvNoAtHost string   // domain of recipients without one that programs hand over; "": Hostname
	PercentHack []string // domains, in lower case, at which user%other.example stands for user@other.example
	Domains     *Domains
	MessageSize int64 // bytes; what is larger is refused with 552 5.3.4
	HeaderSize  int64 // bytes of header section
	Mixed       Mixed // what a message gets whose recipients are judged differently
	Hops        int   // Received and Delivered-To fields above which a message is in a loop
	// LiteralHost is the domain of recipients at the address of this host; "": Hostname.
	LiteralHost string
	Score       Score
	// Seal makes the ARC set (RFC 8617) of a message that goes on and is not ours: whole
	// fields that are put behind our Received field. came is what Chain said of it as it
	// was received, found our Authentication-Results. nil: nothing is sealed.
	Seal func(came any, m message.Body, found results.Field, now time.Time) ([]byte, error)
	// Chain judges the ARC chain of a message as it was received; for Seal alone.
	Chain func(ctx context.Context, m message.Body) any
	// Sign makes the signatures of a message as it goes out, whole fields that are put
	// behind our Received field: of mail by relaying and authenticated clients, and of
	// what is made on this host, bounces too. None where nobody signs for it; an error
	// puts the message off. nil: nothing is signed.
	Sign func(sender message.Address, m message.Body, now time.Time) ([]byte, error)
	// Routed tells whether a route exists for mail to a domain that is not ours;
	// a relaying client may send nowhere else. nil: everywhere.
	Routed func(tx *hooks.Transaction, rcpt message.Address) bool
	// Proxied tells whether a recipient's mail is passed on while its client waits,
	// and where; nil: all mail is queued.
	Proxied func(tx *hooks.Transaction, rcpt *hooks.Recipient) (Way, bool)
	// Returns are the senders that were made here for mail that went out; nil: none.
	Returns *Returns
	// ReturnPath is what a next hop hears in the place of a sender, where mail is
	// passed on while its client waits; nil: the sender itself. An error is why that
	// can't be made, and the address what is said instead.
	ReturnPath func(w Way, sender message.Address, now time.Time) (message.Address, error)
	// Asked is the configured server that mail to a recipient goes to, whatever
	// policies chose; not ok where it goes elsewhere. Only domains with Callout need
	// it.
	Asked func(tx *hooks.Transaction, rcpt message.Address) (Way, bool)
}

// Score is the table [score]: points from which a message is tagged, kept in
// quarantine or refused. A nil one is off.
type Score struct {
	Tag, Quarantine, Reject *float64
	Rules                   []ScoreRule // looked at before the thresholds, in their order
}

// ScoreRule is points for what policies found together.
type ScoreRule struct {
	When  hooks.Rule
	Score hooks.Score
}

// Intake is safe for concurrent use.
type Intake struct {
	o   Options
	set atomic.Pointer[Settings]
}

// New makes an intake.
func New(o Options, s Settings) *Intake {
	if o.Now == nil {
		o.Now = time.Now
	}
	in := &Intake{o: o}
	in.Reconfigure(s)
	return in
}

// Reconfigure replaces the settings; transactions under way keep theirs.
func (in *Intake) Reconfigure(s Settings) { in.set.Store(&s) }

// Hostname is our name.
func (in *Intake) Hostname() string { return in.set.Load().Hostname }

// EnvNoAtHost is the domain of recipients that have none.
func (in *Intake) EnvNoAtHost() string {
	s := in.set.Load()
	return cmp.Or(s.EnvNoAtHost, s.Hostname)
}

// Ours tells whether mail to the domain, in lower case, is ours to receive;
// U-labels are taken for their A-labels.
func (in *Intake) Ours(domain string) bool {
	domain, err := canonicalDomain(domain)
	return err == nil && in.set.Load().Domains.find(domain) != nil
}

// Postmaster is the mailbox that <postmaster> without a domain means (RFC 5321
// section 4.5.1): at our first domain, else at our host name.
func (in *Intake) Postmaster() message.Address {
	s := in.set.Load()
	domain := s.Hostname
	if first := s.Domains.first(); first != "" {
		domain = first
	}
	return message.Address{Local: "postmaster", Domain: domain}
}

// Inject takes mail that was made on this host: by the inject command, from a
// drop file, or a bounce of our own. It runs the stages mail, rcpt, headers,
// message and queue of the chain and returns the reply to the whole; the first
// refused recipient refuses the message, so that nothing is half sent. Lone LF
// line ends become CRLF.
func (in *Intake) Inject(ctx context.Context, chain *hooks.Chain, tx *hooks.Transaction, body io.Reader) message.Reply {
	refuse := func(d hooks.Decision) message.Reply {
		in.o.Record.Verdict(tx, verdictOf(d.Verb), d.Reply, d.By)
		return d.Reply
	}
	if err := canonicalEnvelope(tx); err != nil {
		return refuse(hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(501, "5.1.3", "%v", err), By: "postern"})
	}
	switch d := chain.Run(ctx, hooks.Mail, tx); {
	case d.Verb.Refuses():
		return refuse(d)
	case d.Verb == hooks.Discard:
		return in.discarded(tx, d)
	}
	kept := tx.Recipients
	tx.Recipients = nil
	for _, r := range kept {
		d := in.recipient(ctx, chain, tx, r)
		if d.Verb.Refuses() {
			d.Reply.Text = r.Address.Path() + ": " + d.Reply.Text
			return refuse(d)
		}
		if d.Verb != hooks.Discard {
			tx.Recipients = append(tx.Recipients, tx.Current)
		}
	}
	tx.Current = nil
	m := in.Begin(ctx, chain, tx)
	m.local = !completed(tx.Session.Protocol)
	if err := copyLines(m, body); err != nil {
		m.Abort()
		return message.NewReply(451, "4.3.0", "Reading the message: %v", err)
	}
	return m.End(ctx).Reply
}

// recipient judges one recipient, whose address has its one form and which is tx.Current
// then.
func (in *Intake) recipient(ctx context.Context, chain *hooks.Chain, tx *hooks.Transaction, r *hooks.Recipient) hooks.Decision {
	tx.Current = r
	in.Untag(r)
	r.Ours = in.Ours(r.Address.Domain)
	return chain.Run(ctx, hooks.Rcpt, tx)
}

// completed tells whether mail of a protocol comes from other programs or hosts, which
// have completed it.
func completed(protocol string) bool {
	return protocol == QueueIn || protocol == "qmqp" || protocol == "qmtp"
}

// canonicalEnvelope brings the domains of an envelope to one form.
func canonicalEnvelope(tx *hooks.Transaction) (err error) {
	tx.Given = tx.Sender
	if tx.Sender, err = Canonical(tx.Sender); err != nil {
		return fmt.Errorf("%s: %w", tx.Given.Path(), err)
	}
	for _, r := range tx.Recipients {
		if err := canonicalRecipient(r); err != nil {
			return err
		}
	}
	return nil
}

func canonicalRecipient(r *hooks.Recipient) (err error) {
	r.Given = r.Address
	if r.Address, err = Canonical(r.Given); err != nil {
		return fmt.Errorf("%s: %w", r.Given.Path(), err)
	}
	return nil
}

// copyLines writes body to m with CRLF for each line end, the last line's too. A
// CR within a line, or a NUL, is refused as it is from the wire: no next hop could
// be sent the message as it is.
func copyLines(m *Mail, body io.Reader) error {
	var buf [32 << 10]byte
	var out []byte
	var ends message.LineEnds
	last := byte('\n')
	for {
		n, err := body.Read(buf[:])
		out = out[:0]
		for _, c := range buf[:n] {
			if c == '\n' && last != '\r' {
				out = append(out, '\r')
			}
			out = append(out, c)
			last = c
		}
		if ends.Scan(out); ends.NUL || ends.BareCR {
			m.Refuse(errControl)
		}
		m.Write(out)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	switch last {
	case '\n':
	case '\r':
		m.Write([]byte("\n"))
	default:
		m.Write([]byte("\r\n"))
	}
	return nil
}

// QueueIn is the protocol of mail that a program hands over as it does to
// qmail-queue: nothing in it is looked at or completed.
const QueueIn = "qmail-queue"

// NewLocal begins a transaction for mail made on this host.
func NewLocal(protocol string, sender message.Address, recipients []message.Address) *hooks.Transaction {
	now := time.Now()
	s := &hooks.Session{ID: message.NewID(now), Protocol: protocol, Listener: protocol, Started: now, Relaying: true}
	tx := hooks.NewTransaction(s, message.NewID(now))
	tx.Sender = sender
	for _, a := range recipients {
		tx.Recipients = append(tx.Recipients, &hooks.Recipient{Address: a, Given: a})
	}
	return tx
}

func (in *Intake) discarded(tx *hooks.Transaction, d hooks.Decision) message.Reply {
	in.o.Record.Verdict(tx, record.Discarded, queuedAs(tx.ID), d.By+": "+d.Reason)
	return queuedAs(tx.ID)
}

func queuedAs(id string) message.Reply {
	return message.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "Ok: queued as " + id}
}

func verdictOf(v hooks.Verb) record.Verdict {
	switch v {
	case hooks.Reject:
		return record.Rejected
	case hooks.Defer, hooks.Drop:
		return record.Deferred
	case hooks.Discard:
		return record.Discarded
	case hooks.Quarantine:
		return record.Quarantined
	case hooks.Hold:
		return record.Held
	}
	return record.Queued
}

// param is the value of a MAIL or RCPT parameter, "" where it was not given.
func param(list []hooks.Param, key string) string {
	for _, p := range list {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}

func symbols(scores []hooks.Score) string {
	var b strings.Builder
	for i, s := range scores {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s=%.4g", s.Name, s.Points)
	}
	return b.String()
}
