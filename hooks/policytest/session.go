package policytest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// session is one SMTP session against the chain.
type session struct {
	h        *harness
	chain    *hooks.Chain
	facts    *hooks.Session
	tx       *hooks.Transaction // nil outside a transaction
	discard  bool               // the transaction was answered with a discard
	greeting message.Reply
	closed   bool
}

// connect is t:connect{ip =, …}: a session, its greeting in session.greeting.
func (h *harness) connect(args []any) (any, error) {
	facts, err := table(args, 0)
	if err != nil {
		return nil, err
	}
	entries := append(append([]hooks.Entry{}, h.entries...), hooks.Entry{Name: "recipient rule", Handler: recipientRule{}})
	s := &session{h: h, chain: hooks.NewChain(entries, hooks.Options{Observer: h})}
	if s.facts, err = h.factsOf(facts); err != nil {
		return nil, err
	}
	d := s.run(hooks.Connect, hooks.NewTransaction(s.facts, ""))
	s.greeting = message.Reply{Code: 220, Text: "mx.example.net ESMTP"}
	if d.Verb.Refuses() {
		s.greeting, s.closed = d.Reply, true
	}
	return s.object(), nil
}

// factsOf makes a session out of what t:connect was given.
func (h *harness) factsOf(facts map[string]any) (*hooks.Session, error) {
	s := &hooks.Session{ID: message.NewID(h.time()), Listener: "mx", Protocol: "smtp", Started: h.time()}
	ip, local, port := "192.0.2.7", "192.0.2.25", 49152.0
	for key, v := range facts {
		ok := true
		switch key {
		case "ip":
			ip, ok = v.(string)
		case "local_ip":
			local, ok = v.(string)
		case "port":
			port, ok = v.(float64)
		case "listener":
			s.Listener, ok = v.(string)
		case "protocol":
			s.Protocol, ok = v.(string)
		case "relaying":
			s.Relaying, ok = v.(bool)
		case "user":
			s.User, ok = v.(string)
			s.Authenticated = ok
		case "host":
			var name string
			name, ok = v.(string)
			s.Reverse = func(context.Context) string { return name }
		case "tls":
			s.TLS, ok = tlsOf(v)
		case "early":
		default:
			return nil, fmt.Errorf("connect: %q is none of ip, port, local_ip, listener, protocol, relaying, user, host, tls, early", key)
		}
		if !ok {
			return nil, fmt.Errorf("connect: %s has a wrong type", key)
		}
	}
	client, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, fmt.Errorf("connect: ip: %w", err)
	}
	ours, err := netip.ParseAddr(local)
	if err != nil {
		return nil, fmt.Errorf("connect: local_ip: %w", err)
	}
	s.Client, s.Local = netip.AddrPortFrom(client, uint16(port)), netip.AddrPortFrom(ours, 25)
	return s, h.early(s, facts["early"])
}

func tlsOf(v any) (*hooks.TLSFact, bool) {
	t, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	f := &hooks.TLSFact{}
	f.Version, _ = t["version"].(string)
	f.Cipher, _ = t["cipher"].(string)
	f.Client, _ = t["client"].(string)
	return f, true
}

// early makes the client speak so long after it connected; nil: never. The wait
// goes by on the virtual clock.
func (h *harness) early(s *hooks.Session, v any) error {
	speaks := time.Duration(-1)
	if v != nil {
		var err error
		if speaks, err = spanOf([]any{v}); err != nil {
			return fmt.Errorf("connect: early: %w", err)
		}
	}
	s.Early = func(_ context.Context, wait time.Duration) bool {
		if speaks < 0 || speaks > wait {
			h.pass(wait)
			return false
		}
		h.pass(speaks)
		return true
	}
	return nil
}

func (s *session) object() *lua.Object {
	command := func(f func(args []any) (message.Reply, error)) lua.Function {
		return func(args []any) (any, error) {
			if s.closed {
				return nil, errors.New("the session is closed")
			}
			r, err := f(args)
			if err != nil {
				return nil, err
			}
			return replyValue(r), nil
		}
	}
	return &lua.Object{
		Kind: "a session",
		Methods: map[string]lua.Function{
			"helo": command(func(a []any) (message.Reply, error) { return s.helo(a, false) }),
			"ehlo": command(func(a []any) (message.Reply, error) { return s.helo(a, true) }),
			"mail": command(s.mail), "rcpt": command(s.rcpt), "data": command(s.data), "rset": command(s.rset), "quit": command(s.quit),
		},
		Field: func(name string) (any, bool) {
			switch name {
			case "greeting":
				return replyValue(s.greeting), true
			case "closed":
				return s.closed, true
			}
			return nil, false
		},
	}
}

// run asks a stage, and waits for what runs beside it.
func (s *session) run(at hooks.Stage, tx *hooks.Transaction) hooks.Decision {
	d := s.chain.Run(s.h.ctx, at, tx)
	s.chain.Wait()
	if d.Disconnect {
		s.closed = true
	}
	return d
}

func outOfOrder(what string) message.Reply { return message.NewReply(503, "5.5.1", "%s first", what) }

func (s *session) helo(args []any, extended bool) (message.Reply, error) {
	name, err := text(args, 0)
	if err != nil {
		return message.Reply{}, err
	}
	before, was := s.facts.Helo, s.facts.Extended
	s.facts.Helo, s.facts.Extended = name, extended
	s.tx = nil
	if d := s.run(hooks.Helo, hooks.NewTransaction(s.facts, "")); d.Verb.Refuses() {
		s.facts.Helo, s.facts.Extended = before, was
		return d.Reply, nil
	}
	return message.Reply{Code: 250, Text: "mx.example.net"}, nil
}

// address reads an address with or without its angle brackets.
func address(args []any) (message.Address, error) {
	s, err := text(args, 0)
	if err != nil {
		return message.Address{}, err
	}
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		s = s[1 : len(s)-1]
	}
	return message.ParseAddress(s)
}

func params(args []any) ([]hooks.Param, error) {
	t, err := table(args, 1)
	var list []hooks.Param
	for k, v := range t {
		list = append(list, hooks.Param{Key: strings.ToUpper(k), Value: fmt.Sprint(v)})
	}
	return list, err
}

func (s *session) mail(args []any) (message.Reply, error) {
	sender, err := address(args)
	if err != nil {
		return message.NewReply(501, "5.1.7", "%v", err), nil
	}
	list, err := params(args)
	switch {
	case err != nil:
		return message.Reply{}, err
	case s.facts.Helo == "":
		return outOfOrder("HELO or EHLO"), nil
	case s.tx != nil:
		return outOfOrder("RSET"), nil
	}
	tx := hooks.NewTransaction(s.facts, message.NewID(s.h.time()))
	tx.Sender, tx.Params = sender, list
	d := s.run(hooks.Mail, tx)
	if d.Verb.Refuses() {
		return d.Reply, nil
	}
	s.tx, s.discard = tx, d.Verb == hooks.Discard
	return message.NewReply(250, "2.1.0", "Ok"), nil
}

func (s *session) rcpt(args []any) (message.Reply, error) {
	to, err := address(args)
	if err != nil || to.IsNull() {
		return message.NewReply(501, "5.1.3", "This is no address"), nil
	}
	list, err := params(args)
	switch {
	case err != nil:
		return message.Reply{}, err
	case s.tx == nil:
		return outOfOrder("MAIL"), nil
	}
	r := &hooks.Recipient{Address: to, Given: to, Params: list, Ours: s.h.ours(to.Domain)}
	s.tx.Current = r
	d := s.run(hooks.Rcpt, s.tx)
	s.tx.Current = nil
	if d.Verb.Refuses() {
		return d.Reply, nil
	}
	if d.Verb != hooks.Discard {
		s.tx.Recipients = append(s.tx.Recipients, r)
	}
	return message.NewReply(250, "2.1.5", "Ok"), nil
}

// data is session:data(text): DATA, the message and its end. Lines may end in LF.
func (s *session) data(args []any) (message.Reply, error) {
	content, err := text(args, 0)
	if err != nil {
		return message.Reply{}, err
	}
	tx := s.tx
	if tx == nil || len(tx.Recipients) == 0 {
		return outOfOrder("RCPT"), nil
	}
	s.tx = nil
	d := s.run(hooks.Data, tx)
	if d.Verb.Refuses() {
		return d.Reply, nil
	}
	content = strings.ReplaceAll(strings.ReplaceAll(content, "\r\n", "\n"), "\n", "\r\n")
	dropped := s.discard || d.Verb == hooks.Discard
	tx.Size = int64(len(content))
	n, _ := message.HeaderLen([]byte(content))
	tx.Header = message.ParseHeader([]byte(content[:n]))
	for _, at := range []hooks.Stage{hooks.Headers, hooks.Message, hooks.Queue} {
		if at == hooks.Message {
			tx.Body = message.Bytes(content)
		}
		if d = s.run(at, tx); d.Verb.Refuses() {
			return d.Reply, nil
		}
		if d.Verb == hooks.Discard {
			dropped = true
		}
		if dropped || d.Verb == hooks.Quarantine || d.Verb == hooks.Hold {
			break
		}
	}
	if !dropped {
		s.keep(tx, d, content[n:])
	}
	return message.NewReply(250, "2.0.0", "Ok: queued as %s", tx.ID), nil
}

// keep notes a message that was taken on.
func (s *session) keep(tx *hooks.Transaction, d hooks.Decision, rest string) {
	recipients, tags := []any{}, []any{}
	for _, r := range tx.Recipients {
		recipients = append(recipients, r.Address.String())
	}
	for _, tag := range tx.Tags {
		tags = append(tags, tag)
	}
	one := map[string]any{
		"id": tx.ID, "sender": tx.Sender.String(), "recipients": recipients, "text": string(tx.Header.Bytes()) + rest, "held": d.Verb == hooks.Hold,
		"tags": tags, "total": tx.Total(), "route": tx.Route, "reason": d.Reason, "notes": map[string]any(tx.Notes),
	}
	if d.Verb == hooks.Quarantine {
		s.h.kept = append(s.h.kept, one)
		return
	}
	s.h.queued = append(s.h.queued, one)
	s.facts.Totals.Messages++
	s.chain.Tell(hooks.Queued, tx)
	s.chain.Wait()
}

func (s *session) rset([]any) (message.Reply, error) {
	s.tx = nil
	return message.NewReply(250, "2.0.0", "Ok"), nil
}

func (s *session) quit([]any) (message.Reply, error) {
	s.closed = true
	s.chain.Tell(hooks.Disconnect, hooks.NewTransaction(s.facts, ""))
	s.chain.Wait()
	return message.NewReply(221, "2.0.0", "Bye"), nil
}
