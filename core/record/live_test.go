package record

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Lines of all kinds stand in columns, short and harmless: what was decided where,
// by whom, and which edits came of it.
func TestLiveLines(t *testing.T) {
	var live bytes.Buffer
	r := open1(t, Options{})
	r.Live(&live, false)
	s := newSession("0SESSION0000001")
	s.Client = netip.MustParseAddrPort("192.0.2.7:25")
	tx := transaction(s, "0MESSAGE0000001", "b@b.example")
	note := hooks.Edit{Kind: hooks.SetNote, Name: "seen", Any: true}
	long := hooks.Edit{Kind: hooks.AddHeader, Name: "X-Long", Value: strings.Repeat("é", 100)}
	evil := hooks.Edit{Kind: hooks.AddHeader, Name: "X-Evil", Value: "\x1b[2J"}
	run := at(hooks.Message, 0, hooks.HandlerRun{Policy: "silent"})
	run.Handlers = append(run.Handlers,
		hooks.HandlerRun{Policy: "polite", Verb: hooks.Accept},
		hooks.HandlerRun{Policy: "tagger", Edits: []hooks.Edit{note, long, evil, note, note}},
		hooks.HandlerRun{Policy: "broken", Err: errors.New("boom\nstack")})
	r.Stage(tx, run)
	r.Stage(tx, at(hooks.Message, 0, hooks.HandlerRun{Policy: "strict", Verb: hooks.Reject, Reply: message.NewReply(554, "5.7.1", "No"), Shadow: true}))
	refuseRcpt(r, tx, "c@c.example", message.NewReply(450, "4.7.1", "Wait"))
	r.Attempt(tx.ID, Attempt{Recipient: "b@b.example", Sender: "a@a.example", NextHop: "smtp://192.0.2.1:25", Reply: message.NewReply(250, "2.0.0", "Ok"), Outcome: "delivered"})
	want := []string{
		"edit        0MESSAGE0000001 message  tagger notes seen = true; ",
		"(reject)    0MESSAGE0000001 message  strict 554 5.7.1 No",
		"refused     0MESSAGE0000001 rcpt     192.0.2.7 <",
		"delivered   0MESSAGE0000001 delivery <a@a.example> → <b@b.example> via smtp://192.0.2.1:25 250 2.0.0 Ok",
	}
	lines := strings.Split(strings.TrimSpace(live.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines:\n%s", len(lines), live.String())
	}
	for i, line := range lines {
		if len(line) > 300 || !strings.HasPrefix(line[9:], want[i]) {
			t.Errorf("%q\nnot %q", line, want[i])
		}
	}
	if !strings.Contains(lines[0], `\x1b[2J; +2`) || strings.Contains(live.String(), "\x1b") {
		t.Errorf("edits: %q", lines[0])
	}
}
