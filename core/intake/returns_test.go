package intake

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// What was made here is told by a word in front of the address.
func madeHere() *Returns {
	errOdd := errors.New("it is odd")
	take := func(a message.Address, word string) (message.Address, bool, error) {
		rest, ok := strings.CutPrefix(a.Local, word+"=")
		if good, fine := strings.CutPrefix(rest, "good="); ok && fine {
			return message.Address{Local: good, Domain: a.Domain}, true, nil
		}
		a.Local = strings.TrimPrefix(rest, "bad=")
		return a, ok, errOdd
	}
	return &Returns{
		Rewritten: func(a message.Address) bool { return a.Domain == "gw.example" && strings.HasPrefix(a.Local, "srs=") },
		Forwarded: func(a message.Address, _ time.Time) (message.Address, error) {
			to, _, err := take(a, "srs")
			user, domain, _ := strings.Cut(to.Local, "=")
			return message.Address{Local: user, Domain: domain}, err
		},
		Signed: func(domain string) bool { return domain == "example.net" || domain == "list.example" },
		Tagged: func(a message.Address, _ time.Time) (message.Address, bool, error) { return take(a, "tag") },
	}
}

func TestReturns(t *testing.T) {
	for _, c := range []struct {
		from, rcpt      string
		only, require   bool
		relaying, route bool
		want, to        string
	}{
		{"", "srs=good=joe=far.example@gw.example", false, false, false, true, "accept", "joe@far.example"},
		{"a@b.example", "srs=good=joe=far.example@gw.example", false, false, false, true, "accept", "joe@far.example"},
		{"a@b.example", "srs=good=joe=far.example@gw.example", true, false, false, true, "550 5.7.1 That address takes bounces alone", ""},
		{"", "srs=good=joe=far.example@gw.example", true, false, false, false, "550 5.4.4", ""},
		{"", "srs=bad=joe=far.example@gw.example", false, false, false, true, "550 5.1.1 No such recipient here: it is odd", ""},
		{"", "srs=good=joe=far example@gw.example", false, false, false, true, "550 5.1.1 No such recipient here: syntax error in the address", ""},
		{"", "srs=good=other=list.example@gw.example", false, false, false, true, "550 5.1.1 No such recipient here", ""},
		{"", "srs=good=known=list.example@gw.example", false, false, false, true, "accept", "known@list.example"},
		{"", "joe@gw.example", false, false, false, true, "550 5.7.1 Relaying denied", ""},
		{"", "srs=good=joe=far.example@other.example", false, false, false, true, "550 5.7.1 Relaying denied", ""},
		{"", "tag=good=a@example.net", false, true, false, true, "accept", "a@example.net"},
		{"", "tag=good=other@list.example", false, true, false, true, "550 5.1.1", ""},
		{"", "tag=bad=a@example.net", false, false, false, true, "550 5.7.1 This is no bounce of a message from that address: it is odd", ""},
		{"a@b.example", "tag=bad=a@example.net", false, true, false, true, "accept", "a@example.net"},
		{"", "a@example.net", false, true, false, true, "550 5.7.1 This is no bounce of a message from that address: its", ""},
		{"", "a@example.net", false, true, true, true, "accept", "a@example.net"},
		{"", "a@example.net", false, false, false, true, "accept", "a@example.net"},
		{"", "postmaster@example.net", false, true, false, true, "accept", "postmaster@example.net"},
		{"", "a@x.wild.example", false, true, false, true, "accept", "a@x.wild.example"},
	} {
		w := open(t, func(s *Settings) {
			s.Routed = func(*hooks.Transaction, message.Address) bool { return c.route }
			s.Returns = madeHere()
			s.Returns.BouncesOnly, s.Returns.Require = c.only, c.require
		})
		tx := transaction("x@example.net")
		from, err := message.ParseAddress(c.from)
		if err != nil {
			t.Fatal(err)
		}
		i := strings.LastIndexByte(c.rcpt, '@')
		given := message.Address{Local: c.rcpt[:i], Domain: c.rcpt[i+1:]}
		tx.Sender, tx.Current, tx.Session.Relaying = from, &hooks.Recipient{Address: given, Given: given}, c.relaying
		w.in.Untag(tx.Current)
		d := hooks.NewChain([]hooks.Entry{{Handler: w.in.RecipientRule()}}, hooks.Options{}).Run(t.Context(), hooks.Rcpt, tx)
		got := d.Verb.String()
		if d.Verb.Refuses() {
			got = d.Reply.String()
		} else if to := tx.Current.Address.String(); to != c.to {
			t.Errorf("%s from <%s>: goes to %s, want %s", c.rcpt, c.from, to, c.to)
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s from <%s>: %s, want %s", c.rcpt, c.from, got, c.want)
		}
	}
}

// A policy that sends the recipient elsewhere has the last word.
func TestReturnsReplaced(t *testing.T) {
	w := open(t, func(s *Settings) { s.Returns = madeHere() })
	given := message.Address{Local: "srs=bad=joe=far.example", Domain: "gw.example"}
	tx := transaction("x@example.net")
	tx.Sender = message.Address{}
	tx.Current = &hooks.Recipient{Address: message.Address{Local: "archive", Domain: "example.net"}, Given: given}
	d := hooks.NewChain([]hooks.Entry{{Handler: w.in.RecipientRule()}}, hooks.Options{}).Run(t.Context(), hooks.Rcpt, tx)
	if d.Verb != hooks.Accept {
		t.Errorf("%v %v", d.Verb, d.Reply)
	}
}

// What comes by a protocol that answers each recipient goes back, too.
func TestReturnsInjectedEach(t *testing.T) {
	w := open(t, func(s *Settings) {
		s.Routed = func(*hooks.Transaction, message.Address) bool { return true }
		s.Returns = madeHere()
	})
	tx := transaction("srs=good=joe=far.example@gw.example", "srs=bad=joe=far.example@gw.example", "tag=good=a@example.net")
	tx.Sender, tx.Session.Protocol = message.Address{}, "qmtp"
	chain := hooks.NewChain([]hooks.Entry{{Handler: w.in.RecipientRule()}}, hooks.Options{})
	replies := w.in.InjectEach(t.Context(), chain, tx, strings.NewReader("Subject: hi\r\n\r\nhello\r\n"))
	for i, want := range []string{"250 2.0.0", "550 5.1.1 No such recipient here: it is odd", "250 2.0.0"} {
		if got := replies[i].String(); !strings.HasPrefix(got, want) {
			t.Errorf("recipient %d: %s, want %s", i, got, want)
		}
	}
	var to []string
	for _, r := range tx.Recipients {
		to = append(to, r.Address.String())
	}
	if got := strings.Join(to, " "); got != "joe@far.example a@example.net" {
		t.Errorf("it goes to %s", got)
	}
}
