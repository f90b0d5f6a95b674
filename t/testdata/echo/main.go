// Command echo is a plugin that answers what the connection's note "wish" says:
// a verb, and the kind of an edit.
package main

import (
	"context"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
)

type echo struct{}

func (echo) answer(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	wish, _ := ev.Session.Notes["wish"].(map[string]any)
	edit, _ := wish["edit"].(string)
	make1(ev, edit)
	switch verb, _ := wish["verb"].(string); verb {
	case "accept":
		if ev.Stage == hooks.Auth {
			return sdk.AcceptUser("jane"), nil
		}
		return sdk.Accept(), nil
	case "reject":
		return sdk.Reject("5.7.9", "No %s", "thanks"), nil
	case "defer":
		return sdk.Defer("", "Later"), nil
	case "discard":
		return sdk.Discard("because"), nil
	case "quarantine":
		return sdk.Quarantine("because"), nil
	case "hold":
		return sdk.Hold("because"), nil
	case "disconnect":
		return sdk.Disconnect("Bye"), nil
	case "each":
		return ev.Each(func(r *hooks.Recipient) sdk.Decision {
			if r.Address.Local == "b" {
				return sdk.Reject("", "Not for %s", r.Address.Local)
			}
			return sdk.Pass()
		}), nil
	}
	return sdk.Pass(), nil
}

// make1 asks for the edit of a kind.
func make1(ev *sdk.Event, kind string) {
	const b = "b@example.net"
	edits := map[hooks.EditKind]func(){
		hooks.AddHeader:        func() { ev.Prepend("X-New", "grüß") },
		hooks.AppendHeader:     func() { ev.Append("X-New", "new") },
		hooks.ReplaceHeader:    func() { ev.Replace("Subject", "other") },
		hooks.RemoveHeader:     func() { ev.Remove("Received", 1) },
		hooks.AddRecipient:     func() { ev.AddRecipient("new@example.net") },
		hooks.RemoveRecipient:  func() { ev.RemoveRecipient(b) },
		hooks.ReplaceRecipient: func() { ev.ReplaceRecipient(b, "other@example.net") },
		hooks.SetRoute:         func() { ev.SetRoute(b, "smtp://192.0.2.9") },
		hooks.SetNote:          func() { ev.SetNote("n", []any{1.0, "a"}) },
		hooks.SetConnNote:      func() { ev.SetConnNote("n", true) },
		hooks.AddScore:         func() { ev.Score("sym", 2.5, "why") },
		hooks.AddTag:           func() { ev.Tag("t") },
		hooks.SetResult:        func() { ev.Result("r", map[string]any{"k": "v"}) },
		hooks.SkipPolicy:       func() { ev.Skip("other") },
		hooks.SetPriority:      func() { ev.SetPriority(7) },
		hooks.SetReceived:      func() { ev.SetReceived("text") },
		hooks.SetSender:        func() { ev.SetSender("new@example.org") },
		hooks.SetReturn:        func() { ev.SetReturn("hdrs") },
		hooks.SetNotify:        func() { ev.SetNotify(b, "never") },
		hooks.SetRcptNote:      func() { ev.SetRecipientNote(b, "n", 3.0) },
		hooks.AddRcptHeader:    func() { ev.PrependFor(b, "X-For", "b") },
		hooks.AppendRcptHeader: func() { ev.AppendFor(b, "X-For", "b") },
		hooks.RemoveRcptHeader: func() { ev.RemoveFor(b, "Received", 1) },
		hooks.ReplaceBody:      func() { ev.ReplaceBody("text/plain", "new text\r\n") },
		hooks.AddFooter:        func() { ev.Footer("the end", "", false) },
		hooks.Pardon:           func() { ev.Pardon("other", "") },
		hooks.AddCapability:    func() { ev.AddCapability("X-OURS 1") },
		hooks.RemoveCapability: func() { ev.RemoveCapability("SIZE") },
		hooks.SetPlan:          func() { ev.SetPlan("tls", "encrypt") },
		hooks.SetNotice:        func() { ev.SetNotice("pm@example.net") },
	}
	for k, name := range hooks.EditKinds() {
		if name == kind && edits[k] != nil {
			edits[k]()
		}
	}
}

// The stages.

func (e *echo) Connect(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Helo(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) TLS(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Auth(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Mail(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Rcpt(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Data(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Headers(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Queue(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Queued(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Command(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Deny(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Disconnect(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Route(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Attempt(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Delivered(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Deferred(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Bounced(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) DSN(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Tick(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Load(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func (e *echo) Unload(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return e.answer(ctx, ev)
}

func main() {
	sdk.Serve(sdk.Policy{Name: "echo", About: "Answers what it is told to.", Handler: &echo{}, Access: sdk.Whole(), Every: 3600e9})
}
