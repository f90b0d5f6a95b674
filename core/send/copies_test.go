package send

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// TestCopiesAreTransactions: recipients of one next hop whose copies differ are
// transactions of their own, those with the same copy share one, and policies of
// delivery see a recipient's notes.
func TestCopiesAreTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var noted []string
		r := newRig(t, func(r *rig) {
			withPolicy(r, func(_ hooks.Stage, tx *hooks.Transaction) hooks.Decision {
				noted = append(noted, fmt.Sprintf("%s %v", tx.Current.Address.Local, tx.Current.Notes["kind"]))
				return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.SetRcptNote, Name: "routed", Any: true}}}
			}, hooks.Route)
		})
		facts := hooks.Facts{Rcpts: map[int]hooks.RcptFacts{
			1: {Edits: []hooks.Edit{{Kind: hooks.AddRcptHeader, Name: "X-For", Value: "list", Rcpt: "b@x.example"}}, Notes: map[string]any{"kind": "list"}},
			3: {Edits: []hooks.Edit{{Kind: hooks.AddRcptHeader, Name: "X-For", Value: "list", Rcpt: "d@x.example"}}},
			4: {Edits: []hooks.Edit{{Kind: hooks.AddRcptHeader, Name: "X-For", Value: "other", Rcpt: "e@x.example"}}},
		}}
		text, err := json.Marshal(facts)
		if err != nil {
			t.Fatal(err)
		}
		m := &queue.Message{Sender: sender, Facts: text}
		body := r.putBody(m, "Received: by us\r\nSubject: x\r\n\r\nbody\r\n", "a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example")
		r.s.Accepted(m, body)
		got := map[string]string{}
		for _, one := range r.tries() {
			got[strings.ReplaceAll(strings.Join(one.rcpts, " "), "@x.example", "")] = one.body
		}
		for rcpts, want := range map[string]string{"a c": "", "b d": "X-For: list\r\n", "e": "X-For: other\r\n"} {
			if got[rcpts] != "Received: by us\r\n"+want+"Subject: x\r\n\r\nbody\r\n" {
				t.Errorf("%s got %q", rcpts, got[rcpts])
			}
		}
		if want := []string{"a <nil>", "b list", "c <nil>", "d <nil>", "e <nil>"}; len(got) != 3 || !slices.Equal(noted, want) {
			t.Errorf("%d transactions, noted %q", len(got), noted)
		}
		r.stop()
	})
}

// TestVERP: each recipient gets the message from a sender of its own, in a transaction
// of its own, and notices go to the owner.
func TestVERP(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			if rcpt[0] == 'b' {
				return refuse(ctx, j, rcpt)
			}
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		from, err := message.ParseSender("list-owner-@lists.example-@[]")
		if err != nil {
			t.Fatal(err)
		}
		m := &queue.Message{Sender: from}
		r.s.Accepted(m, r.put(m, "a@x.example", "b@x.example", "c@y.example"))
		synctest.Wait()
		var got []string
		for _, one := range r.tries() {
			got = append(got, one.sender+" "+strings.Join(one.rcpts, " "))
		}
		slices.Sort(got)
		want := []string{
			"list-owner-a=x.example@lists.example a@x.example",
			"list-owner-b=x.example@lists.example b@x.example",
			"list-owner-c=y.example@lists.example c@y.example",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if told := r.told(); len(told) != 1 || told[0].To.String() != "list-owner-@lists.example" {
			t.Errorf("notices %+v", told)
		}
	})
}

// TestSenderThatCantBeRewritten: mail goes with the sender that it has, and the log says so.
func TestSenderThatCantBeRewritten(t *testing.T) {
	var log bytes.Buffer
	s := &Sender{o: Options{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	a := message.Address{Local: strings.Repeat("x", 250), Domain: "example.org"}
	m := &queue.Message{ID: "0000000000000AB", Sender: a, Recipients: make([]queue.Recipient, 1)}
	conf := &Config{ReturnPath: func(_ Way, sender message.Address, _ time.Time) (message.Address, error) {
		return sender, errors.New("too long")
	}}
	got, _, err := s.copyFor(&job{rcpts: []int{0}}, conf, m, message.Bytes("x"), time.Now())
	if err != nil || got.Sender != a || !strings.Contains(log.String(), "id=0000000000000AB") || !strings.Contains(log.String(), `error="too long"`) {
		t.Errorf("%v %v\n%s", got.Sender, err, log.String())
	}
}
