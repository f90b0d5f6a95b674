package main

import (
	"bytes"
	"context"
	"hash/maphash"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// This file is a replay's engine: past mail goes through the stages, the recipient
// rule, the score and the queue's door of a configuration, as it would with the
// daemon, but with a clock that says the time of then, a memory and a queue of its
// own that are thrown away, and a resolver that remembers.

// judgement is what became of a message.
type judgement struct {
	Verdict string `json:"verdict"`
	Policy  string `json:"policy,omitempty"`
	Stage   string `json:"stage,omitempty"`
	Reply   string `json:"reply,omitempty"`

	refused []string // recipients
	tagged  bool     // it passes with points enough for a tag
	scores  []hooks.Score
}

// judges is a configuration that a replay runs mail through.
type judges struct {
	dir   string // scratch
	queue *queue.Queue
	all   []*judge
}

// judge is one worker's own: its clock, its memory, its policies.
type judge struct {
	queue    *queue.Queue
	record   *record.Recorder
	intake   *intake.Intake
	chain    *hooks.Chain
	store    store.Store
	resolver *lua.Remembered
	tag      *float64 // the points from which mail is tagged; nil: it is not

	mu  sync.Mutex
	now time.Time
}

// openJudges makes n workers of a configuration. Live asks the real DNS what was
// not asked then.
func openJudges(g *global, c *config.Config, n int, live dns.Resolver) (_ *judges, err error) {
	all := &judges{}
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	if all.dir, err = os.MkdirTemp("", "postern-replay-"); err != nil {
		return nil, err
	}
	if all.queue, err = queue.Open(filepath.Join(all.dir, "queue"), pebble.Open, queue.Options{NoSync: true, Reserve: -1}); err != nil {
		return nil, err
	}
	for range n {
		j, err := openJudge(g, c, all, live)
		if err != nil {
			return nil, err
		}
		all.all = append(all.all, j)
	}
	return all, nil
}

func openJudge(g *global, c *config.Config, all *judges, live dns.Resolver) (*judge, error) {
	j := &judge{queue: all.queue, resolver: &lua.Remembered{Live: live}, tag: c.Score.Tag, now: time.Now()}
	dir, err := os.MkdirTemp(all.dir, "record")
	if err != nil {
		return nil, err
	}
	if j.record, err = record.Open(dir, record.Options{MaxSize: 1 << 20}); err != nil {
		return nil, err
	}
	j.store = store.Memory(j.time)
	j.intake = intake.New(intake.Options{
		Queue: all.queue, Record: j.record, Log: slog.New(slog.DiscardHandler),
		Accepted: func(_ *queue.Message, body message.Body) { message.Retain(body)(); release(body) },
	}, replayed(intakeSettings(c, nil)))
	loader := newPolicyLoader(g, slog.New(slog.DiscardHandler), j.resolver, j.store, func(domain string) bool { return j.intake.Ours(domain) })
	loader.library.Now = j.time
	chain, problems := loader.chain(c, hooks.Options{Observer: j.record}, j.intake.RecipientRule())
	if err := problems.Err(); err != nil {
		_ = j.record.Close()
		return nil, err
	}
	j.intake.Reconfigure(replayed(intakeSettings(c, loader.maps)))
	j.chain = chain
	return j, nil
}

// replayed leaves out what would ask a next hop.
func replayed(s intake.Settings) intake.Settings {
	s.Proxied, s.Asked = nil, nil
	return s
}

func release(body message.Body) {
	if r, ok := body.(message.Retainer); ok {
		r.Release()
	}
}

func (a *judges) close() {
	for _, j := range a.all {
		j.chain.Retire()
		_ = j.record.Close() // a scratch file
		_ = j.store.Close()
	}
	if a.queue != nil {
		_ = a.queue.Close()
	}
	if a.dir != "" {
		_ = os.RemoveAll(a.dir)
	}
}

func (j *judge) time() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.now
}

// judge runs one message through the stages, and once more after retry where it is
// deferred, as its sender would do; 0: it stays deferred.
func (j *judge) judge(ctx context.Context, p *pastMail, retry time.Duration) judgement {
	now := j.time()
	if p.at.After(now) || p.at.Before(now.Add(-time.Hour)) {
		now = p.at
	}
	j.set(now)
	is := j.once(ctx, p)
	if retry > 0 && is.Verdict == record.Deferred.String() {
		j.set(now.Add(retry))
		is = j.once(ctx, p)
		j.set(now) // the next one came meanwhile
	}
	return is
}

func (j *judge) set(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now = now
}

func (j *judge) once(ctx context.Context, p *pastMail) judgement {
	j.resolver.Answers = nil
	host, known := "", false
	for _, l := range p.lookups {
		if l.Kind == "host" {
			host, known = l.Answer, true
		}
		j.resolver.Remember(l)
	}
	s := p.session
	s.ID, s.Notes, s.Marks = message.NewID(time.Now()), nil, hooks.Marks{}
	s.Reverse = func(ctx context.Context) string {
		if !known && p.was == nil && j.resolver.Live != nil {
			host, _ = dns.FCrDNS(ctx, j.resolver.Live, s.Client.Addr()) // no name is an answer, too
			known = true
		} else if !known && ctx.Err() == nil { // the Received field takes what is known, and does not ask
			j.resolver.Unknown++
		}
		return host
	}
	conn := &hooks.Transaction{Session: &s}
	stages := []hooks.Stage{hooks.Connect, hooks.Helo}
	if s.TLS != nil {
		stages = append(stages, hooks.TLS)
	}
	for _, at := range stages {
		if d := j.chain.Run(ctx, at, conn); d.Verb.Refuses() {
			return refusedAt(at, d)
		}
	}
	return j.transaction(ctx, p, &s)
}

func refusedAt(at hooks.Stage, d hooks.Decision) judgement {
	verdict := record.Rejected
	switch d.Verb {
	case hooks.Defer, hooks.Drop:
		verdict = record.Deferred
	case hooks.Discard:
		verdict = record.Discarded
	}
	return judgement{Verdict: verdict.String(), Policy: d.By, Stage: at.String(), Reply: d.Reply.String()}
}

func (j *judge) transaction(ctx context.Context, p *pastMail, s *hooks.Session) judgement {
	tx := hooks.NewTransaction(s, message.NewID(time.Now()))
	defer func() { _ = j.queue.Remove(context.WithoutCancel(ctx), tx.ID) }() // where it was queued
	var err error
	if tx.Sender, err = message.ParseSender(p.sender); err == nil {
		tx.Sender, err = intake.Canonical(tx.Sender)
	}
	if err != nil {
		tx.Sender = message.Address{}
	}
	tx.Given, tx.Params, tx.Size = tx.Sender, p.params, int64(len(p.text))
	if d := j.chain.Run(ctx, hooks.Mail, tx); d.Verb.Refuses() || d.Verb == hooks.Discard {
		return refusedAt(hooks.Mail, d)
	}
	var last judgement
	var refused []string
	accepted := 0
	for _, one := range p.recipients {
		a, err := message.ParseAddress(one)
		if err == nil {
			a, err = intake.Canonical(a)
		}
		if err != nil {
			continue
		}
		tx.Current = &hooks.Recipient{Address: a, Given: a}
		j.intake.Untag(tx.Current)
		tx.Current.Ours = j.intake.Ours(tx.Current.Address.Domain)
		switch d := j.chain.Run(ctx, hooks.Rcpt, tx); {
		case d.Verb.Refuses():
			last, refused = refusedAt(hooks.Rcpt, d), append(refused, one)
		case d.Verb == hooks.Discard:
			last = refusedAt(hooks.Rcpt, d)
		default:
			accepted++
			tx.Recipients = append(tx.Recipients, tx.Current)
		}
	}
	tx.Current = nil
	if accepted == 0 {
		last.refused = refused
		return last
	}
	if d := j.chain.Run(ctx, hooks.Data, tx); d.Verb.Refuses() || d.Verb == hooks.Discard {
		return refusedAt(hooks.Data, d)
	}
	found := j.text(ctx, p, tx)
	found.refused = refused
	return found
}

// headerOnly is the verdict on mail of which the header section alone is known,
// and which passed as far as that.
const headerOnly = "passed"

// text hands in the message and takes the verdict that the recorder heard.
func (j *judge) text(ctx context.Context, p *pastMail, tx *hooks.Transaction) judgement {
	m := j.intake.Begin(ctx, j.chain, tx)
	defer m.Abort()
	text := p.text
	if !p.whole {
		n, _ := message.HeaderLen(text)
		text = append(bytes.Clone(text[:n]), "\r\n"...)
	}
	m.Write(text)
	if !p.whole && !m.Refused() {
		return judgement{Verdict: headerOnly}
	}
	reply := m.End(ctx).Reply
	is := judgement{Verdict: record.Queued.String(), Reply: reply.String()}
	for _, e := range j.record.Recent() {
		if e.ID == tx.ID {
			is = judgement{Verdict: e.Verdict, Policy: e.Policy, Stage: e.Stage, Reply: e.Reply.String()}
			break
		}
	}
	is.tagged = passes(is.Verdict) && j.tag != nil && tx.Total() >= *j.tag
	is.scores = tx.Scores
	return is
}

// asHeaderOnly is a judgement as far as the header section alone could lead to it.
func (j judgement) asHeaderOnly() judgement {
	at, _ := hooks.ParseStage(j.Stage)
	if at >= hooks.Message || j.Stage == "" || j.Verdict == record.Queued.String() {
		return judgement{Verdict: headerOnly, refused: j.refused}
	}
	return j
}

// same tells whether two judgements mean the same to the sender and to us.
func (j judgement) same(o judgement) bool {
	return j.Verdict == o.Verdict && (j.Verdict == record.Queued.String() || j.Verdict == headerOnly || j.Policy == o.Policy) && slices.Equal(j.refused, o.refused)
}

// parted hands cases to workers: a client's always to the same one, in their
// order, since policies remember clients.
func parted(ctx context.Context, cases iter.Seq2[*pastMail, error], n int, work func(worker int, p *pastMail)) error {
	lanes := make([]chan *pastMail, n)
	var running sync.WaitGroup
	for i := range lanes {
		lanes[i] = make(chan *pastMail, 16)
		running.Go(func() {
			for p := range lanes[i] {
				if ctx.Err() == nil {
					work(i, p)
				}
			}
		})
	}
	seed := maphash.MakeSeed()
	var failed error
	for p, err := range cases {
		if err != nil {
			failed = err
			break
		}
		if ctx.Err() != nil {
			failed = context.Cause(ctx)
			break
		}
		lanes[maphash.String(seed, network(p.session.Client.Addr()))%uint64(n)] <- p
	}
	for _, lane := range lanes {
		close(lane)
	}
	running.Wait()
	return failed
}

// network is what a client shares with those that policies take for the same.
func network(ip netip.Addr) string {
	bits := 24
	if ip = ip.Unmap(); ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return strings.ToLower(ip.String())
	}
	return prefix.String()
}
