package sdk

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// Event is what a stage's method sees. Session is always set; the rest of the
// transaction is set as docs/stages.md tells for each stage. At rcpt, Recipients
// is empty and Current is the one in question. It belongs to the call: nothing of
// it may be used after the method returned. To change something, call one of the
// methods below; all changes of a call are made, in order, or none.
type Event struct {
	*hooks.Transaction
	Stage hooks.Stage

	Accepted  int    // at rcpt: the recipients accepted before
	HeaderCut bool   // Header is only the first MiB of the section
	Prefix    []byte // with Access Prefix: the start of the body
	PrefixCut bool   // and there is more
	File      string // with Access File: the path of the whole message

	// Now is the time that the server's clock tells: in a replay, that of then.
	Now time.Time

	// BodySize is the bytes of the whole message, as Body, File or Stream bring it,
	// where the stage brings one. Size counts what was received, before any policy
	// changed the body.
	BodySize int64

	// With Access Stream: the whole message, where the stage brings one. It is empty
	// at other stages, never nil.
	Stream io.Reader

	edits []hooks.Edit
	file  *os.File
}

func (ev *Event) edit(e hooks.Edit) { ev.edits = append(ev.edits, e) }

// Prepend puts a header field on top. The value is UTF-8 without line ends; the
// server encodes and folds it.
func (ev *Event) Prepend(name, value string) {
	ev.edit(hooks.Edit{Kind: hooks.AddHeader, Name: name, Value: value})
}

// Append puts a header field at the end of the section.
func (ev *Event) Append(name, value string) {
	ev.edit(hooks.Edit{Kind: hooks.AppendHeader, Name: name, Value: value})
}

// Replace puts value into the first field of that name and removes the others.
func (ev *Event) Replace(name, value string) {
	ev.edit(hooks.Edit{Kind: hooks.ReplaceHeader, Name: name, Value: value})
}

// Remove takes the n-th field of that name away, counted from 1 at the top; 0
// takes all.
func (ev *Event) Remove(name string, n int) {
	ev.edit(hooks.Edit{Kind: hooks.RemoveHeader, Name: name, N: n})
}

// AddRecipient adds a recipient.
func (ev *Event) AddRecipient(address string) {
	ev.edit(hooks.Edit{Kind: hooks.AddRecipient, Value: address})
}

// RemoveRecipient takes a recipient away.
func (ev *Event) RemoveRecipient(address string) {
	ev.edit(hooks.Edit{Kind: hooks.RemoveRecipient, Value: address})
}

// ReplaceRecipient puts address in the place of old; where old is "", of the
// current one.
func (ev *Event) ReplaceRecipient(old, address string) {
	ev.edit(hooks.Edit{Kind: hooks.ReplaceRecipient, Name: old, Value: address})
}

// SetRoute sets the next hop, such as "smtp://host:25", of a recipient, or of all
// where recipient is "".
func (ev *Event) SetRoute(recipient, nextHop string) {
	ev.edit(hooks.Edit{Kind: hooks.SetRoute, Name: recipient, Value: nextHop})
}

// SetNote leaves a plain value for later policies and stages of the message; nil
// removes it.
func (ev *Event) SetNote(name string, value any) {
	ev.edit(hooks.Edit{Kind: hooks.SetNote, Name: name, Any: value})
}

// SetConnNote leaves a plain value for the rest of the connection; nil removes it.
func (ev *Event) SetConnNote(name string, value any) {
	ev.edit(hooks.Edit{Kind: hooks.SetConnNote, Name: name, Any: value})
}

// Score adds points under a name, because of why.
func (ev *Event) Score(name string, points float64, why string) {
	ev.edit(hooks.Edit{Kind: hooks.AddScore, Name: name, Number: points, Value: why})
}

// Tag sets a tag, which routes may ask for.
func (ev *Event) Tag(tag string) { ev.edit(hooks.Edit{Kind: hooks.AddTag, Value: tag}) }

// Result leaves a named result for later policies and the trace.
func (ev *Event) Result(name string, fields map[string]any) {
	ev.edit(hooks.Edit{Kind: hooks.SetResult, Name: name, Any: fields})
}

// Skip keeps a named policy from being asked for the rest of the transaction.
func (ev *Event) Skip(policy string) { ev.edit(hooks.Edit{Kind: hooks.SkipPolicy, Value: policy}) }

// SetPriority sets the priority of the message.
func (ev *Event) SetPriority(n int) { ev.edit(hooks.Edit{Kind: hooks.SetPriority, N: n}) }

// SetReceived replaces the text of our Received field, at stage queue.
func (ev *Event) SetReceived(text string) {
	ev.edit(hooks.Edit{Kind: hooks.SetReceived, Value: text})
}

// SetSender sets the reverse-path; "" is the null path.
func (ev *Event) SetSender(address string) {
	ev.edit(hooks.Edit{Kind: hooks.SetSender, Value: address})
}

// SetReturn sets the DSN parameter RET: "full" or "hdrs".
func (ev *Event) SetReturn(value string) { ev.edit(hooks.Edit{Kind: hooks.SetReturn, Value: value}) }

// SetNotify sets the DSN parameter NOTIFY of a recipient, "" the current one:
// never, or some of success, failure and delay.
func (ev *Event) SetNotify(recipient, words string) {
	ev.edit(hooks.Edit{Kind: hooks.SetNotify, Rcpt: recipient, Value: words})
}

// SetRecipientNote leaves a plain value with a recipient, "" the current one; nil
// removes it.
func (ev *Event) SetRecipientNote(recipient, name string, value any) {
	ev.edit(hooks.Edit{Kind: hooks.SetRcptNote, Rcpt: recipient, Name: name, Any: value})
}

// PrependFor puts a header field on top of one recipient's copy alone.
func (ev *Event) PrependFor(recipient, name, value string) {
	ev.edit(hooks.Edit{Kind: hooks.AddRcptHeader, Rcpt: recipient, Name: name, Value: value})
}

// AppendFor puts a header field at the end of one recipient's copy alone.
func (ev *Event) AppendFor(recipient, name, value string) {
	ev.edit(hooks.Edit{Kind: hooks.AppendRcptHeader, Rcpt: recipient, Name: name, Value: value})
}

// RemoveFor takes the n-th field of that name from one recipient's copy; 0 all.
func (ev *Event) RemoveFor(recipient, name string, n int) {
	ev.edit(hooks.Edit{Kind: hooks.RemoveRcptHeader, Rcpt: recipient, Name: name, N: n})
}

// ReplaceBody puts content in the place of the body: a text of a type such as
// "text/plain", or with "" content that fits the fields that are there. An answer
// has at most 1 MiB.
func (ev *Event) ReplaceBody(kind, content string) {
	ev.edit(hooks.Edit{Kind: hooks.ReplaceBody, Name: kind, Value: content})
}

// Footer adds texts to the text parts of the body, each to those of its kind; top:
// in front. Signed and encrypted mail is left alone.
func (ev *Event) Footer(text, html string, top bool) {
	ev.edit(hooks.Edit{Kind: hooks.AddFooter, Any: map[string]any{"text": text, "html": html, "top": top}})
}

// Pardon drops the refusals that deny_at of a policy ("": of all) keeps, for a
// recipient, or for everybody where recipient is "".
func (ev *Event) Pardon(policy, recipient string) {
	ev.edit(hooks.Edit{Kind: hooks.Pardon, Value: policy, Rcpt: recipient})
}

// AddCapability has EHLO say a keyword with its parameters.
func (ev *Event) AddCapability(capability string) {
	ev.edit(hooks.Edit{Kind: hooks.AddCapability, Value: capability})
}

// RemoveCapability has EHLO not say a keyword, which is then not served either.
func (ev *Event) RemoveCapability(keyword string) {
	ev.edit(hooks.Edit{Kind: hooks.RemoveCapability, Value: keyword})
}

// SetPlan changes how a route is gone: key is tls, source or retry, the value is
// one of the configuration's.
func (ev *Event) SetPlan(key, value string) {
	ev.edit(hooks.Edit{Kind: hooks.SetPlan, Name: key, Value: value})
}

// SetNotice sends the notice of stage dsn to somebody else.
func (ev *Event) SetNotice(address string) {
	ev.edit(hooks.Edit{Kind: hooks.SetNotice, Value: address})
}

// Each makes one decision of what judge says of each recipient, at stages message
// and queue. A Pass leaves a recipient to the next policy.
func (ev *Event) Each(judge func(r *hooks.Recipient) Decision) Decision {
	d := Decision{}
	for i, r := range ev.Recipients {
		if one := judge(r); one.Verb != hooks.Pass {
			if d.Each == nil {
				d.Each = map[int]Decision{}
			}
			d.Each[i] = one
		}
	}
	return d
}

// close gives back what the event holds.
func (ev *Event) close() {
	if ev.file != nil {
		ev.file.Close()
	}
}

// file is a message that came by path.
type file struct {
	*os.File
	size int64
}

// Size implements message.Body.
func (f file) Size() int64 { return f.size }

// newEvent reads an event off the wire.
func newEvent(x *proto.Event) (*Event, error) {
	at, ok := hooks.ParseStage(x.Stage)
	if !ok {
		return nil, fmt.Errorf("unknown stage %q", x.Stage)
	}
	r := reader{}
	tx := &hooks.Transaction{
		Session: r.session(x.Session), ID: x.Id, Sender: r.sender(x.Sender), Params: params(x.Params),
		Size: x.Size, Notes: r.notes(x.Notes), Marks: r.marks(x.Marks), Route: x.Route, Priority: int(x.Priority), Received: x.Received,
	}
	for _, one := range x.Recipients {
		tx.Recipients = append(tx.Recipients, r.recipient(one))
	}
	if x.Current != nil {
		tx.Current = r.recipient(x.Current)
	}
	if x.Header != nil {
		tx.Header = message.ParseHeader(x.Header)
	}
	if refusal := x.Refusal; refusal != nil {
		from, _ := hooks.ParseStage(refusal.Stage)
		tx.Refusal = &hooks.Refusal{Stage: from, Policy: refusal.Policy, Reply: reply(refusal.Reply)}
	}
	if try := x.Try; try != nil {
		tx.Try = &hooks.Try{
			Attempt: int(try.Attempt), NextHop: try.NextHop, TLS: try.Tls, Peer: try.Peer, Reply: reply(try.Reply),
			Age: time.Duration(try.AgeMs) * time.Millisecond, Source: try.Source, Retry: try.Retry,
		}
	}
	if l := x.Login; l != nil {
		tx.Login = &hooks.Login{Mechanism: l.Mechanism, User: l.User, Password: l.Password}
	}
	if l := x.Line; l != nil {
		tx.Command = &hooks.Line{Verb: l.Verb, Argument: l.Argument}
	}
	if n := x.Notice; n != nil {
		tx.Notice = &hooks.Notice{Kind: n.Kind, To: r.address(n.To), Recipients: n.Recipients}
	}
	tx.Capabilities = x.Capabilities
	if r.err != nil {
		return nil, r.err
	}
	now := time.Now()
	if x.NowMs != 0 { // a server of revision 3
		now = time.UnixMilli(x.NowMs)
	}
	return &Event{Transaction: tx, Stage: at, Now: now, Accepted: int(x.RecipientCount), HeaderCut: x.HeaderCut, BodySize: x.BodySize, Stream: strings.NewReader("")}, nil
}

// bring puts the message into ev as the policy's access asks for it.
func (a Access) bring(ev *Event, x *proto.Event) error {
	switch a.kind {
	case proto.Access_ACCESS_PREFIX:
		ev.Prefix, ev.PrefixCut = x.Body, x.BodyCut
		return nil
	case proto.Access_ACCESS_FILE:
		ev.File = x.BodyFile
	}
	if x.BodyFile == "" {
		if hasMessage(ev.Stage) && (a.kind == proto.Access_ACCESS_WHOLE || a.kind == proto.Access_ACCESS_FILE) {
			ev.Body = message.Bytes(x.Body) // an empty one is not sent
		}
		return nil
	}
	f, err := os.Open(x.BodyFile)
	if err != nil {
		return fmt.Errorf("the message's file: %w", err)
	}
	ev.file = f
	about, err := f.Stat()
	if err != nil {
		return fmt.Errorf("the message's file: %w", err)
	}
	ev.Body = file{f, about.Size()}
	return nil
}

// hasMessage tells whether the message has come and is brought.
func hasMessage(at hooks.Stage) bool {
	return at == hooks.Message || at == hooks.Queue || at == hooks.Queued
}

// reader turns messages of the wire into the vocabulary and keeps the first error.
type reader struct{ err error }

func (r *reader) address(s string) message.Address { return r.read(s, message.ParseAddress) }

func (r *reader) sender(s string) message.Address { return r.read(s, message.ParseSender) }

func (r *reader) read(s string, parse func(string) (message.Address, error)) message.Address {
	a, err := parse(s)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("address %q: %w", s, err)
	}
	return a
}

func (r *reader) notes(m map[string]*proto.Value) map[string]any {
	if len(m) == 0 {
		return nil
	}
	out, err := proto.PlainMap(m)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("notes: %w", err)
	}
	return out
}

func (r *reader) marks(x *proto.Marks) hooks.Marks {
	m := hooks.Marks{Tags: x.GetTags()}
	for _, s := range x.GetScores() {
		m.Scores = append(m.Scores, hooks.Score{Name: s.Name, Points: s.Points, Why: s.Why})
	}
	for name, fields := range x.GetResults() {
		if m.Results == nil {
			m.Results = map[string]map[string]any{}
		}
		m.Results[name] = r.notes(fields.Values)
	}
	return m
}

func (r *reader) recipient(x *proto.Recipient) *hooks.Recipient {
	return &hooks.Recipient{
		Address: r.address(x.Address), Given: r.address(x.Given), Params: params(x.Params),
		Ours: x.Ours, Route: x.Route, Notes: r.notes(x.Notes),
	}
}

func (r *reader) session(x *proto.Session) *hooks.Session {
	if x == nil {
		x = &proto.Session{}
	}
	s := &hooks.Session{
		ID: x.Id, Listener: x.Listener, Protocol: x.Protocol, Client: addrPort(x.ClientIp, x.ClientPort), Local: addrPort(x.LocalIp, x.LocalPort),
		Helo: x.Helo, Extended: x.Extended, User: x.User, Account: x.Account, Authenticated: x.Authenticated, Relaying: x.Relaying,
		Env: x.Env, Notes: r.notes(x.Notes), Marks: r.marks(x.Marks),
	}
	if x.StartedMs != 0 {
		s.Started = time.UnixMilli(x.StartedMs)
	}
	if x.Tls != nil {
		s.TLS = &hooks.TLSFact{Version: x.Tls.Version, Cipher: x.Tls.Cipher, Client: x.Tls.Client}
	}
	if t := x.Totals; t != nil {
		s.Totals = hooks.Totals{
			Messages: int(t.Messages), Refused: int(t.Refused), Bytes: t.Bytes,
			Duration: time.Duration(t.DurationMs) * time.Millisecond, Transacts: int(t.Transactions),
		}
	}
	if x.Host != "" {
		s.Reverse = hostName(x.Host).reverse
	}
	return s
}

func addrPort(ip string, port uint32) netip.AddrPort {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

func params(list []*proto.Param) []hooks.Param {
	var out []hooks.Param
	for _, p := range list {
		out = append(out, hooks.Param{Key: p.Key, Value: p.Value})
	}
	return out
}

func reply(x *proto.Reply) message.Reply {
	return message.NewReply(int(x.GetCode()), x.GetEnhanced(), x.GetText())
}
