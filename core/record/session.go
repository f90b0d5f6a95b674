package record

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// shard is a part of what is under way, found by session.
type shard struct {
	mu       sync.Mutex
	sessions map[string]*session
	loose    int // of sessions: those that nobody announced
}

// session is what is known of a connection outside its transactions.
type session struct {
	runs     []hooks.StageRun // only ever appended to
	leftOut  int
	refusals []refusal
	facts    facts
	known    bool // Connected was called, Disconnected will be
	told     bool // a story of it was written
	touched  time.Time
	open     *open // the transaction under way, nil between them
}

// open is a transaction under way.
type open struct {
	id       string
	started  time.Time
	sender   message.Address
	runs     []hooks.StageRun
	leftOut  int
	seen     []string // recipients that were asked about
	turned   int      // of them, how many were refused by a policy
	refusals []refusal
	unkept   int // refusals beyond the bound
	rcpts    int // refusals at stage rcpt
	decided  decided
}

// decided is the last answer of a policy that was not to let mail go on.
type decided struct {
	by    string
	at    hooks.Stage
	reply message.Reply
}

// refusal is one negative reply.
type refusal struct {
	stage     hooks.Stage
	time      time.Time
	by        string
	recipient string
	reply     message.Reply
}

// facts is what a story tells of the connection.
type facts struct {
	client             netip.AddrPort
	listener, protocol string
	helo, user         string
	tls                *hooks.TLSFact
	local              netip.AddrPort
	extended, relaying bool
}

func factsOf(s *hooks.Session) facts {
	return facts{s.Client, s.Listener, s.Protocol, s.Helo, s.User, s.TLS, s.Local, s.Extended, s.Relaying}
}

// key is the name under which a transaction's session is kept; mail made on
// this host may have none.
func key(tx *hooks.Transaction) string {
	if tx.Session.ID != "" {
		return tx.Session.ID
	}
	return tx.ID
}

func (r *Recorder) shard(key string) *shard {
	return &r.shards[maphash.String(r.seed, key)%shardCount]
}

// session finds or makes the session's entry. The shard is locked.
func (r *Recorder) session(sh *shard, tx *hooks.Transaction, k string, now time.Time) *session {
	s := sh.sessions[k]
	if s != nil {
		return s
	}
	if sh.loose >= maxLoose {
		r.dropOldest(sh)
	}
	s = &session{touched: now, facts: factsOf(tx.Session)}
	sh.sessions[k] = s
	sh.loose++
	return s
}

// dropOldest ends the loose session that was quiet for the longest time.
func (r *Recorder) dropOldest(sh *shard) {
	oldest := ""
	for k, s := range sh.sessions {
		if !s.known && (oldest == "" || s.touched.Before(sh.sessions[oldest].touched)) {
			oldest = k
		}
	}
	if s := sh.sessions[oldest]; s != nil {
		r.end(s, oldest)
		r.forget(sh, oldest, s)
	}
}

func (r *Recorder) forget(sh *shard, k string, s *session) {
	delete(sh.sessions, k)
	if !s.known {
		sh.loose--
	}
}

// transaction finds or begins tx among what is under way. The shard is locked.
func (r *Recorder) transaction(s *session, tx *hooks.Transaction, k string, now time.Time) *open {
	if s.open != nil && s.open.id == tx.ID {
		return s.open
	}
	s.facts = factsOf(tx.Session)
	if s.open != nil {
		r.abandon(s, k)
	}
	s.open = &open{id: tx.ID, started: now, sender: tx.Sender, runs: make([]hooks.StageRun, 0, 8)}
	return s.open
}

func (s *session) add(run hooks.StageRun) {
	if len(s.runs) >= maxSession {
		s.leftOut++
		return
	}
	s.runs = append(s.runs, run)
}

func (o *open) add(run hooks.StageRun) {
	if run.Stage == hooks.Rcpt && run.Recipient != "" {
		o.see(run.Recipient)
	}
	if last := &run.Handlers[len(run.Handlers)-1]; !last.Shadow && last.Verb > hooks.Accept {
		o.decided = decided{last.Policy, run.Stage, last.Reply}
		if run.Stage == hooks.Rcpt && last.Verb.Refuses() {
			o.turned++
		}
	}
	if n := len(o.runs); n >= maxRuns || n >= maxRcptRuns && run.Stage == hooks.Rcpt {
		o.leftOut++
		return
	}
	o.runs = append(o.runs, run)
}

// see remembers a recipient. Several policies at one RCPT report one after the
// other, so the last one is looked at alone; doubles go when the story is written.
func (o *open) see(recipient string) {
	if n := len(o.seen); n < maxRecipients && (n == 0 || o.seen[n-1] != recipient) {
		o.seen = append(o.seen, recipient)
	}
}

// dropQuiet ends loose sessions that were quiet since the given time: their
// owner gave up without a word.
func (r *Recorder) dropQuiet(since time.Time) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for k, s := range sh.sessions {
			if !s.known && s.touched.Before(since) {
				r.end(s, k)
				r.forget(sh, k, s)
			}
		}
		sh.mu.Unlock()
	}
}

// finishAll ends every session, at Close.
func (r *Recorder) finishAll() {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for k, s := range sh.sessions {
			r.end(s, k)
			r.forget(sh, k, s)
		}
		sh.mu.Unlock()
	}
}

// take moves what was gathered of the transaction into its story.
func (r *Recorder) take(d *draft, tx *hooks.Transaction) {
	k := key(tx)
	sh := r.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	d.started = d.ended
	s := sh.sessions[k]
	if s == nil {
		return
	}
	s.told = true
	d.sessionRuns, d.leftOut = slices.Clip(s.runs), s.leftOut
	if o := s.open; o != nil && o.id == tx.ID {
		d.fill(o)
		s.open = nil
	} else if tx.ID == "" {
		d.refusals, s.refusals = s.refusals, nil
		if len(d.sessionRuns) > 0 {
			d.started = d.sessionRuns[0].Time
			if last := d.sessionRuns[len(d.sessionRuns)-1]; len(last.Handlers) > 0 {
				h := last.Handlers[len(last.Handlers)-1]
				d.decided = decided{h.Policy, last.Stage, h.Reply}
			}
		}
	}
	if !s.known && tx.ID != "" {
		r.forget(sh, k, s)
	}
}

func (d *draft) fill(o *open) {
	d.started, d.runs, d.refusals = o.started, o.runs, o.refusals
	d.leftOut += o.leftOut
	d.unkept = o.unkept
	d.decided = o.decided
	d.seen = o.seen
}

// end closes a session's books: the transaction under way, and a connection that
// saw refusals and no story yet. The shard is locked.
func (r *Recorder) end(s *session, k string) {
	if s.open != nil {
		r.abandon(s, k)
	}
	if s.told || len(s.refusals) == 0 {
		return
	}
	r.record(turnedAway(k, s))
}

// turnedAway is the story of a connection that saw nothing but refusals.
func turnedAway(k string, s *session) *draft {
	last := s.refusals[len(s.refusals)-1]
	return &draft{
		id: k, session: k, started: s.refusals[0].time, ended: time.Now(), facts: s.facts,
		verdict: refusalVerdict(last.reply), reply: last.reply, refusals: s.refusals,
		sessionRuns: s.runs, leftOut: s.leftOut, by: last.by,
	}
}

// record counts and writes a story that the recorder ended itself.
func (r *Recorder) record(d *draft) {
	r.metrics.verdict(d.verdict)
	r.list.add(d, r)
}

// abandon writes a transaction that got no verdict: the client went away or began
// anew. Where nothing of it was left standing, the last refusal is its verdict.
func (r *Recorder) abandon(s *session, k string) {
	o := s.open
	s.open, s.told = nil, true
	d := &draft{
		id: o.id, session: k, ended: time.Now(), facts: s.facts, sender: o.sender,
		verdict: Abandoned, sessionRuns: slices.Clip(s.runs), leftOut: s.leftOut,
	}
	d.fill(o)
	all := max(o.rcpts, o.turned) >= len(o.seen)
	switch n := len(o.refusals); {
	case all && n > 0:
		d.reply, d.by = o.refusals[n-1].reply, o.refusals[n-1].by
		d.verdict = refusalVerdict(d.reply)
	case all && o.turned > 0:
		d.reply, d.by = o.decided.reply, o.decided.by
		d.verdict = refusalVerdict(d.reply)
	}
	r.record(d)
}

func refusalVerdict(reply message.Reply) Verdict {
	if reply.Temporary() {
		return Deferred
	}
	return Rejected
}

func addresses(list []*hooks.Recipient) []message.Address {
	out := make([]message.Address, 0, min(len(list), maxRecipients))
	for _, one := range list[:min(len(list), maxRecipients)] {
		out = append(out, one.Address)
	}
	return out
}

// maxHeader bounds what is kept of a header section, in bytes.
const maxHeader = 32 << 10

// Sample is a copy of the start of a message that the recorder is to keep; nil
// where it keeps no bodies.
func (r *Recorder) Sample(b message.Body) []byte {
	if r == nil || !r.o.Bodies || r.o.ReadOnly {
		return nil
	}
	return keepBody(b)
}

// keepBody copies the start of a message.
func keepBody(b message.Body) []byte {
	p := make([]byte, min(b.Size(), maxMessage))
	n, _ := b.ReadAt(p, 0) // what can't be read is missing from the story, no more
	return p[:n]
}

// lower is how addresses are looked up: without case.
func lower(s string) string { return strings.ToLower(s) }
