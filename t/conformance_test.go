package t

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
	"github.com/postern-mta/postern/hooks/plugin"
)

// builtIn answers as testdata/echo does, in Go.
type builtIn struct{}

func (builtIn) Name() string { return "echo" }

func (builtIn) Stages() (list []hooks.Stage) {
	for _, row := range hooks.Stages() {
		list = append(list, row.Stage)
	}
	return list
}

func (builtIn) Handle(_ context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	wish, _ := tx.Session.Notes["wish"].(map[string]any)
	d := hooks.Decision{}
	switch verb, _ := wish["verb"].(string); verb {
	case "each":
		d.Each = map[int]hooks.Decision{}
		for i, r := range tx.Recipients {
			if r.Address.Local == "b" {
				d.Each[i] = hooks.Decision{Verb: hooks.Reject, Reply: message.Reply{Text: "Not for b"}}
			}
		}
	default:
		d.Verb, _ = hooks.ParseVerb(verb)
	}
	switch d.Verb {
	case hooks.Accept:
		if at == hooks.Auth {
			d.User = "jane"
		}
	case hooks.Reject:
		d.Reply = message.NewReply(0, "5.7.9", "No thanks")
	case hooks.Defer:
		d.Reply.Text = "Later"
	case hooks.Discard, hooks.Quarantine, hooks.Hold:
		d.Reason = "because"
	case hooks.Drop:
		d.Reply.Text = "Bye"
	}
	if name, ok := wish["edit"].(string); ok {
		for kind, known := range hooks.EditKinds() {
			if known == name {
				d.Edits = append(d.Edits, wishes()[kind])
			}
		}
	}
	return d, nil
}

// at1 is a handler that is asked at one stage alone.
type at1 struct {
	hooks.Handler
	at hooks.Stage
}

func (h at1) Stages() []hooks.Stage { return []hooks.Stage{h.at} }

// wishes is an edit of every kind, the same as in testdata/echo.
func wishes() map[hooks.EditKind]hooks.Edit {
	const b = "b@example.net"
	all := map[hooks.EditKind]hooks.Edit{
		hooks.AddHeader:        {Name: "X-New", Value: "grüß"},
		hooks.AppendHeader:     {Name: "X-New", Value: "new"},
		hooks.ReplaceHeader:    {Name: "Subject", Value: "other"},
		hooks.RemoveHeader:     {Name: "Received", N: 1},
		hooks.AddRecipient:     {Value: "new@example.net"},
		hooks.RemoveRecipient:  {Value: b},
		hooks.ReplaceRecipient: {Name: b, Value: "other@example.net"},
		hooks.SetRoute:         {Name: b, Value: "smtp://192.0.2.9"},
		hooks.SetNote:          {Name: "n", Any: []any{1.0, "a"}},
		hooks.SetConnNote:      {Name: "n", Any: true},
		hooks.AddScore:         {Name: "sym", Number: 2.5, Value: "why"},
		hooks.AddTag:           {Value: "t"},
		hooks.SetResult:        {Name: "r", Any: map[string]any{"k": "v"}},
		hooks.SkipPolicy:       {Value: "other"},
		hooks.SetPriority:      {N: 7},
		hooks.SetReceived:      {Value: "text"},
		hooks.SetSender:        {Value: "new@example.org"},
		hooks.SetReturn:        {Value: "hdrs"},
		hooks.SetNotify:        {Rcpt: b, Value: "never"},
		hooks.SetRcptNote:      {Rcpt: b, Name: "n", Any: 3.0},
		hooks.AddRcptHeader:    {Rcpt: b, Name: "X-For", Value: "b"},
		hooks.AppendRcptHeader: {Rcpt: b, Name: "X-For", Value: "b"},
		hooks.RemoveRcptHeader: {Rcpt: b, Name: "Received", N: 1},
		hooks.ReplaceBody:      {Name: "text/plain", Value: "new text\r\n"},
		hooks.AddFooter:        {Any: map[string]any{"text": "the end"}},
		hooks.Pardon:           {Value: "other"},
		hooks.AddCapability:    {Value: "X-OURS 1"},
		hooks.RemoveCapability: {Value: "SIZE"},
		hooks.SetPlan:          {Name: "tls", Value: "encrypt"},
		hooks.SetNotice:        {Value: "pm@example.net"},
	}
	for kind, e := range all {
		e.Kind = kind
		all[kind] = e
	}
	return all
}

// judged is a transaction as it is at a stage, with everything that the stage
// says in the table.
func judged(at hooks.Stage, verb, edit string) *hooks.Transaction {
	wish := map[string]any{"verb": verb}
	if edit != "" {
		wish["edit"] = edit
	}
	s := &hooks.Session{
		ID: "session00001", Listener: "mx", Protocol: "smtp", Client: netip.MustParseAddrPort("192.0.2.7:4321"), Helo: "client.example",
		Extended: true, Notes: map[string]any{"wish": wish},
	}
	scope := at.Row().Scope
	if scope == hooks.OfPolicy {
		return &hooks.Transaction{Session: s}
	}
	if scope == hooks.OfConnection && at != hooks.Deny {
		tx := &hooks.Transaction{Session: s}
		switch at {
		case hooks.Helo:
			tx.Capabilities = []string{"PIPELINING", "SIZE 1000"}
		case hooks.Auth:
			tx.Login = &hooks.Login{Mechanism: "PLAIN", User: "jane", Password: "secret"}
		case hooks.Command:
			tx.Command = &hooks.Line{Verb: "VRFY", Argument: "jane"}
		}
		return tx
	}
	tx := hooks.NewTransaction(s, "message00001")
	tx.Sender = message.Address{Local: "a", Domain: "example.org"}
	tx.Given = tx.Sender
	tx.Kept = []hooks.Kept{{At: hooks.Queued, Decision: hooks.Decision{By: "other"}}, {At: hooks.Queued, Decision: hooks.Decision{By: "third"}}}
	for _, local := range []string{"b", "c"} {
		a := message.Address{Local: local, Domain: "example.net"}
		tx.Recipients = append(tx.Recipients, &hooks.Recipient{Address: a, Given: a, Ours: true})
	}
	text := "Received: one\r\nSubject: old\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
	if at >= hooks.Headers && at <= hooks.Queued || at == hooks.DSN {
		tx.Header = message.ParseHeader([]byte(text[:len(text)-9]))
	}
	if at >= hooks.Message && at <= hooks.Queued {
		tx.Body, tx.Size = message.Bytes(text), int64(len(text))
	}
	switch {
	case scope == hooks.OfRecipient || scope == hooks.OfDelivery:
		tx.Current = tx.Recipients[0]
		if at != hooks.Rcpt {
			tx.Try = &hooks.Try{Attempt: 1, NextHop: "mx", TLS: "may"}
		}
	case at == hooks.Deny:
		tx.Refusal = &hooks.Refusal{Stage: hooks.Mail, Policy: "x", Reply: message.NewReply(550, "5.7.1", "no")}
	case at == hooks.DSN:
		tx.Notice = &hooks.Notice{Kind: "bounce", To: tx.Sender, Recipients: []string{"b@example.net"}}
	}
	return tx
}

// leftOver is all that a stage leaves, to be compared.
func leftOver(t *testing.T, d hooks.Decision, tx *hooks.Transaction) string {
	t.Helper()
	type kept struct{ By string }
	var keeps []kept
	for _, k := range tx.Kept {
		keeps = append(keeps, kept{k.Decision.By})
	}
	d.Edits = nil
	for i, one := range d.Each {
		one.Edits = nil
		d.Each[i] = one
	}
	header, body := "", ""
	if tx.Header != nil {
		header = string(tx.Header.Bytes())
	}
	if tx.Body != nil {
		b := make([]byte, tx.Body.Size())
		if _, err := tx.Body.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		body = string(b)
	}
	delete(tx.Session.Notes, "wish")
	out, err := json.MarshalIndent(map[string]any{
		"decision": d, "sender": tx.Sender, "params": tx.Params, "recipients": tx.Recipients, "header": header, "body": body,
		"notes": tx.Notes, "marks": tx.Marks, "skipped": tx.Skipped, "kept": keeps, "route": tx.Route, "priority": tx.Priority, "received": tx.Received,
		"capabilities": tx.Capabilities, "try": tx.Try, "notice": tx.Notice,
		"conn.notes": tx.Session.Notes, "conn.marks": tx.Session.Marks, "conn.skipped": tx.Session.Skipped,
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Every cell of the table of stages gives the same with a handler in Go, in Lua
// and in a process: each verb, legal or not, each edit, legal or not, and
// recipients judged one by one.
func TestConformance(t *testing.T) {
	kinds := conformers(t)
	run := func(at hooks.Stage, verb, edit string) (string, bool) {
		var first string
		for i, h := range kinds {
			c := hooks.NewChain([]hooks.Entry{{Name: "echo", Handler: at1{h, at}, Timeout: time.Minute}}, hooks.Options{})
			tx := judged(at, verb, edit)
			got := leftOver(t, c.Run(t.Context(), at, tx), tx)
			failed := c.Counts()[0].Failures > 0
			if i == 0 {
				first = got
				if legal := tableAllows(at, verb, edit); legal == failed {
					t.Errorf("%s, verb %s, edit %s: failed is %v", at, verb, edit, failed)
				}
				continue
			}
			if got != first {
				t.Errorf("%s, verb %s, edit %s: %s differs from a built-in\n%s\nwant\n%s", at, verb, edit, [...]string{"", "Lua", "a process"}[i], got, first)
				return first, false
			}
		}
		return first, true
	}
	cells := 0
	for _, row := range hooks.Stages() {
		if row.Scope == hooks.OfPolicy {
			continue // asked about nothing, it answers nothing
		}
		for v := hooks.Pass; ; v++ {
			verb, ok := hooks.ParseVerb(v.String())
			if !ok {
				break
			}
			cells++
			run(row.Stage, verb.String(), "")
		}
		if len(judged(row.Stage, "", "").Recipients) > 0 && row.Stage != hooks.Rcpt { // where a process sees recipients
			cells++
			run(row.Stage, "each", "")
		}
		for kind, name := range hooks.EditKinds() {
			if reflect.ValueOf(wishes()[kind]).IsZero() {
				t.Fatalf("there is no example of edit %s", name)
			}
			cells++
			run(row.Stage, "pass", name)
		}
	}
	t.Logf("%d cells, each in three kinds of handler", cells)
}

// tableAllows is what the table says.
func tableAllows(at hooks.Stage, verb, edit string) bool {
	row := at.Row()
	if edit != "" {
		for kind, name := range hooks.EditKinds() {
			if name == edit {
				return row.AllowsEdit(kind)
			}
		}
	}
	if verb == "each" {
		return row.Each
	}
	v, _ := hooks.ParseVerb(verb)
	return row.Observe || row.Allows(v)
}

// conformers are the three kinds of handler.
func conformers(t *testing.T) []hooks.Handler {
	t.Helper()
	source, err := os.ReadFile("testdata/echo/echo.lua")
	if err != nil {
		t.Fatal(err)
	}
	script, problems := lua.Compile("echo.lua", source, lua.Options{Library: lua.Library{Ours: func(string) bool { return true }}})
	if lua.Failed(problems) {
		t.Fatal(problems)
	}
	scripted, problems := script.Instance(nil)
	if lua.Failed(problems) {
		t.Fatal(problems)
	}
	exe := built(t, filepath.Join(t.TempDir(), "echo"), "./testdata/echo")
	process, found, err := plugin.Load(exe, plugin.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil || len(found) > 0 {
		t.Fatal(err, found)
	}
	t.Cleanup(func() { _ = process.Close() })
	for _, h := range []hooks.Handler{scripted, process} {
		if got, want := fmt.Sprint(h.Stages()), fmt.Sprint(builtIn{}.Stages()); got != want {
			t.Errorf("stages %s, want %s", got, want)
		}
	}
	return []hooks.Handler{builtIn{}, scripted, process}
}
