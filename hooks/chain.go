package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// Handler is the one seam between the mail path and whatever decides: a Lua
// script, a plugin process, a rule of our own. It is called from many goroutines
// at once. It must not change what it is given, and must return soon after ctx is
// done; an error, or a decision that the stage does not allow, is a failure of
// the policy and never a verdict. A Handler that is an io.Closer is closed when
// its generation is over.
type Handler interface {
	// Name is what traces and logs call it where its entry names nothing else.
	Name() string
	// Stages lists where it wants to be asked.
	Stages() []Stage
	// Handle decides.
	Handle(ctx context.Context, at Stage, tx *Transaction) (Decision, error)
}

// HandlerRun is one handler's part in a StageRun.
type HandlerRun struct {
	Policy   string
	Verb     Verb
	Reply    message.Reply // of a refusal, as it would be sent
	Reason   string
	Edits    []Edit
	Duration time.Duration
	Shadow   bool
	Err      error // the failure, where it failed; Verb is then what its failure policy made of it
	Lookups  []Lookup
}

// StageRun is what happened at one stage.
type StageRun struct {
	Stage     Stage
	Time      time.Time
	Recipient string // at stages about one recipient
	Handlers  []HandlerRun
}

// Observer is told of every stage that asked somebody. It is called from many
// goroutines, must be quick, and may keep run but not tx.
type Observer interface {
	Stage(tx *Transaction, run StageRun)
}

// Chain is the handlers of one configuration generation, in their order. It is
// safe for concurrent use and never changes; a reload builds another one.
type Chain struct {
	Generation int

	observer Observer
	log      *slog.Logger
	entries  []*link
	stages   [stageEnd][]*link
	keeps    bool           // a policy has deny_at
	due      [stageEnd]bool // where one may be due

	aside   sync.WaitGroup // shadow policies and observers that nobody waits for
	places  chan struct{}  // bounds them
	skipped atomic.Uint64

	ticks sync.WaitGroup

	mu      sync.Mutex
	users   int
	retired bool
	loaded  bool   // Start was called
	stop    func() // ends the ticks
}

type link struct {
	Entry
	counters
}

// Options of NewChain.
type Options struct {
	Generation int
	Observer   Observer     // may be nil
	Log        *slog.Logger // nil: none
}

// asideLimit is how many shadow and observer calls may be under way at once;
// what comes beyond is counted and left out, so that a slow shadow policy can't
// hold memory without bound.
const asideLimit = 256

// NewChain builds a chain of the entries whose mode is not Off.
func NewChain(entries []Entry, o Options) *Chain {
	c := &Chain{Generation: o.Generation, observer: o.Observer, log: o.Log, places: make(chan struct{}, asideLimit)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for _, e := range entries {
		if e.Name == "" {
			e.Name = e.Handler.Name()
		}
		if e.Timeout == 0 {
			e.Timeout = DefaultTimeout
		}
		l := &link{Entry: e}
		c.entries = append(c.entries, l)
		if e.Mode == Off {
			continue
		}
		if e.DenyAt != 0 {
			c.keeps, c.due[e.DenyAt], c.due[Message] = true, true, true
		}
		for _, at := range e.Handler.Stages() {
			if !slices.Contains(c.stages[at], l) {
				c.stages[at] = append(c.stages[at], l)
			}
		}
	}
	return c
}

// Has tells whether anybody wants to be asked at the stage, or may have kept a
// refusal for it.
func (c *Chain) Has(at Stage) bool { return len(c.stages[at]) > 0 || c.due[at] }

// Asks tells whether somebody whose answer counts would be asked about tx at the
// stage.
func (c *Chain) Asks(at Stage, tx *Transaction) bool {
	return slices.ContainsFunc(c.stages[at], func(l *link) bool { return l.Mode == Enforce && l.applies(tx) })
}

// Handlers lists the policies' handlers in their order.
func (c *Chain) Handlers() []Handler {
	list := make([]Handler, 0, len(c.entries))
	for _, l := range c.entries {
		list = append(list, l.Handler)
	}
	return list
}

// Counts tells how the policies did, in their order.
func (c *Chain) Counts() []Count {
	list := make([]Count, 0, len(c.entries))
	for _, l := range c.entries {
		n := Count{Name: l.Name, Mode: l.Mode, Calls: l.calls.Load(), Failures: l.failures.Load()}
		for v := range n.Verbs {
			n.Verbs[v] = l.verbs[v].Load()
		}
		list = append(list, n)
	}
	return list
}

// Run asks the stage's handlers in order until one decides, applies their edits
// to tx, and returns the decision, its reply filled in; a Pass means that the
// stage's default applies. A refusal goes through the handlers of deny first.
// Run always answers: a handler that fails is a deferral, or a pass where its
// entry is FailOpen. For one tx it is called by one goroutine at a time.
func (c *Chain) Run(ctx context.Context, at Stage, tx *Transaction) Decision {
	list := c.stages[at]
	if len(list) == 0 && !c.owes(at, tx) {
		return Decision{}
	}
	run := StageRun{Stage: at, Time: time.Now()}
	if tx.Current != nil {
		run.Recipient = tx.Current.Address.String()
	}
	d, parts := c.first(ctx, list, at, tx, &run)
	d = c.late(ctx, at, tx, d, &parts, &run)
	parts.join(tx, &d)
	if c.observer != nil && len(run.Handlers) > 0 {
		c.observer.Stage(tx, run)
	}
	return d
}

// first asks the handlers until one decides, or every recipient is decided.
func (c *Chain) first(ctx context.Context, list []*link, at Stage, tx *Transaction, run *StageRun) (d Decision, parts apart) {
	for _, l := range list {
		if !l.applies(tx) {
			continue
		}
		if l.Mode == Shadow {
			c.runAside(ctx, l, at, tx)
			continue
		}
		if run.Handlers == nil {
			run.Handlers = make([]HandlerRun, 0, len(list))
		}
		judged := tx.Recipients
		d = c.ask(ctx, l, at, tx, run)
		if len(d.Each) > 0 {
			parts.take(ctx, c, at, tx, judged, d)
			d.Each = nil
			if len(tx.Recipients) == 0 {
				return Decision{Edits: d.Edits, By: d.By}, parts
			}
		}
		if d.Verb == Pass {
			continue
		}
		if !d.Verb.Refuses() || at == Deny || !c.deny(ctx, at, tx, &d) {
			return d, parts
		}
	}
	return Decision{}, parts // a refusal that was cancelled is none
}

// Tell runs a stage that only observes, beside the mail path, on a snapshot.
func (c *Chain) Tell(at Stage, tx *Transaction) {
	for _, l := range c.stages[at] {
		if l.applies(tx) {
			c.runAside(context.Background(), l, at, tx)
		}
	}
}

// Refuse shows a refusal of the protocol engine, such as a syntax error, to the
// handlers of deny and returns the reply to send.
func (c *Chain) Refuse(ctx context.Context, at Stage, tx *Transaction, reply message.Reply) (_ message.Reply, disconnect bool) {
	if !c.Has(Deny) {
		return reply, false
	}
	d := Decision{Verb: Reject, Reply: reply}
	if reply.Temporary() {
		d.Verb = Defer
	}
	if c.deny(ctx, at, tx, &d) {
		return reply, false // a refusal of the engine stands on facts: only its text can change
	}
	return d.Reply, d.Disconnect
}

// deny asks the handlers of deny about d, which they may replace. It tells
// whether they cancelled it.
func (c *Chain) deny(ctx context.Context, at Stage, tx *Transaction, d *Decision) (cancelled bool) {
	if !c.Has(Deny) {
		return false
	}
	tx.Refusal = &Refusal{Stage: at, Policy: d.By, Reply: d.Reply}
	answer := c.Run(ctx, Deny, tx)
	tx.Refusal = nil
	switch answer.Verb {
	case Accept:
		return true
	case Reject, Defer, Drop:
		*d = answer
	}
	return false
}

func (l *link) applies(tx *Transaction) bool {
	if len(tx.Pardoned) > 0 && tx.Current != nil && tx.Pardoned[Pardoned{tx.Current.given(), l.Name}] {
		return false
	}
	return !tx.Skipped[l.Name] && !tx.Session.Skipped[l.Name] && !l.immune(tx.Session) && l.sampled(tx.Session) && l.When.Matches(tx)
}

// ask calls one handler and settles what it answered.
func (c *Chain) ask(ctx context.Context, l *link, at Stage, tx *Transaction, run *StageRun) Decision {
	start, judged := time.Now(), tx.Recipients
	d, found, err := c.call(ctx, l, at, tx)
	if err == nil && len(d.Edits) > 0 {
		err = apply(at, tx, d.Edits)
	}
	h := HandlerRun{Policy: l.Name, Duration: time.Since(start), Edits: d.Edits, Reason: d.Reason, Err: err, Lookups: found}
	if err != nil {
		d, h.Edits = c.failed(l, at, tx, err), nil
	}
	d.By = l.Name
	complete(at, &d)
	completeEach(at, &d)
	h.Verb = d.Verb
	if d.Verb.Refuses() {
		h.Reply = d.Reply
	}
	if err == nil && l.keep(at, tx, &d) {
		h.Reason = strings.TrimPrefix(h.Reason+", kept until stage "+l.DenyAt.String(), ", ")
		d.Verb = Pass
	}
	l.calls.Add(1)
	l.verbs[h.Verb].Add(1)
	run.Handlers = append(run.Handlers, h)
	c.tellEach(at, tx, judged, h, &d)
	return d
}

// call is the handler's own time: bounded, and safe from its panics.
func (c *Chain) call(ctx context.Context, l *link, at Stage, tx *Transaction) (d Decision, found []Lookup, err error) {
	own := &asked{patience: patience{outer: ctx, until: time.Now().Add(l.Timeout)}}
	ctx = own
	defer own.end()
	defer func() { found = own.lookups() }()
	defer func() {
		if p := recover(); p != nil {
			d, err = Decision{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	d, err = l.Handler.Handle(ctx, at, tx)
	if err != nil {
		if ctx.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("no answer within %s: %w", l.Timeout, err)
		}
		return Decision{}, nil, err
	}
	if row := at.Row(); !row.Observe && !row.Allows(d.Verb) {
		return Decision{}, nil, fmt.Errorf("%q is no decision of stage %s", d.Verb, at)
	}
	if err := errors.Join(checkReply(&d), checkEach(at.Row(), tx, &d)); err != nil {
		return Decision{}, nil, err
	}
	if d.Verb == Accept && at == Auth && d.User == "" {
		return Decision{}, nil, errors.New("accept at stage auth names no user")
	}
	if d.Verb == Accept && d.Reply.Code != 0 && d.Reply.Code/100 != 2 {
		return Decision{}, nil, fmt.Errorf("%s with the code %d", d.Verb, d.Reply.Code)
	}
	if slices.ContainsFunc(d.Edits, func(e Edit) bool { return e.Kind == AddFooter }) {
		d.Edits = slices.Clone(d.Edits) // apply tells in them how it was done
	}
	return d, nil, nil
}

// checkReply tells where a decision's code says something else than its verb.
func checkReply(d *Decision) error {
	if d.Verb == Reject && !d.Reply.IsZero() && !d.Reply.Permanent() || d.Verb == Defer && !d.Reply.IsZero() && !d.Reply.Temporary() {
		return fmt.Errorf("%s with the code %d", d.Verb, d.Reply.Code)
	}
	return nil
}

func (c *Chain) failed(l *link, at Stage, tx *Transaction, err error) Decision {
	l.failures.Add(1)
	c.log.Error("policy failed", "policy", l.Name, "stage", at.String(), "id", tx.Subject(), "on_failure", l.onFailure(), "error", err)
	if l.FailOpen && !errors.Is(err, ErrBody) || at.Row().Observe || !at.Row().Allows(Defer) {
		return Decision{}
	}
	return Decision{Verb: Defer, Reply: message.NewReply(451, "4.3.0", "Policy %s failed, please try again later", l.Name)}
}

func (l *link) onFailure() string {
	if l.FailOpen {
		return "pass"
	}
	return "defer"
}

// complete fills in what a decision left to the stage's defaults.
func complete(at Stage, d *Decision) {
	row := at.Row()
	var base message.Reply
	switch d.Verb {
	case Reject:
		base = row.Reject
	case Defer:
		base = row.Defer
	case Drop:
		base = message.Reply{Code: 421, Enhanced: [3]int{4, 7, 0}, Text: "Closing the connection"}
		d.Reply.Code, d.Disconnect = 421, true
	default:
		return
	}
	if d.Reply.Code == 0 {
		d.Reply.Code = base.Code
	}
	if d.Reply.Enhanced == [3]int{} {
		d.Reply.Enhanced = base.Enhanced
	}
	d.Reply.Enhanced[0] = d.Reply.Code / 100
	if d.Reply.Text == "" {
		d.Reply.Text = base.Text
	}
}

var errTooMany = errors.New("left out: too many shadow and observer calls under way")

// runAside asks a handler that nobody waits for, on a snapshot of tx.
func (c *Chain) runAside(ctx context.Context, l *link, at Stage, tx *Transaction) {
	select {
	case c.places <- struct{}{}:
	default:
		l.failures.Add(1)
		if n := c.skipped.Add(1); n == 1 || n%1000 == 0 {
			c.log.Warn("policy left out", "policy", l.Name, "stage", at.String(), "times", n, "error", errTooMany)
		}
		return
	}
	snap, release := tx.Snapshot()
	ctx = context.WithoutCancel(ctx)
	c.aside.Go(func() {
		defer func() { <-c.places }()
		defer release()
		start, judged := time.Now(), snap.Recipients
		d, found, err := c.call(ctx, l, at, snap)
		if err == nil {
			err = apply(at, snap, d.Edits)
		}
		h := HandlerRun{Policy: l.Name, Reason: d.Reason, Edits: d.Edits, Duration: time.Since(start), Shadow: l.Mode == Shadow, Err: err, Lookups: found}
		if err != nil {
			d = c.failed(l, at, snap, err)
		}
		complete(at, &d)
		completeEach(at, &d)
		h.Verb = d.Verb
		if d.Verb.Refuses() {
			h.Reply = d.Reply
		}
		l.calls.Add(1)
		l.verbs[d.Verb].Add(1)
		c.tellEach(at, snap, judged, h, &d)
		if c.observer != nil {
			run := StageRun{Stage: at, Time: start, Handlers: []HandlerRun{h}}
			if snap.Current != nil {
				run.Recipient = snap.Current.Address.String()
			}
			c.observer.Stage(snap, run)
		}
	})
}
