package record

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// What an operator did joins the message's story; what ends the message says so.
func TestOperated(t *testing.T) {
	var log bytes.Buffer
	r := open1(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	r.Operated("0MESSAGE0000001", "released", "operator", "score: 9 points")
	r.Operated("0MESSAGE0000002", "expired", "quarantine", "older than 30d")
	r.Flush()
	story := one(t, r, "0MESSAGE0000001")
	last := story.Stages[len(story.Stages)-1]
	if h := last.Handlers[0]; last.Stage != "queued" || h.Policy != "operator" || h.Decision != "accept" || h.Reason != "released: score: 9 points" {
		t.Errorf("%+v", last)
	}
	// Of this one nothing else is on record.
	story = one(t, r, "0MESSAGE0000002")
	if h := story.Stages[0].Handlers[0]; story.Left == nil || h.Policy != "quarantine" || h.Decision != "discard" || h.Reason != "expired: older than 30d" {
		t.Errorf("%+v", story)
	}
	for _, want := range []string{`msg=released id=0MESSAGE0000001 by=operator reason="score: 9 points"`, `msg=expired id=0MESSAGE0000002 by=quarantine reason="older than 30d"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}
