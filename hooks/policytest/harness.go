package policytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// harness is what one test has: t.
type harness struct {
	ctx        context.Context
	cancel     context.CancelFunc
	options    Options
	discard    *slog.Logger
	memory     store.Store
	maps       lookup.Memory
	pool       *lua.Pool
	domains    []string
	users      string // the password file
	configured *Config
	closers    []io.Closer
	world      *world
	calls      chan func() // functions of the test that the mail path calls
	sessions   []*dialogue
	serving    sync.WaitGroup // of the services

	mu      sync.Mutex // the mail path looks at these beside the test
	entries []hooks.Entry
	ticks   map[string]time.Time // of policies with stage tick, by name
	now     time.Time
	zone    *dns.Zone
	tls     map[netip.AddrPort]*hooks.TLSFact // what t:connect says of clients
	trace   []traced
	down    bool // the store fails
	// mapsDown are the maps that fail.
	mapsDown map[string]bool
	places   []place
	load     float64 // of the host
	web      []service
	dialled  []net.Conn // of scripts
	faults   []error    // of what the test gave, such as a function of t:http
	hops     hops
	// placeless: the databases of [geoip] fail.
	placeless bool
	sent      []any
	notices   []any

	queued []any
	kept   []any // in quarantine
}

// begin is the time at which every test begins.
func begin() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

func newHarness(ctx context.Context, o Options) *harness {
	ctx, cancel := context.WithCancel(ctx)
	h := &harness{
		ctx: ctx, cancel: cancel, options: o, discard: slog.New(slog.DiscardHandler), pool: lua.NewPool(0), domains: []string{"example.net"}, now: begin(),
		zone: &dns.Zone{}, calls: make(chan func()), mapsDown: map[string]bool{}, ticks: map[string]time.Time{}, tls: map[netip.AddrPort]*hooks.TLSFact{},
	}
	h.memory = store.Memory(h.time)
	return h
}

func (h *harness) close() error {
	var err error
	if h.world != nil {
		err = h.wait(h.world.close)
	}
	h.cancel()
	h.mu.Lock()
	for _, c := range h.dialled {
		_ = c.Close() // a pipe
	}
	h.mu.Unlock()
	h.serving.Wait()
	for _, c := range h.closers {
		err = errors.Join(err, c.Close())
	}
	return errors.Join(err, h.memory.Close())
}

// fault takes down a mistake in the test that shows beside its calls.
func (h *harness) fault(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, err)
}

func (h *harness) time() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// wait runs f beside the test's Lua, which runs the functions meanwhile that the
// mail path wants of it: all Lua of a test is on one goroutine.
func (h *harness) wait(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case call := <-h.calls:
			call()
		case err := <-done:
			return err
		}
	}
}

// invoke calls a function of the test from the mail path.
func (h *harness) invoke(ctx context.Context, f *lua.Callback, args ...any) (v any, err error) {
	done := make(chan struct{})
	call := func() {
		defer close(done)
		v, err = f.Invoke(args...)
	}
	select {
	case h.calls <- call:
		<-done
		return v, err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.ctx.Done():
		return nil, h.ctx.Err()
	}
}

func (h *harness) object() *lua.Object {
	list := func(of *[]any) lua.Function {
		return func([]any) (any, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return append([]any{}, *of...), nil
		}
	}
	return &lua.Object{Kind: "t", Methods: map[string]lua.Function{
		"policy": h.policy, "config": h.config, "dns": h.dns, "domains": h.setDomains, "users": h.setUsers, "store": h.setStore, "lookup": h.setLookup, "geoip": h.setPlaces, "load": h.setLoad, "http": h.http, "tcp": h.tcp,
		"next_hop": h.nextHop, "advance": h.advance, "connect": h.connect, "queue": h.inQueue,
		"trace":     func([]any) (any, error) { return h.traceValue(), nil },
		"now":       func([]any) (any, error) { return float64(h.time().UnixNano()) / 1e9, nil },
		"delivered": list(&h.queued), "quarantined": list(&h.kept), "sent": list(&h.sent), "notices": list(&h.notices),
	}}
}

// text reads an argument that must be a text.
func text(args []any, i int) (string, error) {
	if i < len(args) {
		if s, ok := args[i].(string); ok {
			return s, nil
		}
	}
	return "", fmt.Errorf("argument %d must be a text", i+1)
}

// table reads an argument that may be left out.
func table(args []any, i int) (map[string]any, error) {
	if i >= len(args) || args[i] == nil {
		return nil, nil
	}
	if t, ok := args[i].(map[string]any); ok {
		return t, nil
	}
	if l, ok := args[i].([]any); ok && len(l) == 0 {
		return nil, nil
	}
	return nil, fmt.Errorf("argument %d must be a table of named values", i+1)
}

// policy is t:policy(name, settings, entry): it joins the chain of the sessions
// to come, or takes the place of the policy of that name. entry holds keys of
// [[policy]].
func (h *harness) policy(args []any) (any, error) {
	name, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	settings, err := table(args, 1)
	if err != nil {
		return nil, err
	}
	how, err := table(args, 2)
	if err != nil {
		return nil, err
	}
	file, source, err := h.options.find(name)
	if err != nil {
		return nil, err
	}
	script, problems := lua.Compile(file, source, h.luaOptions())
	if lua.Failed(problems) {
		return nil, complaint(file, problems)
	}
	p, problems := script.Instance(settings)
	if lua.Failed(problems) {
		return nil, complaint(file, problems)
	}
	h.closers = append(h.closers, p)
	e := hooks.Entry{
		Name: p.Name(), Handler: p, Timeout: script.Timeout(), FailOpen: script.FailOpen(), Immune: script.Immune(), DenyAt: script.DenyAt(), Every: script.Every(),
	}
	if err := entryOf(&e, how); err != nil {
		return nil, err
	}
	h.add(e)
	if h.world != nil {
		return nil, h.wait(func() error { h.world.renew(); return nil })
	}
	return nil, nil
}

func (h *harness) add(e hooks.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.entries, func(o hooks.Entry) bool { return o.Name == e.Name }); i >= 0 {
		h.entries[i] = e
	} else {
		h.entries = append(h.entries, e)
	}
	delete(h.ticks, e.Name)
	if e.Every > 0 && e.Mode != hooks.Off && slices.Contains(e.Handler.Stages(), hooks.Tick) {
		h.ticks[e.Name] = h.now.Add(e.Every)
	}
}

func (h *harness) luaOptions() lua.Options {
	return lua.Options{
		Library: h.library(), Modules: h.options.Modules, Dir: h.options.Dir, Pool: h.pool, Coverage: h.options.Coverage,
	}
}

// library is what scripts reach in a test.
func (h *harness) library() lua.Library {
	return lua.Library{
		DNS: (*resolver)(h), Store: scratch{h.memory, h}, Hostname: hostname, Now: h.time, Ours: h.ours, Dial: h.dial, Roots: h.options.secrets.roots(), Metrics: ignored{}, Maps: (*mapped)(h), Log: h.discard,
		Places: (*places)(h), Load: h.loadNow, Pause: func(_ context.Context, wait time.Duration) { h.pass(wait) },
	}
}

// ignored takes what scripts count.
type ignored struct{}

// Count implements lua.Metrics.
func (ignored) Count(string, string, map[string]string, float64) error { return nil }

// Observe implements lua.Metrics.
func (ignored) Observe(string, string, map[string]string, float64) error { return nil }

func complaint(file string, problems []lua.Problem) error {
	lines := make([]string, 0, len(problems))
	for _, p := range problems {
		lines = append(lines, file+":"+p.String())
	}
	return errors.New(strings.Join(lines, "; "))
}

// config is t:config[[…]]: a configuration in the language of postern.toml, for
// all that is no policy by itself, such as [score], [[domain]] and [[route]].
func (h *harness) config(args []any) (any, error) {
	source, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	switch {
	case h.options.Config == nil:
		return nil, errors.New("there is nobody here who reads configurations")
	case h.world != nil:
		return nil, errors.New("write t:config before the first t:connect")
	}
	c, err := h.options.Config(source, h.library())
	if err != nil {
		return nil, err
	}
	for _, e := range c.Entries {
		if closer, ok := e.Handler.(io.Closer); ok {
			h.closers = append(h.closers, closer)
		}
		h.add(e)
	}
	c.Entries = nil
	h.configured = c
	return nil, nil
}

// setDomains is t:domains{ "example.net", … }: which domains are ours.
func (h *harness) setDomains(args []any) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("write t:domains{ \"example.net\" }")
	}
	list, err := textList(args[0])
	switch {
	case err != nil:
		return nil, err
	case h.world != nil:
		return nil, errors.New("write t:domains before the first t:connect")
	}
	h.domains = list
	return nil, nil
}

// ours tells whether a domain is one of ours.
func (h *harness) ours(domain string) bool {
	if h.configured != nil {
		return h.configured.Intake.Domains.Ours(domain)
	}
	return hooks.MatchDomain(h.domains, domain)
}

// maxSteps is how many things may happen in one advance of the clock.
const maxSteps = 10_000

// advance is t:advance "6m": the clock goes on, and what is due meanwhile happens:
// deliveries and ticks, each at its time.
func (h *harness) advance(args []any) (any, error) {
	span, err := spanOf(args)
	if err != nil {
		return nil, err
	}
	if span < 0 {
		return nil, errors.New("the clock goes forward only")
	}
	h.mu.Lock()
	until, ticking := h.now.Add(span), len(h.ticks) > 0
	h.mu.Unlock()
	if h.world == nil && !ticking {
		h.set(until)
		return nil, nil
	}
	w, err := h.path()
	if err != nil {
		return nil, err
	}
	return nil, h.wait(func() error {
		w.generation()
		for range maxSteps {
			next, err := w.deliver()
			if err != nil {
				return err
			}
			policy, tick := h.nextTick()
			if policy != "" && (next.IsZero() || tick.Before(next)) {
				next = tick
			} else {
				policy = ""
			}
			if next.IsZero() || next.After(until) || h.ctx.Err() != nil {
				h.set(until)
				return context.Cause(h.ctx)
			}
			h.set(next)
			if policy != "" {
				w.chain.Ask(h.ctx, hooks.Tick, policy)
			}
		}
		return fmt.Errorf("more than %d things happen in that time; advance by less", maxSteps)
	})
}

// nextTick is the policy that ticks next, and takes its turn.
func (h *harness) nextTick() (policy string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, t := range h.ticks {
		if policy == "" || t.Before(at) || t.Equal(at) && name < policy {
			policy, at = name, t
		}
	}
	return policy, at
}

// set moves the clock to a time that is not before its own.
func (h *harness) set(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.After(h.now) {
		h.now = at
	}
	for i := range h.entries {
		name := h.entries[i].Name
		if t, ok := h.ticks[name]; ok && !t.After(h.now) {
			h.ticks[name] = t.Add(h.entries[i].Every)
		}
	}
}

// pass moves the clock for something that waits.
func (h *harness) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func spanOf(args []any) (time.Duration, error) {
	if len(args) == 1 {
		switch v := args[0].(type) {
		case float64:
			return time.Duration(v * float64(time.Second)), nil
		case string:
			return lua.ParseDuration(v)
		}
	}
	return 0, errors.New(`a time such as "6m" is expected`)
}

// setUsers is t:users{ name = "password" }: who may log in by AUTH.
func (h *harness) setUsers(args []any) (any, error) {
	t, err := table(args, 0)
	if err != nil {
		return nil, err
	}
	if h.world != nil {
		return nil, errors.New("write t:users before the first t:connect")
	}
	var b strings.Builder
	for name, v := range t {
		password, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("users: %s: a password is a text", name)
		}
		hash, err := auth.Hash("scram-sha-256", password)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s:%s\n", name, hash)
	}
	h.users = b.String()
	return nil, nil
}

// noteMessage takes down a message that was taken on.
func (h *harness) noteMessage(m *queue.Message, f hooks.Facts, content []byte) {
	if f.Protocol == "bounce" || f.Protocol == doubleBounce {
		return // t:notices
	}
	one := messageValue(content)
	recipients, tags := []any{}, []any{}
	for _, r := range m.Recipients {
		recipients = append(recipients, r.Address.String())
		if r.Route != "" {
			one["route"] = r.Route
		}
	}
	for _, tag := range f.Tags {
		tags = append(tags, tag)
	}
	scores := map[string]any{}
	for _, s := range f.Scores {
		scores[s.Name] = s.Points
	}
	notes := f.Notes
	if notes == nil {
		notes = map[string]any{}
	}
	one["id"], one["sender"], one["recipients"] = m.ID, m.Sender.String(), recipients
	one["held"], one["quarantined"], one["reason"] = m.Place == queue.Held, m.Place == queue.Quarantined, m.Reason
	one["tags"], one["total"], one["scores"], one["notes"], one["priority"] = tags, f.Total(), scores, notes, float64(f.Priority)
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.Place == queue.Quarantined {
		h.kept = append(h.kept, one)
		return
	}
	h.queued = append(h.queued, one)
}

// noticed takes down a notice to a sender.
func (h *harness) noticed(n *send.Notice) {
	one := messageValue(n.Body)
	one["kind"], one["to"], one["about"] = n.Kind.String(), n.To.String(), n.About.ID
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notices = append(h.notices, one)
}
