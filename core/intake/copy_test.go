package intake

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// TestCopy: one recipient's copy has its header section edited behind our Received
// field, and its body as it is.
func TestCopy(t *testing.T) {
	const ours = "Received: from a\r\n\tby b;\r\n\tnow\r\n"
	add := hooks.Edit{Kind: hooks.AddRcptHeader, Name: "X-Top", Value: "top"}
	end := hooks.Edit{Kind: hooks.AppendRcptHeader, Name: "X-End", Value: "end"}
	remove := func(name string, n int) hooks.Edit {
		return hooks.Edit{Kind: hooks.RemoveRcptHeader, Name: name, N: n}
	}
	long := "Subject: x\r\nX-Long: " + strings.Repeat(" y\r\n", 20000) + "To: z\r\n\r\nbody\r\n"
	for name, c := range map[string]struct {
		text  string
		edits []hooks.Edit
		want  string
	}{
		"none":                {"Subject: x\r\n\r\nbody", nil, "Subject: x\r\n\r\nbody"},
		"top and end":         {"Subject: x\r\n\r\nbody\r\n", []hooks.Edit{add, end}, "X-Top: top\r\nSubject: x\r\nX-End: end\r\n\r\nbody\r\n"},
		"not our Received":    {"Received: other\r\nReceived: third\r\n\r\nbody", []hooks.Edit{remove("Received", 1)}, "Received: third\r\n\r\nbody"},
		"none of it":          {"Received: other\r\nX: y\r\n\r\nbody", []hooks.Edit{remove("Received", 0), remove("X", 0), add}, "X-Top: top\r\n\r\nbody"},
		"an empty section":    {"\r\nbody\r\n", []hooks.Edit{add}, "X-Top: top\r\n\r\nbody\r\n"},
		"no section":          {"no header line\r\n\r\nX: y\r\n", []hooks.Edit{add}, "X-Top: top\r\n\r\nno header line\r\n\r\nX: y\r\n"},
		"a section alone":     {"Subject: x\r\n", []hooks.Edit{end}, "Subject: x\r\nX-End: end\r\n"},
		"an empty message":    {"", []hooks.Edit{add}, "X-Top: top\r\n"},
		"a long section":      {long, []hooks.Edit{remove("To", 0), add}, "X-Top: top\r\n" + strings.Replace(long, "To: z\r\n", "", 1)},
		"beyond ASCII":        {"Subject: x\r\n\r\n", []hooks.Edit{{Kind: hooks.AddRcptHeader, Name: "X", Value: "ü"}}, "X: =?utf-8?b?w7w=?=\r\nSubject: x\r\n\r\n"},
		"a body with CRLFs":   {"A: b\r\n\r\n\r\n\r\nx", []hooks.Edit{end}, "A: b\r\nX-End: end\r\n\r\n\r\n\r\nx"},
		"the body is no part": {"A: b\r\n\r\nX: y\r\n\r\n", []hooks.Edit{remove("X", 0)}, "A: b\r\n\r\nX: y\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Copy(message.Bytes(ours+c.text), c.edits, false)
			if err != nil {
				t.Fatal(err)
			}
			text := make([]byte, got.Size())
			if _, err := got.ReadAt(text, 0); err != nil && got.Size() == 0 {
				t.Fatal(err)
			}
			if string(text) != ours+c.want {
				t.Errorf("%.300q, want %.300q", text, ours+c.want)
			}
		})
	}
}

// TestRecipientFactsTravel: notes and edits of single recipients are queued with the
// message, at the places of the recipients that are left.
func TestRecipientFactsTravel(t *testing.T) {
	w := open(t, nil)
	tx := transaction("gone@example.net", "a@example.net", "b@example.net")
	edits := at{hooks.Queue, func(*hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{
			{Kind: hooks.SetRcptNote, Rcpt: "b@example.net", Name: "kind", Any: "list"},
			{Kind: hooks.AddRcptHeader, Rcpt: "b@example.net", Name: "X-For", Value: "b"},
			{Kind: hooks.RemoveRecipient, Value: "gone@example.net"},
			{Kind: hooks.SetPriority, N: 3},
			{Kind: hooks.SetReceived, Value: "by way of a test"},
			{Kind: hooks.SetSender, Value: "bounces@example.net"},
			{Kind: hooks.SetReturn, Value: "hdrs"},
			{Kind: hooks.SetNotify, Rcpt: "a@example.net", Value: "never"},
		}}
	}}
	if a := w.take(t, chain(edits), tx, "Subject: x\r\n\r\nbody\r\n", 100); !a.Queued {
		t.Fatal(a.Reply)
	}
	m := w.taken[0]
	var facts hooks.Facts
	if err := json.Unmarshal(m.Facts, &facts); err != nil {
		t.Fatal(err)
	}
	if one := facts.Rcpts[1]; len(facts.Rcpts) != 1 || one.Notes["kind"] != "list" || len(one.Edits) != 1 || one.Edits[0].Value != "b" || facts.Priority != 3 {
		t.Errorf("facts %s", m.Facts)
	}
	if m.Sender.String() != "bounces@example.net" || m.Ret != "HDRS" || m.Recipients[0].Notify != "NEVER" || m.Recipients[1].Notify != "" {
		t.Errorf("envelope %+v", m)
	}
	if !strings.Contains(w.text, "by way of a test") || strings.Contains(w.text, "X-For") {
		t.Errorf("text %q", w.text)
	}
}

// TestCopiesInProxyMode: recipients with one copy go on with it; with copies of their
// own they can't share the next hop's answer.
func TestCopiesInProxyMode(t *testing.T) {
	for name, c := range map[string]struct {
		values []string
		reply  string
	}{
		"the same":  {[]string{"x", "x"}, "250 2.0.0 taken"},
		"different": {[]string{"x", "y"}, "451 4.3.5"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hop{}
			w := openRelay(t, h)
			tx := transaction("a@proxy.example", "b@proxy.example")
			edit := at{hooks.Message, func(tx *hooks.Transaction) (d hooks.Decision) {
				for i, r := range tx.Recipients {
					d.Edits = append(d.Edits, hooks.Edit{Kind: hooks.AddRcptHeader, Rcpt: r.Address.String(), Name: "X-For", Value: c.values[i]})
				}
				return d
			}}
			given := slices.Clone(tx.Recipients)
			tx.Recipients = nil
			relay := w.in.Relay(tx, false)
			for _, r := range given {
				relay.Offer(t.Context(), r)
				tx.Recipients = append(tx.Recipients, r)
			}
			m := w.in.Begin(t.Context(), chain(edit), tx)
			m.Through(relay)
			m.Write([]byte("Subject: x\r\n\r\nbody\r\n"))
			a := m.End(t.Context())
			if !strings.HasPrefix(a.Reply.String(), c.reply) || a.Reply.Positive() != strings.Contains(h.body, "\r\nX-For: x\r\nSubject: x\r\n\r\nbody\r\n") {
				t.Errorf("%s, sent %q", a.Reply, h.body)
			}
		})
	}
}
