package smtpd

import (
	"context"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// TestEachRecipientItsReply: by PRDR each recipient hears its own verdict, also one
// that a policy changed on the way; without it the strictest is everybody's, and
// nothing of one message reaches the next.
func TestEachRecipientItsReply(t *testing.T) {
	notes := handler{"notes", []hooks.Stage{hooks.Rcpt, hooks.Message}, func(_ context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
		to := tx.Recipients
		if at == hooks.Rcpt {
			to = []*hooks.Recipient{tx.Current}
		}
		d := hooks.Decision{}
		for _, r := range to { // each gets a note: recipients are copied for it
			d.Edits = append(d.Edits, hooks.Edit{Kind: hooks.SetRcptNote, Rcpt: r.Address.String(), Name: "seen", Any: at.String()})
		}
		return d, nil
	}}
	judge := handler{"judge", []hooks.Stage{hooks.Message}, func(_ context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
		d := hooks.Decision{Each: map[int]hooks.Decision{}}
		for i, r := range tx.Recipients {
			if r.Address.Local == "no" {
				d.Each[i] = hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.1", "Not this one")}
			}
		}
		return d, nil
	}}
	w := newWhole(t, Limits{}, hooks.Entry{Handler: notes}, hooks.Entry{Handler: judge})
	c := w.dial()
	const rcpts = "RCPT TO:<yes@example.net>\n< 250\nRCPT TO:<no@example.net>\n< 250\nRCPT TO:<also@example.net>\n< 250\nDATA\n< 354\nX: y\n\ntext\n.\n"
	play(t, c, "EHLO client.example.org\n< 250\nMAIL FROM:<s@client.example.org> PRDR\n< 250\n"+rcpts+
		"< 353\n< 250 2.0.0 <yes@example.net> Ok: queued as\n< 550 5.7.1 <no@example.net> Not this one\n< 250 2.0.0 <also@example.net> Ok\n< 250 2.0.0 Ok: queued as\n"+
		"MAIL FROM:<s@client.example.org>\n< 250\n"+rcpts+"< 550 5.7.1 Not this one\n"+
		"MAIL FROM:<s@client.example.org> PRDR\n< 250\nRCPT TO:<no@example.net>\n< 250\nDATA\n< 354\n.\n< 353\n< 550 5.7.1 <no@example.net> Not this one\n< 550 5.7.1 Not this one\n"+
		"MAIL FROM:<s@client.example.org> PRDR\n< 250\nRCPT TO:<yes@example.net>\n< 250\nDATA\n< 354\n.\n< 353\n< 250 2.0.0 <yes@example.net>\n< 250"+bye)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mails) != 2 || len(w.mails[0].Recipients) != 2 || w.mails[0].Recipients[1].Address.Local != "also" || len(w.mails[1].Recipients) != 1 {
		t.Errorf("mails %+v", w.mails)
	}
}
