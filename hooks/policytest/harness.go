package policytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// harness is what one test has: t.
type harness struct {
	ctx     context.Context
	options Options
	memory  store.Store
	pool    *lua.Pool
	domains []string
	entries []hooks.Entry

	mu    sync.Mutex // policies in shadow mode look at these beside the test
	now   time.Time
	zone  *dns.Zone
	trace []any

	queued []any
	kept   []any // in quarantine
}

// begin is the time at which every test begins.
func begin() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

func newHarness(ctx context.Context, o Options) *harness {
	h := &harness{ctx: ctx, options: o, pool: lua.NewPool(0), domains: []string{"example.net"}, now: begin(), zone: &dns.Zone{}}
	h.memory = store.Memory(h.time)
	return h
}

func (h *harness) close() {
	for _, e := range h.entries {
		closeHandler(e.Handler)
	}
	_ = h.memory.Close() // a store in memory has nothing to lose
}

func closeHandler(handler hooks.Handler) {
	if c, ok := handler.(io.Closer); ok {
		_ = c.Close() // a script's states: nothing can fail
	}
}

func (h *harness) time() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *harness) object() *lua.Object {
	return &lua.Object{Kind: "t", Methods: map[string]lua.Function{
		"policy": h.policy, "dns": h.dns, "domains": h.setDomains, "advance": h.advance, "connect": h.connect,
		"trace":       func([]any) (any, error) { return h.traced(), nil },
		"delivered":   func([]any) (any, error) { return append([]any{}, h.queued...), nil },
		"quarantined": func([]any) (any, error) { return append([]any{}, h.kept...), nil },
	}}
}

func (h *harness) traced() []any {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]any{}, h.trace...)
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
// to come, or replaces the policy of that name. entry may hold name and mode.
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
	script, problems := lua.Compile(file, source, lua.Options{
		Library: lua.Library{DNS: (*resolver)(h), Store: h.memory, Now: h.time, Ours: h.ours}, Modules: h.options.Modules, Dir: h.options.Dir, Pool: h.pool,
	})
	if lua.Failed(problems) {
		return nil, complaint(file, problems)
	}
	p, problems := script.Instance(settings)
	if lua.Failed(problems) {
		return nil, complaint(file, problems)
	}
	e := hooks.Entry{Name: p.Name(), Handler: p, Timeout: script.Timeout(), FailOpen: script.FailOpen(), Immune: script.Immune()}
	if other, ok := how["name"].(string); ok {
		e.Name = other
	}
	switch how["mode"] {
	case "shadow":
		e.Mode = hooks.Shadow
	case "off":
		e.Mode = hooks.Off
	case nil, "enforce":
	default:
		closeHandler(p)
		return nil, errors.New(`mode is "enforce", "shadow" or "off"`)
	}
	if i := slices.IndexFunc(h.entries, func(o hooks.Entry) bool { return o.Name == e.Name }); i >= 0 {
		closeHandler(h.entries[i].Handler)
		h.entries[i] = e
	} else {
		h.entries = append(h.entries, e)
	}
	return nil, nil
}

func complaint(file string, problems []lua.Problem) error {
	lines := make([]string, 0, len(problems))
	for _, p := range problems {
		lines = append(lines, file+":"+p.String())
	}
	return errors.New(strings.Join(lines, "; "))
}

// dns is t:dns{…}: what the DNS says from now on. It takes the text of a zone
// file, or tables a, mx, txt, ptr, cname and fail by name.
func (h *harness) dns(args []any) (any, error) {
	var zone *dns.Zone
	var err error
	if len(args) == 1 {
		if s, ok := args[0].(string); ok {
			zone, err = dns.ParseZone(s)
		}
	}
	if zone == nil && err == nil {
		var t map[string]any
		if t, err = table(args, 0); err == nil {
			zone, err = zoneOf(t)
		}
	}
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.zone = zone
	return nil, nil
}

func zoneOf(t map[string]any) (*dns.Zone, error) {
	z := &dns.Zone{
		A: map[string][]string{}, MX: map[string][]string{}, TXT: map[string][]string{}, PTR: map[string][]string{},
		CNAME: map[string]string{}, Fail: map[string]dns.Kind{},
	}
	lists := map[string]map[string][]string{"a": z.A, "mx": z.MX, "txt": z.TXT, "ptr": z.PTR}
	kinds := map[string]dns.Kind{"timeout": dns.Timeout, "servfail": dns.Failure, "nxdomain": dns.NoName, "nodata": dns.NoData}
	for part, names := range t {
		byName, _ := names.(map[string]any)
		for name, value := range byName {
			values, err := textList(value)
			if err != nil {
				return nil, fmt.Errorf("dns: %s: %s: %w", part, name, err)
			}
			kind, isKind := kinds[values[0]]
			switch {
			case lists[part] != nil:
				lists[part][name] = values
			case part == "cname":
				z.CNAME[name] = values[0]
			case part == "fail" && isKind:
				z.Fail[name] = kind
			case part == "fail":
				return nil, fmt.Errorf("dns: fail: %s: write timeout, servfail, nxdomain or nodata", name)
			default:
				return nil, fmt.Errorf("dns: %q is none of a, mx, txt, ptr, cname, fail", part)
			}
		}
	}
	return z, nil
}

// textList reads a text, or a list of texts.
func textList(v any) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	items, _ := v.([]any)
	var list []string
	for _, item := range items {
		s, ok := item.(string)
		if !ok {
			return nil, errors.New("a list of texts is expected")
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return nil, errors.New("a text or a list of texts is expected")
	}
	return list, nil
}

// setDomains is t:domains{ "example.net", … }: which domains are ours.
func (h *harness) setDomains(args []any) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("write t:domains{ \"example.net\" }")
	}
	list, err := textList(args[0])
	if err == nil {
		h.domains = list
	}
	return nil, err
}

func (h *harness) ours(domain string) bool { return hooks.MatchDomain(h.domains, domain) }

// advance is t:advance "6m": the clock goes on.
func (h *harness) advance(args []any) (any, error) {
	span, err := spanOf(args)
	if err != nil {
		return nil, err
	}
	h.pass(span)
	return nil, nil
}

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

// Stage implements hooks.Observer: the trace.
func (h *harness) Stage(_ *hooks.Transaction, run hooks.StageRun) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range run.Handlers {
		edits := []any{}
		for _, e := range r.Edits {
			edits = append(edits, e.String())
		}
		one := map[string]any{
			"stage": run.Stage.String(), "policy": r.Policy, "decision": r.Verb.String(), "reason": r.Reason, "edits": edits, "shadow": r.Shadow, "recipient": run.Recipient,
		}
		if r.Verb.Refuses() {
			one["reply"] = replyValue(r.Reply)
		}
		if r.Err != nil {
			one["error"] = r.Err.Error()
		}
		h.trace = append(h.trace, one)
	}
}

// resolver answers from the zone that the harness has at the time.
type resolver harness

func (r *resolver) current() *dns.Zone {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.zone
}

// LookupA implements dns.Resolver.
func (r *resolver) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	return r.current().LookupA(ctx, host)
}

// LookupAAAA implements dns.Resolver.
func (r *resolver) LookupAAAA(ctx context.Context, host string) ([]netip.Addr, error) {
	return r.current().LookupAAAA(ctx, host)
}

// LookupMX implements dns.Resolver.
func (r *resolver) LookupMX(ctx context.Context, domain string) ([]dns.MX, error) {
	return r.current().LookupMX(ctx, domain)
}

// LookupTXT implements dns.Resolver.
func (r *resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return r.current().LookupTXT(ctx, name)
}

// LookupPTR implements dns.Resolver.
func (r *resolver) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	return r.current().LookupPTR(ctx, addr)
}

// recipientRule answers at rcpt where no policy does, as the mail path's own
// rule: relaying and authenticated clients may send anywhere, others to us.
type recipientRule struct{}

// Name implements hooks.Handler.
func (recipientRule) Name() string { return "recipient rule" }

// Stages implements hooks.Handler.
func (recipientRule) Stages() []hooks.Stage { return []hooks.Stage{hooks.Rcpt} }

// Handle implements hooks.Handler.
func (recipientRule) Handle(_ context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	if tx.Session.Relaying || tx.Session.Authenticated || tx.Current.Ours {
		return hooks.Decision{Verb: hooks.Accept}, nil
	}
	return hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.1", "We do not relay to this domain")}, nil
}
