package hooks

import (
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
)

// What each edit leaves in the transaction, and what it refuses.
func TestEnvelopeEdits(t *testing.T) {
	a := "a@example.net"
	for _, c := range []struct {
		at   Stage
		edit Edit
		want string // part of the failure, "" where there is none
		ok   func(*Transaction) bool
	}{
		{Mail, Edit{Kind: SetSender, Value: "new@Client.Example"}, "", func(tx *Transaction) bool { return tx.Sender.String() == "new@client.example" }},
		{Mail, Edit{Kind: SetSender, Value: ""}, "", func(tx *Transaction) bool { return tx.Sender.IsNull() }},
		{Mail, Edit{Kind: SetSender, Value: "a b@"}, "sender", nil},
		{Mail, Edit{Kind: SetReturn, Value: "hdrs"}, "", func(tx *Transaction) bool { return slices.Contains(tx.Params, Param{"RET", "HDRS"}) }},
		{Mail, Edit{Kind: SetReturn, Value: "some"}, "neither full nor hdrs", nil},
		{Data, Edit{Kind: SetNotify, Rcpt: a, Value: "success, delay"}, "", func(tx *Transaction) bool {
			return slices.Contains(tx.Recipients[0].Params, Param{"NOTIFY", "SUCCESS,DELAY"}) && len(tx.Recipients[1].Params) == 0
		}},
		{Data, Edit{Kind: SetNotify, Rcpt: a, Value: "never, delay"}, "never stands alone", nil},
		{Data, Edit{Kind: SetNotify, Rcpt: a, Value: "soon"}, "none of never", nil},
		{Data, Edit{Kind: SetNotify, Rcpt: "c@example.net", Value: "never"}, "no such recipient", nil},
		{Data, Edit{Kind: SetRcptNote, Rcpt: a, Name: "k", Any: "v"}, "", func(tx *Transaction) bool { return tx.Recipients[0].Notes["k"] == "v" && tx.Recipients[1].Notes == nil }},
		{DSN, Edit{Kind: SetNotice, Value: "boss@example.net"}, "", func(tx *Transaction) bool { return tx.Notice.To.String() == "boss@example.net" }},
		{DSN, Edit{Kind: SetNotice, Value: ""}, "null path", nil},
	} {
		tx := newTx(t)
		tx.Capabilities = []string{"PIPELINING", "SIZE 5"}
		tx.Try, tx.Notice = &Try{TLS: "may"}, &Notice{To: message.Address{Local: "s", Domain: "client.example"}}
		err := apply(c.at, tx, []Edit{c.edit})
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.edit, err, c.want)
		case err == nil && !c.ok(tx):
			t.Errorf("%s left %+v", c.edit, tx)
		}
	}
}

func TestPardonDropsKeptRefusals(t *testing.T) {
	kept := func() []Kept {
		return []Kept{
			{At: Data, Decision: Decision{Verb: Reject, By: "dnsbl"}},
			{At: Data, Decision: Decision{Verb: Reject, By: "helo"}, Recipient: "a@example.net"},
		}
	}
	for _, c := range []struct {
		edit   Edit
		by     string // of what is left
		spared string
	}{
		{Edit{Kind: Pardon}, "", ""},
		{Edit{Kind: Pardon, Value: "dnsbl"}, "helo", ""},
		{Edit{Kind: Pardon, Value: "dnsbl", Rcpt: "b@example.net"}, "dnsbl helo", "b@example.net"},
		{Edit{Kind: Pardon, Rcpt: "b@example.net"}, "dnsbl helo", "b@example.net"},
	} {
		tx := newTx(t)
		tx.Kept = kept()
		pardon(&tx.Marks, c.edit)
		var by []string
		for _, k := range tx.Kept {
			by = append(by, k.Decision.By)
		}
		if got := strings.Join(by, " "); got != c.by {
			t.Errorf("%s left %q, want %q", c.edit, got, c.by)
		}
		if c.spared != "" && (!tx.Kept[0].Spared[c.spared] || tx.Kept[1].Spared[c.spared]) {
			t.Errorf("%s spared %+v", c.edit, tx.Kept)
		}
	}
}
