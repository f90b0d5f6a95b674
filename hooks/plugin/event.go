package plugin

import (
	"bytes"
	"context"
	"net/netip"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// newEvent puts on the wire what the plugin is to see of tx; the body is added by
// spool. Nothing of the result refers to what the transaction's owner may change
// later.
func (p *Plugin) newEvent(ctx context.Context, at hooks.Stage, tx *hooks.Transaction) *proto.Event {
	ev := &proto.Event{
		Stage: at.String(), Session: newSession(at, tx.Session), Id: tx.ID,
		RecipientCount: int32(len(tx.Recipients)), Size: tx.Size, Marks: newMarks(&tx.Marks), NowMs: p.o.Now().UnixMilli(),
	}
	if p.about.Host {
		ev.Session.Host = proto.Text(tx.Session.Host(ctx))
	}
	if tx.Refusal != nil {
		ev.Refusal = &proto.Refusal{Stage: tx.Refusal.Stage.String(), Policy: tx.Refusal.Policy, Reply: newReply(tx.Refusal.Reply)}
	}
	if l := tx.Login; l != nil {
		ev.Login = &proto.Login{Mechanism: l.Mechanism, User: proto.Text(l.User), Password: proto.Text(l.Password)}
	}
	if l := tx.Command; l != nil {
		ev.Line = &proto.Line{Verb: proto.Text(l.Verb), Argument: proto.Text(l.Argument)}
	}
	for _, one := range tx.Capabilities {
		ev.Capabilities = append(ev.Capabilities, proto.Text(one))
	}
	if tx.ID == "" {
		return ev
	}
	if n := tx.Notice; n != nil {
		ev.Notice = &proto.Notice{Kind: n.Kind, To: proto.Text(n.To.String())}
		for _, one := range n.Recipients {
			ev.Notice.Recipients = append(ev.Notice.Recipients, proto.Text(one))
		}
	}
	ev.Sender, ev.Params = proto.Text(tx.Sender.String()), newParams(tx.Params)
	ev.Notes, ev.Route, ev.Priority, ev.Received = proto.NewMap(tx.Notes), proto.Text(tx.Route), int32(tx.Priority), proto.Text(tx.Received)
	if tx.Current != nil {
		ev.Current = newRecipient(tx.Current)
	}
	if at != hooks.Rcpt {
		ev.Recipients = make([]*proto.Recipient, len(tx.Recipients))
		for i, r := range tx.Recipients {
			ev.Recipients[i] = newRecipient(r)
		}
	}
	if p.about.Access != proto.Access_ACCESS_NONE && tx.Header != nil {
		ev.Header, ev.HeaderCut = cutHeader(tx.Header.Bytes())
	}
	if tx.Body != nil && hasMessage(at) {
		ev.BodySize = tx.Body.Size()
	}
	if t := tx.Try; t != nil {
		ev.Try = &proto.Try{
			Attempt: int32(t.Attempt), NextHop: proto.Text(t.NextHop), Tls: t.TLS, Peer: proto.Text(t.Peer),
			Reply: newReply(t.Reply), AgeMs: t.Age.Milliseconds(), Source: proto.Text(t.Source), Retry: proto.Text(t.Retry),
		}
	}
	return ev
}

// cutHeader keeps whole lines up to the protocol's bound.
func cutHeader(b []byte) (header []byte, cut bool) {
	if len(b) <= proto.MaxHeader {
		return b, false
	}
	return b[:bytes.LastIndexByte(b[:proto.MaxHeader], '\n')+1], true
}

func newSession(at hooks.Stage, s *hooks.Session) *proto.Session {
	x := &proto.Session{
		Id: s.ID, Listener: proto.Text(s.Listener), Protocol: s.Protocol,
		Helo: proto.Text(s.Helo), Extended: s.Extended, User: proto.Text(s.User), Account: proto.Text(s.Account), Authenticated: s.Authenticated, Relaying: s.Relaying,
		Notes: proto.NewMap(s.Notes), Marks: newMarks(&s.Marks),
	}
	x.ClientIp, x.ClientPort = splitAddr(s.Client)
	x.LocalIp, x.LocalPort = splitAddr(s.Local)
	if !s.Started.IsZero() {
		x.StartedMs = s.Started.UnixMilli()
	}
	if s.TLS != nil {
		x.Tls = &proto.Tls{Version: s.TLS.Version, Cipher: s.TLS.Cipher, Client: proto.Text(s.TLS.Client)}
	}
	if len(s.Env) > 0 {
		x.Env = make(map[string]string, len(s.Env))
		for k, v := range s.Env {
			x.Env[proto.Text(k)] = proto.Text(v)
		}
	}
	if at == hooks.Disconnect {
		t := &s.Totals
		x.Totals = &proto.Totals{
			Messages: int64(t.Messages), Refused: int64(t.Refused), Bytes: t.Bytes,
			DurationMs: t.Duration.Milliseconds(), Transactions: int64(t.Transacts),
		}
	}
	return x
}

func splitAddr(a netip.AddrPort) (ip string, port uint32) {
	if !a.IsValid() {
		return "", 0
	}
	return a.Addr().Unmap().String(), uint32(a.Port())
}

func newMarks(m *hooks.Marks) *proto.Marks {
	if len(m.Scores) == 0 && len(m.Tags) == 0 && len(m.Results) == 0 {
		return nil
	}
	x := &proto.Marks{Tags: make([]string, len(m.Tags))}
	for i, tag := range m.Tags {
		x.Tags[i] = proto.Text(tag)
	}
	for _, s := range m.Scores {
		x.Scores = append(x.Scores, &proto.Score{Name: proto.Text(s.Name), Points: s.Points, Why: proto.Text(s.Why)})
	}
	if len(m.Results) > 0 {
		x.Results = make(map[string]*proto.Map, len(m.Results))
		for name, fields := range m.Results {
			x.Results[proto.Text(name)] = &proto.Map{Values: proto.NewMap(fields)}
		}
	}
	return x
}

func newRecipient(r *hooks.Recipient) *proto.Recipient {
	return &proto.Recipient{
		Address: proto.Text(r.Address.String()), Given: proto.Text(r.Given.String()), Params: newParams(r.Params),
		Ours: r.Ours, Route: proto.Text(r.Route), Notes: proto.NewMap(r.Notes),
	}
}

func newParams(list []hooks.Param) []*proto.Param {
	var out []*proto.Param
	for _, p := range list {
		out = append(out, &proto.Param{Key: proto.Text(p.Key), Value: proto.Text(p.Value)})
	}
	return out
}

func newReply(r message.Reply) *proto.Reply {
	if r.IsZero() {
		return nil
	}
	return &proto.Reply{Code: int32(r.Code), Enhanced: r.Status(), Text: proto.Text(r.Text)}
}
