package intake

import (
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// onward is what became of a message that was forwarded to the recipients.
func onward(t *testing.T, w *world, body string, to ...string) (message.Reply, map[string]string) {
	t.Helper()
	var list []message.Address
	for _, one := range to {
		a, err := message.ParseAddress(one)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	c := chain(at{hooks.Rcpt, func(tx *hooks.Transaction) hooks.Decision {
		switch local := tx.Current.Address.Local; {
		case strings.HasPrefix(local, "bad"):
			return hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.1.1", "Nobody")}
		case strings.HasPrefix(local, "later"):
			return hooks.Decision{Verb: hooks.Defer, Reply: message.NewReply(451, "4.3.0", "Later")}
		}
		return hooks.Decision{}
	}})
	r, refused := w.in.Onward(t.Context(), c, NewLocal(Forwarded, message.Address{Local: "s", Domain: "client.example"}, list), message.Bytes(body))
	texts := map[string]string{}
	for one, reply := range refused {
		texts[one.Address.String()] = reply.String()
	}
	return r, texts
}

func TestOnward(t *testing.T) {
	signed := 0
	w := open(t, func(s *Settings) {
		s.Sign = func(message.Address, message.Body, time.Time) ([]byte, error) { signed++; return nil, nil }
	})
	// Bytes that no line from the wire may have stay, and nothing is completed.
	const body = "Subject: x\r\n\r\na\x00b\rc\nd"
	r, refused := onward(t, w, body, "a@far.example", "bad@far.example", "b@far.example")
	if r.Code != 250 || len(refused) != 1 || refused["bad@far.example"] != "550 5.1.1 Nobody" {
		t.Fatalf("%v %v", r, refused)
	}
	if len(w.taken) != 1 || len(w.taken[0].Recipients) != 2 || !strings.HasSuffix(w.text, "\r\n"+body) || strings.Contains(w.text, "Message-ID") {
		t.Errorf("%+v\n%q", w.taken, w.text)
	}
	if signed != 0 {
		t.Error("somebody else's mail was signed")
	}
	// One that has to wait keeps the others waiting, too; all refused is a refusal.
	if r, _ := onward(t, w, body, "a@far.example", "later@far.example"); r.String() != "451 4.3.0 <later@far.example>: Later" {
		t.Errorf("%v", r)
	}
	if r, refused := onward(t, w, body, "bad@far.example"); r.String() != "550 5.1.1 <bad@far.example>: Nobody" || len(refused) != 0 {
		t.Errorf("%v %v", r, refused)
	}
	if n := w.queue.Totals(); n != (queue.Totals{}) && n.Messages != 1 {
		t.Errorf("%+v", n)
	}
}
