package record

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// judged tells of a message that policy "new" judged in shadow.
type judged struct {
	n       int
	sender  string
	to      []string
	verb    hooks.Verb
	about   string // the recipient that it was asked about
	refused string // one that others refused
	verdict Verdict
	user    string
	relays  bool
	late    bool
	edits   bool
}

func (j judged) tell(r *Recorder) {
	s := newSession(fmt.Sprintf("0SESSION%07d", j.n))
	s.Client, s.User, s.Relaying = netip.MustParseAddrPort("192.0.2.7:1"), j.user, j.relays
	tx := transaction(s, fmt.Sprintf("0MESSAGE%07d", j.n), j.to...)
	tx.Sender = address(j.sender)
	tx.Header = message.ParseHeader(fmt.Appendf(nil, "Subject: mail %d\r\n", j.n))
	h := hooks.HandlerRun{Policy: "new", Verb: j.verb, Shadow: true}
	if j.verb.Refuses() {
		h.Reply = message.NewReply(554, "5.7.1", "Never")
	}
	if j.edits {
		h.Edits = []hooks.Edit{{Kind: hooks.AddHeader, Name: "X", Value: "y"}}
	}
	run := hooks.StageRun{Stage: hooks.Rcpt, Time: time.Now(), Recipient: j.about, Handlers: []hooks.HandlerRun{h}}
	if !j.late {
		r.Stage(tx, run)
	}
	if j.refused != "" {
		tx.Current = &hooks.Recipient{Address: address(j.refused)}
		r.Refused(tx, hooks.Rcpt, "other", message.NewReply(550, "5.1.1", "No such user"))
		tx.Current = nil
	}
	r.Verdict(tx, j.verdict, message.NewReply(250, "2.0.0", "Ok"), "")
	if j.late {
		r.Stage(tx, run)
	}
}

func TestShadowReport(t *testing.T) {
	r := open1(t, Options{})
	b := []string{"b@b.example"}
	for i, j := range []judged{
		{sender: "spam@x.example", to: b, verb: hooks.Reject, verdict: Queued},
		{sender: "spam@x.example", to: b, verb: hooks.Reject, verdict: Rejected},
		{sender: "spam@x.example", to: []string{"b@b.example", "n@b.example"}, verb: hooks.Reject, about: "n@b.example", refused: "n@b.example", verdict: Queued},
		{sender: "user@b.example", to: []string{"Friend@f.example"}, verb: hooks.Reject, verdict: Queued, user: "user", late: true},
		{sender: "host@b.example", to: b, verb: hooks.Reject, verdict: Relayed, relays: true},
		{sender: "friend@F.example", to: b, verb: hooks.Reject, verdict: Queued},
		{sender: "friend@f.example", to: b, verb: hooks.Reject, verdict: Quarantined},
		{sender: "ok@x.example", to: b, verb: hooks.Pass, verdict: Queued},
		{sender: "ok@x.example", to: b, verb: hooks.Pass, verdict: Queued, edits: true},
		{sender: "", to: b, verb: hooks.Defer, verdict: Queued},
	} {
		j.n = i + 1
		j.tell(r)
	}
	r.Stage(transaction(newSession("0SESSION0000999"), "0MESSAGE0000999"), hooks.StageRun{Stage: hooks.Queued, Time: time.Now(), Handlers: []hooks.HandlerRun{{Policy: "new", Shadow: true}}})
	report, err := r.Shadow(t.Context(), ShadowQuery{Examples: 4})
	if err != nil || report.Messages != 10 || report.Orphans != 1 || len(report.Policies) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	p := report.Policies[0]
	if p.Policy != "new" || p.Judged != 10 || len(p.Decisions) != 3 {
		t.Fatalf("%+v", p)
	}
	d := p.Decisions[0]
	if d.Decision != "reject" || d.Messages != 7 || d.Refused != 2 || d.Doubtful != 3 || d.Authenticated != 1 || d.Relaying != 1 || d.Correspondent != 1 {
		t.Errorf("%+v", d)
	}
	if d.Verdicts["queued"] != 4 || d.Verdicts["rejected"] != 1 || d.Verdicts["relayed"] != 1 || d.Verdicts["quarantined"] != 1 {
		t.Errorf("%v", d.Verdicts)
	}
	got := map[string]string{}
	for _, e := range d.Examples {
		got[e.ID[len(e.ID)-1:]] = e.Doubt
	}
	if len(got) != 4 || got["4"] != "authenticated" || got["5"] != "relaying" || got["6"] != "correspondent" || d.Examples[3].Doubt != "" {
		t.Errorf("%+v", d.Examples)
	}
	if e := p.Decisions[1]; e.Messages != 1 || e.Doubtful != 0 {
		t.Errorf("%+v", e)
	}
	var out strings.Builder
	if err := report.Print(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"new  judged 10 messages", "would have said reject to 7 messages: 4 queued, 1 quarantined, 1 rejected, 1 relayed", "2 of them others refused anyway",
		"3 of them look wanted: 1 of users who had logged in, 1 of clients that may relay, 1 of senders that our users wrote to",
		"at rcpt: 554 5.7.1 Never", "would have edited 1 message: 1 queued", "1 answer about messages that are not on record",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if b, err := json.Marshal(report); err != nil || !strings.Contains(string(b), `"refused_anyway":2`) {
		t.Errorf("%s, %v", b, err)
	}
	for _, q := range []ShadowQuery{{Policies: []string{"other"}}, {Until: time.Now().Add(-time.Hour)}, {Since: time.Now().Add(time.Hour)}} {
		if report, err := r.Shadow(t.Context(), q); err != nil || len(report.Policies) != 0 || report.Policies == nil {
			t.Errorf("%+v: %+v, %v", q, report, err)
		}
	}
}
