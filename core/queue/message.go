package queue

import (
	"time"

	"github.com/postern-mta/postern/core/message"
)

// State is where a recipient of a queued message stands.
type State uint8

// The states of a recipient. Delivered and Failed are final.
const (
	Ready     State = iota // not tried yet
	Deferred               // tried, to be tried again at Next
	Delivered              // its next hop took it
	Failed                 // given up, the bounce may still be owed
)

// String is the state's name in JSON and on the command line.
func (s State) String() string {
	return [...]string{"ready", "deferred", "delivered", "failed"}[min(s, Failed)]
}

// Final tells whether nothing more is to be tried.
func (s State) Final() bool { return s == Delivered || s == Failed }

// Place is where a whole message stands.
type Place uint8

// The places of a message.
const (
	Active      Place = iota // its recipients are tried when they are due
	Held                     // nothing is tried until an operator releases it
	Quarantined              // kept for an operator's judgement, never tried
)

// String is the place's name in JSON and on the command line.
func (p Place) String() string {
	return [...]string{"active", "held", "quarantined"}[min(p, Quarantined)]
}

// Message is what the queue knows of a message besides its body. The body is
// what came, byte for byte: one that came by BDAT may end without CRLF, and a
// Binary one may hold NUL, bare CR and bare LF behind its header section.
type Message struct {
	ID      string
	Sender  message.Address // the null path for bounces
	Double  bool            // a double bounce: sender #@[] inside, <> on the wire
	Arrived time.Time
	Size    int64 // of the stored body, trace fields included, in bytes
	Place   Place
	Reason  string // why it is held or quarantined

	// Unicode is the sender's domain with its U-labels, as the client gave it; ""
	// where Sender.Domain is what it gave.
	Unicode  string
	EightBit bool   // BODY=8BITMIME was said
	Binary   bool   // BODY=BINARYMIME was said: its lines may have any end, or none (RFC 3030)
	SMTPUTF8 bool   // SMTPUTF8 was said: addresses and header may hold UTF-8 (RFC 6531)
	Ret      string // DSN RET: FULL, HDRS or "" (RFC 3461 section 4.3)
	EnvID    string // DSN ENVID, as it came
	Notified bool   // the delay notice was sent

	// Signed is where our own signatures, or our seal, stand in the body: whole fields
	// behind the first one. A next hop that gets another form of the message gets them
	// made anew.
	Signed Span

	Facts      []byte // JSON of hooks.Facts; the queue does not look inside
	Recipients []Recipient
}

// Span is a part of a body, from From to To. The zero value is none.
type Span struct{ From, To int64 }

// Empty tells whether there is nothing in it.
func (s Span) Empty() bool { return s.To <= s.From }

// Recipient is one recipient of a queued message.
type Recipient struct {
	Address  message.Address // its domain has A-labels alone
	Unicode  string          // the domain with its U-labels, as Message.Unicode
	Original string          // DSN ORCPT as it came, or the address as the client gave it where a policy replaced it
	Notify   string          // DSN NOTIFY as it came, "" where not said
	Route    string          // next hop set by a policy, "" for the configured routes
	Held     bool            // this recipient alone waits for an operator
	State    State
	Attempts int
	Next     time.Time     // when it is due
	Tried    time.Time     // the last attempt's start; zero before the first
	Last     message.Reply // what the last attempt got
	Peer     string        // who said so
	Relayed  bool          // Delivered to a host that tells no sender of success
}

// Next is when the message is due: the earliest of its recipients that are not
// final and not held. ok is false where there is none, or it is not Active.
func (m *Message) Next() (at time.Time, ok bool) {
	if m.Place != Active {
		return at, false
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if !r.State.Final() && !r.Held && (!ok || r.Next.Before(at)) {
			at, ok = r.Next, true
		}
	}
	return at, ok
}

// SenderFor is the sender as it is said to a next hop: to one that has SMTPUTF8
// the domain goes as the client gave it, to others with A-labels.
func (m *Message) SenderFor(smtputf8 bool) message.Address {
	return given(m.Sender, m.Unicode, smtputf8)
}

// AddressFor is the recipient as it is said to a next hop, see SenderFor.
func (r *Recipient) AddressFor(smtputf8 bool) message.Address {
	return given(r.Address, r.Unicode, smtputf8)
}

func given(a message.Address, unicode string, smtputf8 bool) message.Address {
	if smtputf8 && unicode != "" {
		a.Domain = unicode
	}
	return a
}

// Done tells whether every recipient is final.
func (m *Message) Done() bool {
	for i := range m.Recipients {
		if !m.Recipients[i].State.Final() {
			return false
		}
	}
	return true
}
