package intake

import (
	"context"
	"io"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// InjectEach is Inject for a protocol that answers each recipient (QMTP): it returns a
// reply for each of tx's, in their order, and those that are refused do not touch the
// others. Session and recipients are judged as those of SMTP.
func (in *Intake) InjectEach(ctx context.Context, chain *hooks.Chain, tx *hooks.Transaction, body io.Reader) []message.Reply {
	given := tx.Recipients
	replies := make([]message.Reply, len(given))
	all := func(r message.Reply) []message.Reply {
		for i := range replies {
			if replies[i].IsZero() {
				replies[i] = r
			}
		}
		return replies
	}
	ends := func(d hooks.Decision) []message.Reply {
		in.o.Record.Verdict(tx, verdictOf(d.Verb), d.Reply, d.By)
		return all(d.Reply)
	}
	tx.Given = tx.Sender
	var err error
	if tx.Sender, err = Canonical(tx.Sender); err != nil {
		return ends(hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(501, "5.1.7", "%s: %v", tx.Given.Path(), err), By: "postern"})
	}
	switch d := chain.Run(ctx, hooks.Mail, tx); {
	case d.Verb.Refuses():
		return ends(d)
	case d.Verb == hooks.Discard:
		return all(in.discarded(tx, d))
	}
	tx.Recipients = nil
	at := map[int]*hooks.Recipient{}
	var last hooks.Decision
	for i, r := range given {
		var d hooks.Decision
		if err := in.recipientMeant(tx.Session, r); err != nil {
			d = hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(501, "5.1.3", "%v", err), By: "postern"}
		} else {
			d = in.recipient(ctx, chain, tx, r)
		}
		switch {
		case d.Verb.Refuses():
			replies[i], last = d.Reply, d
			in.o.Record.Refused(tx, hooks.Rcpt, d.By, d.Reply)
		case d.Verb == hooks.Discard:
			replies[i] = queuedAs(tx.ID)
		default:
			at[i] = tx.Current
			tx.Recipients = append(tx.Recipients, tx.Current)
		}
	}
	tx.Current = nil
	if len(at) == 0 {
		if last.Reply.IsZero() {
			in.discarded(tx, hooks.Decision{By: "postern", Reason: "every recipient was discarded"})
			return replies
		}
		in.o.Record.Verdict(tx, verdictOf(last.Verb), last.Reply, last.By)
		return replies
	}
	m := in.Begin(ctx, chain, tx)
	m.AnswerEach()
	if err := copyLines(m, body); err != nil {
		m.Abort()
		return all(message.NewReply(451, "4.3.0", "Reading the message: %v", err))
	}
	a := m.End(ctx)
	for i, r := range at {
		replies[i] = a.For(r)
	}
	return replies
}
