package hooks

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// Session is what belongs to the connection alone: it outlives STARTTLS, RSET
// and every transaction. A field stands here if, and only if, it depends on
// nothing but the connection. Its owner is the connection's goroutine; handlers
// read it during their call and never change it.
type Session struct {
	ID       string
	Listener string // [[listen]] name
	Protocol string // smtp, submission, lmtp, qmqp, qmtp; local or qmail-queue for mail handed over on this host
	Client   netip.AddrPort
	Local    netip.AddrPort
	Started  time.Time

	Helo     string
	Extended bool     // EHLO, not HELO
	TLS      *TLSFact // nil in the clear

	User          string
	Account       string // number of the account that handed mail over on this host; "" where it is not known
	Authenticated bool
	Relaying      bool // may send anywhere: in relay_from, or told so by a rule

	Env    map[string]string // set by the connection rule
	Notes  map[string]any    // shared by policies, for the connection
	Marks                    // carried into each transaction
	Totals Totals            // for disconnect

	// Forwarded is what a trusted client says of the one that stands behind it, for
	// the next transaction's log and story alone; nil where it says nothing.
	Forwarded *Forwarded

	// Reverse finds the client's confirmed name (RFC 8601 section 2.7.3), "" where
	// it has none. It may wait for the DNS; nil where there is nothing to ask.
	Reverse func(context.Context) string
	// Early waits up to wait for bytes that the client sent before it was its
	// turn, and tells whether there are any; nil where it can't be told.
	Early func(ctx context.Context, wait time.Duration) bool
}

// Host is the client's confirmed name or "".
func (s *Session) Host(ctx context.Context) string {
	if s.Reverse == nil {
		return ""
	}
	name := s.Reverse(ctx)
	Looked(ctx, Lookup{Kind: "host", Question: s.Client.Addr().Unmap().String(), Answer: name})
	return name
}

// Forwarded is the attributes of Postfix's XFORWARD command; "" is one that was
// not given or is not available. Nothing is decided by them.
type Forwarded struct{ Name, Addr, Port, Proto, Helo, Ident, Source string }

// String is the attributes that are there as words in the order of the fields:
// "name=… addr=…".
func (f *Forwarded) String() string {
	if f == nil {
		return ""
	}
	var b strings.Builder
	for _, one := range [...][2]string{{"name", f.Name}, {"addr", f.Addr}, {"port", f.Port}, {"proto", f.Proto}, {"helo", f.Helo}, {"ident", f.Ident}, {"source", f.Source}} {
		if one[1] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(one[0] + "=" + one[1])
	}
	return b.String()
}

// TLSFact is what a handshake agreed on.
type TLSFact struct {
	Version string `json:"version"`          // "TLSv1.3"
	Cipher  string `json:"cipher"`           // as IANA names it
	Client  string `json:"client,omitempty"` // subject of a verified client certificate
}

// Totals counts what a connection did.
type Totals struct {
	Messages  int           // accepted
	Refused   int           // negative replies
	Bytes     int64         // of accepted messages
	Duration  time.Duration // set at disconnect
	Transacts int           // transactions begun
}

// Score is a named symbol and its points.
type Score struct {
	Name   string  `json:"name"`
	Points float64 `json:"points"`
	Why    string  `json:"why,omitempty"`
}

// Marks is what policies leave for those after them.
type Marks struct {
	Scores  []Score                   `json:"scores,omitempty"`
	Tags    []string                  `json:"tags,omitempty"`
	Results map[string]map[string]any `json:"results,omitempty"`
	Skipped map[string]bool           `json:"-"` // names of policies that are not asked any more
	Kept    []Kept                    `json:"-"` // refusals that wait for a later stage

	// Pardoned are the policies that are not asked about single recipients at stage rcpt.
	Pardoned map[Pardoned]bool `json:"-"`
}

// Pardoned is a recipient, as the client gave it, and a policy that it is spared.
type Pardoned struct {
	Recipient message.Address
	Policy    string
}

// Kept is a refusal that deny_at of its policy keeps until a later stage.
type Kept struct {
	At            Stage // where it is due
	From          Stage // where it was given
	Decision      Decision
	Recipient     string          // the one that it is about; "" all
	Spared        map[string]bool // recipients that were pardoned; never changed in place
	Authenticated bool            // the client was then: authenticating does not drop it
}

func (m *Marks) clone() Marks {
	return Marks{slices.Clone(m.Scores), slices.Clone(m.Tags), maps.Clone(m.Results), maps.Clone(m.Skipped), slices.Clone(m.Kept), maps.Clone(m.Pardoned)}
}

// Retract takes back what a stage left that found before and left after, so that
// it can be run anew. What was left since then stays.
func (m *Marks) Retract(before, after *Marks) {
	m.Scores = slices.Delete(slices.Clone(m.Scores), len(before.Scores), len(after.Scores))
	m.Tags = slices.Delete(slices.Clone(m.Tags), len(before.Tags), len(after.Tags))
	m.Results, m.Skipped = maps.Clone(m.Results), maps.Clone(m.Skipped)
	for name := range after.Results {
		if old, ok := before.Results[name]; ok {
			m.Results[name] = old
		} else {
			delete(m.Results, name)
		}
	}
	for name := range after.Skipped {
		if !before.Skipped[name] {
			delete(m.Skipped, name)
		}
	}
	m.Kept = slices.Clone(m.Kept)
	for _, k := range after.Kept[min(len(before.Kept), len(after.Kept)):] {
		same := func(o Kept) bool {
			return o.At == k.At && o.Decision.By == k.Decision.By && o.Recipient == k.Recipient
		}
		if i := slices.IndexFunc(m.Kept, same); i >= 0 { // it may have been pardoned
			m.Kept = slices.Delete(m.Kept, i, i+1)
		}
	}
}

// Total is the sum of the points.
func (m *Marks) Total() float64 {
	sum := 0.0
	for _, s := range m.Scores {
		sum += s.Points
	}
	return sum
}

// Tagged tells whether the tag is set.
func (m *Marks) Tagged(tag string) bool { return slices.Contains(m.Tags, tag) }

// Param is one ESMTP parameter of MAIL or RCPT. Key is upper-case.
type Param struct{ Key, Value string }

// Said tells whether a MAIL parameter was given.
func (tx *Transaction) Said(key string) bool {
	return slices.ContainsFunc(tx.Params, func(p Param) bool { return p.Key == key })
}

// Recipient is one recipient of a transaction.
type Recipient struct {
	Address message.Address
	Given   message.Address // as the client gave it, before any replacement
	Params  []Param
	Ours    bool           // its domain is one of ours
	Route   string         // next hop set by a policy, "" otherwise
	Notes   map[string]any // of this recipient
	Edits   []Edit         // of this recipient's copy: rcpt.headers
}

// given is the recipient as the client gave it.
func (r *Recipient) given() message.Address {
	if r.Given.IsNull() {
		return r.Address
	}
	return r.Given
}

// Refusal is what a handler of stage deny judges.
type Refusal struct {
	Stage  Stage
	Policy string // who refused; "" for the protocol engine
	Reply  message.Reply
}

// Login is what a client offers at stage auth. Password is set where the
// mechanism tells it to the server: PLAIN and LOGIN.
type Login struct {
	Mechanism, User string

	Password string `json:"-"`
}

// String leaves the password out, and so does a log or a trace that prints a Login.
func (l Login) String() string { return l.Mechanism + " " + l.User }

// LogValue is String for logs.
func (l Login) LogValue() slog.Value { return slog.StringValue(l.String()) }

// Line is a command at stage command. Verb is upper-case.
type Line struct{ Verb, Argument string }

// Notice is what stage dsn judges.
type Notice struct {
	Kind       string // bounce, delay, success, or double: a bounce that failed, for the postmaster
	To         message.Address
	Recipients []string // that it tells of
}

// Try is what a delivery stage is about.
type Try struct {
	Attempt int    // 1 for the first
	NextHop string // as a route names it: smtp://host:port, mx, local, discard
	TLS     string // none, may…
	Source  string // address that connections leave from, "" the system's choice
	Retry   string // the retry plan, "" the configuration's
	Peer    string // name and address of the server that answered, "" before
	Reply   message.Reply
	Age     time.Duration // since arrival
}

// Transaction is one message's way from MAIL to its last attempt. At connection
// stages it stands for the connection: Session is set and nothing else. What a
// handler sees it must not change: changes are Edits. Session, Header and Body
// are nil before their stage.
type Transaction struct {
	Session *Session
	ID      string // the message's id from MAIL on

	Sender     message.Address
	Given      message.Address // the sender as the client gave it: its domain may have U-labels, Sender's has A-labels
	Params     []Param         // of MAIL
	Recipients []*Recipient
	Current    *Recipient // the one in question at rcpt, route, and outcome stages
	Size       int64      // of the message as received; before it: what SIZE= said

	Header *message.Header
	Body   message.Body // the whole message as received, header section included

	// Original is the whole message as it was received, from stage message on, whatever
	// policies make of Header and Body: what signatures are verified against.
	Original message.Body

	// Came is the header section as it came, for the recorder; where that keeps
	// bodies, the start of the message, and CameBody says so.
	Came     []byte
	CameBody bool

	Notes map[string]any
	Marks
	Route    string // next hop set for all recipients, "" otherwise
	Priority int
	Findings *Findings // of checks that need to run only once; nil where nobody asks
	Received string    // replaces the text of our Received field, "" otherwise

	// Content is 0 until a policy changes the body. Then Body is the whole message
	// as it was changed so far, and its content begins there.
	Content   int64
	bodyEdits int
	origin    map[*Recipient]*Recipient // while edits are applied: of a copy, what it was copied from

	Capabilities []string // at helo: what EHLO will say, keyword and parameters
	Login        *Login   // at auth
	Command      *Line    // at command
	Refusal      *Refusal // at deny
	Try          *Try     // at route, attempt, delivered, deferred, bounced
	Notice       *Notice  // at dsn
}

// NewTransaction begins a transaction of the session; what was marked at
// connection stages carries over.
func NewTransaction(s *Session, id string) *Transaction {
	return &Transaction{Session: s, ID: id, Marks: s.Marks.clone(), Findings: &Findings{}}
}

// Subject is the transaction's id, or at connection stages the session's.
func (tx *Transaction) Subject() string {
	if tx.ID != "" {
		return tx.ID
	}
	return tx.Session.ID
}

// Snapshot is a copy that another goroutine may read while the mail path goes
// on. Its body stays readable until release is called, which must be once.
func (tx *Transaction) Snapshot() (copied *Transaction, release func()) {
	c, s := *tx, *tx.Session
	s.Notes, s.Env, s.Marks = maps.Clone(s.Notes), maps.Clone(s.Env), s.Marks.clone()
	c.Session, c.Marks, c.Notes = &s, tx.Marks.clone(), maps.Clone(tx.Notes)
	c.Recipients = make([]*Recipient, len(tx.Recipients))
	for i, r := range tx.Recipients {
		one := *r
		one.Notes = maps.Clone(r.Notes)
		c.Recipients[i] = &one
		if r == tx.Current {
			c.Current = &one
		}
	}
	if c.Current == tx.Current && tx.Current != nil {
		one := *tx.Current
		c.Current = &one
	}
	if tx.Header != nil {
		c.Header = tx.Header.Clone()
	}
	if tx.Body == nil {
		return &c, func() {}
	}
	body := message.Retain(tx.Body)
	if tx.Original == nil {
		return &c, body
	}
	original := message.Retain(tx.Original)
	return &c, func() { body(); original() }
}

// Facts is the part of a transaction that travels with the queued message, for
// the delivery stages.
type Facts struct {
	Session  string         `json:"session,omitempty"`
	Listener string         `json:"listener,omitempty"`
	Protocol string         `json:"protocol,omitempty"`
	Client   netip.AddrPort `json:"client,omitzero"`
	Helo     string         `json:"helo,omitempty"`
	Extended bool           `json:"extended,omitempty"`
	TLS      *TLSFact       `json:"tls,omitempty"`
	User     string         `json:"user,omitempty"`
	Auth     bool           `json:"authenticated,omitempty"`
	Relaying bool           `json:"relaying,omitempty"`
	Notes    map[string]any `json:"notes,omitempty"`
	Marks
	// Skip is the policies that are not asked about the message any more.
	Skip     []string `json:"skip,omitempty"`
	Priority int      `json:"priority,omitempty"`
	// Rcpts is what belongs to single recipients, by their place in the queued
	// message.
	Rcpts map[int]RcptFacts `json:"rcpts,omitempty"`
}

// RcptFacts is what policies left of one recipient: its notes, and the edits of its
// copy.
type RcptFacts struct {
	Notes map[string]any `json:"notes,omitempty"`
	Edits []Edit         `json:"edits,omitempty"`
}

// Facts extracts what is to be kept.
func (tx *Transaction) Facts() Facts {
	s := tx.Session
	return Facts{
		Session: s.ID, Listener: s.Listener, Protocol: s.Protocol, Client: s.Client, Helo: s.Helo, Extended: s.Extended,
		TLS: s.TLS, User: s.User, Auth: s.Authenticated, Relaying: s.Relaying,
		Notes: tx.Notes, Marks: tx.Marks, Skip: tx.skips(), Priority: tx.Priority, Rcpts: tx.rcptFacts(),
	}
}

// skips are the policies that are not asked any more, of the transaction and of its
// session, sorted.
func (tx *Transaction) skips() []string {
	if len(tx.Skipped) == 0 && len(tx.Session.Skipped) == 0 {
		return nil
	}
	all := maps.Clone(tx.Skipped)
	if all == nil {
		all = map[string]bool{}
	}
	maps.Copy(all, tx.Session.Skipped)
	return slices.Sorted(maps.Keys(all))
}

func (tx *Transaction) rcptFacts() (facts map[int]RcptFacts) {
	for i, r := range tx.Recipients {
		if len(r.Notes) == 0 && len(r.Edits) == 0 {
			continue
		}
		if facts == nil {
			facts = map[int]RcptFacts{}
		}
		facts[i] = RcptFacts{r.Notes, r.Edits}
	}
	return facts
}

// Restore makes the transaction of a queued message out of its facts.
func (f Facts) Restore(id string) *Transaction {
	tx := &Transaction{
		ID: id, Notes: f.Notes, Marks: f.Marks, Priority: f.Priority, Findings: &Findings{},
		Session: &Session{
			ID: f.Session, Listener: f.Listener, Protocol: f.Protocol, Client: f.Client, Helo: f.Helo, Extended: f.Extended,
			TLS: f.TLS, User: f.User, Authenticated: f.Auth, Relaying: f.Relaying,
		},
	}
	if len(f.Skip) > 0 {
		tx.Skipped = make(map[string]bool, len(f.Skip))
		for _, name := range f.Skip {
			tx.Skipped[name] = true
		}
	}
	return tx
}
