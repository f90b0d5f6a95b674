package send

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// TestNoticesAreJudged: stage dsn may drop a notice, send it elsewhere, and edit its
// header section; a notice that is dropped counts as sent. It is never asked where
// nobody is to be told.
func TestNoticesAreJudged(t *testing.T) {
	edit := func(kind hooks.EditKind, name, value string) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{{Kind: kind, Name: name, Value: value}}}
	}
	for name, c := range map[string]struct {
		from string
		say  hooks.Decision
		to   string // of the notice, "" none
		has  string // in its header section
		seen string
	}{
		"no decision":  {"s@client.example", hooks.Decision{}, "s@client.example", "To: <s@client.example>\r\n", "bounce s@client.example [a@x.example] failure notice"},
		"accept":       {"s@client.example", hooks.Decision{Verb: hooks.Accept}, "s@client.example", "Subject: failure notice\r\n", "bounce s@client.example [a@x.example] failure notice"},
		"discard":      {"s@client.example", hooks.Decision{Verb: hooks.Discard, Reason: "backscatter"}, "", "", "bounce s@client.example [a@x.example] failure notice"},
		"elsewhere":    {"s@client.example", edit(hooks.SetNotice, "", "desk@here.example"), "desk@here.example", "To: <desk@here.example>\r\n", "bounce s@client.example [a@x.example] failure notice"},
		"a header":     {"s@client.example", edit(hooks.ReplaceHeader, "Subject", "No luck"), "s@client.example", "Subject: No luck\r\n", "bounce s@client.example [a@x.example] failure notice"},
		"to nobody":    {"s@client.example", edit(hooks.SetNotice, "", ""), "s@client.example", "To: <s@client.example>\r\n", "bounce s@client.example [a@x.example] failure notice"},
		"reject":       {"s@client.example", hooks.Decision{Verb: hooks.Reject}, "s@client.example", "Subject: failure notice\r\n", "bounce s@client.example [a@x.example] failure notice"},
		"a double one": {"", hooks.Decision{}, "postmaster@here.example", "Subject: failure notice: double bounce\r\n", "double postmaster@here.example [a@x.example] failure notice: double bounce"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			inBubble(t, func(r *rig) {
				r.answer = bounces
				withPolicy(r, func(_ hooks.Stage, tx *hooks.Transaction) hooks.Decision {
					subject, _ := tx.Header.Get("Subject")
					seen = append(seen, fmt.Sprintf("%s %s %v %s", tx.Notice.Kind, tx.Notice.To, tx.Notice.Recipients, subject))
					return c.say
				}, hooks.DSN)
			}, func(r *rig) {
				from, _ := message.ParseAddress(c.from)
				m := &queue.Message{Sender: from}
				r.s.Accepted(m, r.put(m, "a@x.example"))
				if r.left() != 0 || !slices.Equal(seen, []string{c.seen}) {
					t.Errorf("%d left, seen %q", r.left(), seen)
				}
				told := r.told()
				if c.to == "" {
					if len(told) != 0 {
						t.Errorf("told %+v", told)
					}
					return
				}
				if len(told) != 1 || told[0].To.String() != c.to {
					t.Fatalf("told %+v", told)
				}
				header, _, whole := strings.Cut(string(told[0].Body), "\r\n\r\n")
				if !whole || !strings.Contains(header+"\r\n", c.has) || !strings.Contains(string(told[0].Body), "message/delivery-status") {
					t.Errorf("notice %s", told[0].Body)
				}
			})
		})
	}
}

// TestNobodyToTell: a double bounce that fails is dropped, and no policy is asked.
func TestNobodyToTell(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = bounces
		withPolicy(r, func(_ hooks.Stage, tx *hooks.Transaction) hooks.Decision {
			r.t.Errorf("asked about %+v", tx.Notice)
			return hooks.Decision{}
		}, hooks.DSN)
	}, func(r *rig) {
		m := &queue.Message{Double: true}
		r.s.Accepted(m, r.put(m, "a@x.example"))
		if r.left() != 0 || len(r.told()) != 0 {
			t.Errorf("%d left, told %+v", r.left(), r.told())
		}
	})
}

// bounces is a next hop that takes nothing.
func bounces(context.Context, *Job, string) Outcome {
	return Outcome{Result: Bounced, Reply: message.NewReply(550, "5.1.1", "no such user"), Peer: "mx.example [192.0.2.1]:25"}
}
