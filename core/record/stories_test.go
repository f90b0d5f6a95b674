package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

func TestStoriesInTheirOrder(t *testing.T) {
	r := open1(t, Options{})
	begin := time.Now()
	for i := range 20 {
		tx := hooks.NewTransaction(&hooks.Session{ID: fmt.Sprintf("0SESSION%07d", i), Extended: true, Relaying: i%2 == 0}, fmt.Sprintf("0MESSAGE%07d", i))
		tx.Came, tx.Params = fmt.Appendf(nil, "Subject: %d\r\n", i), []hooks.Param{{Key: "SIZE", Value: "3"}}
		r.Stage(tx, hooks.StageRun{Stage: hooks.Mail, Time: time.Now(), Handlers: []hooks.HandlerRun{{
			Policy: "p", Lookups: []hooks.Lookup{{Kind: "dns.a", Question: "x.example", Answer: "192.0.2.1\n192.0.2.2"}, {Kind: "dns.txt", Question: "y", Error: "none: no"}},
		}}})
		r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
		if i == 9 {
			r.Flush()
		}
	}
	read := func(since, until time.Time) (ids []string) {
		for s, err := range r.Stories(t.Context(), since, until) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, s.ID)
			if l := s.Stages[0].Handlers[0].Lookups; len(l) != 2 || l[0].Answer != "192.0.2.1\n192.0.2.2" || l[1].Error != "none: no" {
				t.Errorf("%+v", l)
			}
			if s.Header == "" || !s.Extended || len(s.Params) != 1 || s.Params[0] != [2]string{"SIZE", "3"} {
				t.Errorf("%+v", s)
			}
		}
		return ids
	}
	all := read(time.Time{}, time.Time{})
	if len(all) != 20 || !slices.IsSorted(all) {
		t.Errorf("%v", all)
	}
	if got := read(begin, time.Now().Add(time.Minute)); len(got) != 20 {
		t.Errorf("%d since the beginning", len(got))
	}
	if got := read(time.Now().Add(time.Minute), time.Time{}); len(got) != 0 {
		t.Errorf("%v of the future", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, err := range r.Stories(ctx, time.Time{}, time.Time{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

// The start of a message is kept from the mail path's own copy.
func TestSample(t *testing.T) {
	body := message.Bytes("Subject: x\r\n\r\nHello\r\n")
	if got := open1(t, Options{}).Sample(body); got != nil {
		t.Errorf("%q where no bodies are kept", got)
	}
	r := open1(t, Options{Bodies: true})
	tx := hooks.NewTransaction(&hooks.Session{ID: "0SESSION0000001"}, "0MESSAGE0000001")
	tx.Came, tx.CameBody = r.Sample(body), true
	r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	for s, err := range r.Stories(t.Context(), time.Time{}, time.Time{}) {
		if err != nil || s.Message != string(body) || s.Header != "" {
			t.Errorf("%v %+v", err, s)
		}
	}
}
