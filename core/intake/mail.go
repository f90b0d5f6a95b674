package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Answer is what becomes of a message.
type Answer struct {
	Reply      message.Reply // to the whole
	Disconnect bool          // close after the reply
	Queued     bool          // it is ours now
	// Each holds the replies to those recipients that get another one than the
	// rest, where the protocol has a reply for each (LMTP, PRDR). nil: none.
	Each map[*hooks.Recipient]message.Reply
}

// For is the reply to one recipient of the transaction; a nil one, which a
// policy discarded, gets the reply to the whole.
func (a *Answer) For(r *hooks.Recipient) message.Reply {
	if own, ok := a.Each[r]; ok {
		return own
	}
	return a.Reply
}

// Mail is one message on its way in. It belongs to one goroutine.
type Mail struct {
	in    *Intake
	set   *Settings
	ctx   context.Context
	chain *hooks.Chain
	tx    *hooks.Transaction
	draft *queue.Draft
	local bool // made on this host: what RFC 5322 demands is completed

	binary bool // BODY=BINARYMIME: the body may hold what lines may not
	relay  *Relay

	head     []byte // the header section as far as it came
	headLen  int    // its length, once complete
	fields   bool   // it begins with a field
	complete bool
	came     any          // its ARC chain, where it is to be sealed
	changed  message.Body // the message as policies left it, from the end of their stages on

	apart   apart
	refusal *hooks.Decision // remembered; the rest is dropped
	limit   int64           // bytes; 0: none
	kept    *hooks.Decision // quarantine or hold: taken, but not to be sent on
}

// Begin opens a mail for a transaction whose recipients are known. The caller
// ends it with End or Abort.
func (in *Intake) Begin(ctx context.Context, chain *hooks.Chain, tx *hooks.Transaction) *Mail {
	set := in.set.Load()
	return &Mail{
		in: in, set: set, ctx: ctx, chain: chain, tx: tx, draft: in.o.Queue.Begin(tx.ID),
		binary: param(tx.Params, "BODY") == "BINARYMIME", limit: set.messageSize(tx.Session),
	}
}

// Replies of intake.
var (
	errSize    = message.NewReply(552, "5.3.4", "The message is larger than this server takes")
	errHeader  = message.NewReply(552, "5.3.4", "The header section is larger than this server takes")
	errBinary  = message.NewReply(554, "5.6.11", "The header section has NUL, CR alone or LF alone; only a body may be binary (RFC 3030)")
	errControl = message.NewReply(554, "5.6.11", "The message has a NUL, or a CR without LF; encode it (RFC 2045)")
	errHops    = message.NewReply(554, "5.4.6", "Too many Received and Delivered-To fields: the message is in a loop")
	errStored  = message.NewReply(451, "4.3.0", "The message can't be stored now, please try again later")
	errFull    = message.NewReply(452, "4.3.1", "Not enough storage now, please try again later")
)

// Write takes the message's next bytes as they are to be stored: unstuffed, with
// CRLF line ends. It never fails: what stands against the message is remembered
// for End, and the rest is dropped.
func (m *Mail) Write(p []byte) {
	if m.refusal != nil || len(p) == 0 {
		return
	}
	if m.limit > 0 && m.draft.Size()+int64(len(p)) > m.limit {
		m.refuse(hooks.Message, errSize)
		return
	}
	if _, err := m.draft.Write(p); err != nil {
		m.failed("write", err)
		return
	}
	if !m.complete {
		m.scanHeader(p)
	}
}

// maxFirstWord is how much of a message tells whether it begins with a field.
const maxFirstWord = 256

// scanHeader collects the header section and looks for its end.
func (m *Mail) scanHeader(p []byte) {
	from := max(0, len(m.head)-3)
	m.fields = m.fields || len(m.head) > maxFirstWord // StartsHeader has said so
	room := int(m.set.HeaderSize) + 4 - len(m.head)
	m.head = append(m.head, p[:min(len(p), room)]...)
	if bytes.HasPrefix(m.head, []byte("\r\n")) || !m.fields && !message.StartsHeader(m.head) {
		m.headerDone(0)
		return
	}
	if i := bytes.Index(m.head[from:], []byte("\r\n\r\n")); i >= 0 {
		m.headerDone(from + i + 2)
		return
	}
	if len(m.head) > int(m.set.HeaderSize) {
		m.refuse(hooks.Headers, errHeader)
	}
}

// headerDone parses the section of n bytes and asks stage headers.
func (m *Mail) headerDone(n int) {
	m.complete, m.headLen = true, n
	m.head = m.head[:n:n]
	m.tx.Came = m.head
	if m.binary && faulty(m.head) {
		m.refuse(hooks.Headers, errBinary)
		return
	}
	m.tx.Header = message.ParseHeader(m.head)
	if m.tx.Said("SMTPUTF8") && bytes.ContainsFunc(m.head, func(r rune) bool { return r >= 0x80 }) {
		m.tx.Header.AllowUTF8()
	}
	if m.foreign() {
		m.dropForged()
	}
	if m.tx.Header.Count("Received")+m.tx.Header.Count("Delivered-To") > m.set.Hops {
		m.refuse(hooks.Headers, errHops)
		return
	}
	m.judge(hooks.Headers)
}

// faulty tells whether a header section holds what no line may. Its end may lack
// a CRLF where that is the end of the message too.
func faulty(section []byte) bool {
	var ends message.LineEnds
	ends.Scan(section)
	ends.End()
	return ends.Faulty()
}

// Refused tells whether the message is refused already, whatever follows: the
// rest is dropped, and End may be called before it.
func (m *Mail) Refused() bool { return m.refusal != nil && m.refusal.Verb.Refuses() }

// Refuse remembers a refusal of the protocol engine, such as a bare LF in the
// data. The first one counts.
func (m *Mail) Refuse(r message.Reply) { m.refuse(hooks.Message, r) }

func (m *Mail) refuse(at hooks.Stage, r message.Reply) { m.refuseBy(at, "postern", r) }

func (m *Mail) refuseBy(at hooks.Stage, by string, r message.Reply) {
	if m.refusal != nil {
		return
	}
	r, disconnect := m.chain.Refuse(m.ctx, at, m.tx, r)
	d := hooks.Decision{Verb: hooks.Reject, Reply: r, Disconnect: disconnect, By: by}
	if r.Temporary() {
		d.Verb = hooks.Defer
	}
	m.settle(d)
}

// failed remembers a failure of our own storage.
func (m *Mail) failed(what string, err error) {
	m.in.o.Log.Error("message not stored", "id", m.tx.ID, "at", what, "error", err)
	r := errStored
	switch {
	case errors.Is(err, queue.ErrFailed): // even of a full disk nothing more is known
	case errors.Is(err, queue.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		r = errFull
	}
	m.refusal = nil
	m.refuse(hooks.Queue, r)
}

// settle remembers a decision. One that keeps the message leaves it whole; any
// other ends it and frees what was stored.
func (m *Mail) settle(d hooks.Decision) {
	if d.Verb == hooks.Quarantine || d.Verb == hooks.Hold {
		if m.kept == nil || d.Verb == hooks.Quarantine {
			m.kept = &d
		}
		return
	}
	m.refusal = &d
	m.draft.Abort()
}

// judge runs a stage and remembers its decision. A later stage may still refuse
// what an earlier one wanted to keep in quarantine or on hold, never the other
// way round.
func (m *Mail) judge(at hooks.Stage) (ended bool) {
	d := m.chain.Run(m.ctx, at, m.tx)
	for _, r := range m.tx.Recipients { // a policy may have added or replaced some
		r.Ours = m.set.Domains.Ours(r.Address.Domain)
	}
	return m.decide(at, d)
}

// Abort forgets the message: the client went away. It may be called at any time.
func (m *Mail) Abort() {
	m.draft.Abort()
}

// End takes the end of the message and decides: the stages message and queue
// run, the score acts, and what is accepted is committed before it is said. It
// must be called once; ctx bounds the policies, not the commit.
func (m *Mail) End(ctx context.Context) Answer {
	m.ctx = ctx
	defer m.Abort()
	return m.answerEach(m.end())
}

func (m *Mail) end() Answer {
	if m.refusal == nil && !m.complete {
		m.headerDone(len(m.head))
	}
	if m.refusal == nil {
		m.tx.Size = m.draft.Size()
		m.tx.Body = m.draft.Body()
		m.tx.Original = m.tx.Body
		if came := m.in.o.Record.Sample(m.tx.Body); came != nil {
			m.tx.Came, m.tx.CameBody = came, true
		}
		_ = m.judge(hooks.Message) || m.score() || m.judge(hooks.Queue)
		if m.refusal == nil && m.set.Seal != nil && !m.ours() {
			m.came = m.set.Chain(m.ctx, m.tx.Original)
		}
		m.changed, m.tx.Body, m.tx.Original = m.tx.Body, nil, nil
	}
	if m.refusal == nil && m.apart.own != nil {
		m.settleApart()
	}
	if d := m.refusal; d != nil && d.Verb == hooks.Discard {
		return Answer{Reply: m.in.discarded(m.tx, *d)}
	}
	if m.refusal != nil {
		return m.answer()
	}
	if len(m.tx.Recipients) == 0 {
		d := hooks.Decision{By: "postern", Reason: "no recipient is left"}
		if m.apart.gone != nil {
			d = m.apart.own[m.apart.gone[0]]
			m.tx.Recipients = m.apart.gone
		}
		return Answer{Reply: m.in.discarded(m.tx, d)}
	}
	place, why := queue.Active, ""
	if d := m.kept; d != nil {
		place, why = queue.Held, d.By+": "+d.Reason
		if d.Verb == hooks.Quarantine {
			place = queue.Quarantined
		}
	}
	if m.relay != nil && place != queue.Quarantined {
		if answer, ended := m.passOn(place); ended {
			return answer
		}
	}
	return m.commit(place, why)
}

// rules adds the points of [[score.rule]] entries whose conditions hold.
func (m *Mail) rules() {
	run := hooks.StageRun{Stage: hooks.Message, Time: time.Now()}
	for i := range m.set.Score.Rules {
		r := &m.set.Score.Rules[i]
		if !r.When.Holds(m.tx) {
			continue
		}
		m.tx.Scores = append(slices.Clip(m.tx.Scores), r.Score)
		run.Handlers = append(run.Handlers, hooks.HandlerRun{Policy: "score.rule", Edits: []hooks.Edit{
			{Kind: hooks.AddScore, Name: r.Score.Name, Number: r.Score.Points, Value: r.Score.Why},
		}})
	}
	if len(run.Handlers) > 0 {
		m.in.o.Record.Stage(m.tx, run)
	}
}

// score compares the points of all policies with the thresholds.
func (m *Mail) score() (ended bool) {
	m.rules()
	total, s := m.tx.Total(), m.set.Score
	over := func(limit *float64) bool { return limit != nil && total >= *limit }
	d := hooks.Decision{By: "score", Reason: fmt.Sprintf("%.4g points: %s", total, symbols(m.tx.Scores))}
	switch {
	case over(s.Reject):
		d.Verb = hooks.Reject
		d.Reply = message.NewReply(554, "5.7.1", "Refused: the message scores %.4g, the limit is %.4g", total, *s.Reject)
		d.Reply, d.Disconnect = m.chain.Refuse(m.ctx, hooks.Message, m.tx, d.Reply)
	case over(s.Quarantine):
		d.Verb = hooks.Quarantine
	case over(s.Tag):
		d.Edits = []hooks.Edit{
			{Kind: hooks.ReplaceHeader, Name: "X-Spam-Flag", Value: "YES"},
			{Kind: hooks.ReplaceHeader, Name: "X-Spam-Score", Value: fmt.Sprintf("%.4g (%s)", total, symbols(m.tx.Scores))},
			{Kind: hooks.AddTag, Value: "spam"},
		}
		m.tx.Header = m.tx.Header.Clone()
		for _, e := range d.Edits[:2] {
			if err := m.tx.Header.Replace(e.Name, e.Value); err != nil {
				m.in.o.Log.Error("tagging", "id", m.tx.ID, "error", err)
			}
		}
		m.tx.Tags = append(slices.Clone(m.tx.Tags), "spam")
	default:
		return false
	}
	m.in.o.Record.Stage(m.tx, hooks.StageRun{Stage: hooks.Message, Time: time.Now(), Handlers: []hooks.HandlerRun{{
		Policy: d.By, Verb: d.Verb, Reply: d.Reply, Reason: d.Reason, Edits: d.Edits,
	}}})
	return m.decide(hooks.Message, d)
}

// commit stamps the message, makes it durable, and only then says so.
func (m *Mail) commit(place queue.Place, why string) Answer {
	now := m.in.o.Now()
	tx := m.tx
	facts, err := json.Marshal(tx.Facts())
	if err != nil {
		m.failed("notes", err)
		return m.answer()
	}
	if !m.rewritten() {
		return m.answer()
	}
	q := m.envelope(now)
	q.Place, q.Reason, q.Facts = place, why, facts
	whole, span, err := m.signed(m.stamped(now), now)
	if q.Signed = span; err == nil {
		err = m.storeAside(now, whole, span)
	}
	if err != nil {
		m.failed("commit", err)
		return m.answer()
	}
	stored, err := m.draft.Commit(context.WithoutCancel(m.ctx), q, whole.Head, whole.From)
	if err != nil {
		m.endAside(false)
		m.failed("commit", err)
		return m.answer()
	}
	reply := queuedAs(tx.ID)
	verdict := record.Queued
	switch place {
	case queue.Held:
		verdict = record.Held
	case queue.Quarantined:
		verdict = record.Quarantined
	}
	m.noteAside()
	m.in.o.Record.Verdict(tx, verdict, reply, why)
	m.in.o.Record.Entered(q.ID, q.Sender, q.Double, q.Size, tx.Session.Account)
	m.endAside(true)
	if place == queue.Active {
		m.in.o.Accepted(q, stored)
	} else if r, ok := stored.(message.Retainer); ok {
		r.Release()
	}
	m.chain.Tell(hooks.Queued, tx)
	return Answer{Reply: reply, Queued: true}
}

// rewritten puts the body that policies made in the place of the received one,
// before anything is accepted: where that fails, the message is deferred and never
// goes on as it was.
func (m *Mail) rewritten() (ok bool) {
	if m.tx.Content == 0 {
		return true
	}
	body := &message.Rope{}
	body.Add(m.changed, m.tx.Content, m.changed.Size()-m.tx.Content)
	if err := m.draft.Replace(body); err != nil {
		m.failed("the changed body", err)
		return false
	}
	return true
}

// envelope is what the queue keeps of the transaction.
func (m *Mail) envelope(now time.Time) *queue.Message {
	q := &queue.Message{
		ID: m.tx.ID, Arrived: now, Double: m.tx.Session.Protocol == DoubleBounce,
		Recipients: make([]queue.Recipient, 0, len(m.tx.Recipients)),
	}
	envelopeOf(q, m.tx, m.tx.Recipients)
	for i, r := range m.tx.Recipients {
		q.Recipients[i].Held = m.apart.own[r].Verb == hooks.Hold
	}
	return q
}

// envelopeOf fills in what the transaction says of the message, and adds the
// recipients.
func envelopeOf(q *queue.Message, tx *hooks.Transaction, recipients []*hooks.Recipient) {
	q.EightBit = param(tx.Params, "BODY") == "8BITMIME"
	q.Binary = param(tx.Params, "BODY") == "BINARYMIME"
	q.Ret, q.EnvID = param(tx.Params, "RET"), param(tx.Params, "ENVID")
	q.Sender, q.Unicode = spelled(tx.Sender, tx.Given)
	q.SMTPUTF8 = q.SMTPUTF8 || tx.Said("SMTPUTF8") || !q.Sender.IsASCII()
	for _, r := range recipients {
		one := queue.Recipient{Route: r.Route, Next: q.Arrived, Notify: param(r.Params, "NOTIFY"), Original: param(r.Params, "ORCPT")}
		one.Address, one.Unicode = spelled(r.Address, r.Given)
		q.SMTPUTF8 = q.SMTPUTF8 || !one.Address.IsASCII()
		if one.Route == "" {
			one.Route = tx.Route
		}
		if one.Original == "" && r.Given != r.Address && r.Given != one.AddressFor(true) {
			one.Original = r.Given.String()
		}
		q.Recipients = append(q.Recipients, one)
	}
}

// answer is the Answer of a remembered refusal.
func (m *Mail) answer() Answer {
	m.in.o.Record.Verdict(m.tx, verdictOf(m.refusal.Verb), m.refusal.Reply, m.refusal.By)
	return Answer{Reply: m.refusal.Reply, Disconnect: m.refusal.Disconnect}
}
