package intake

import (
	"context"
	"slices"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Forwarded is the protocol of mail that goes on by a recipient's wish: its dot-qmail
// file forwards it. It may go anywhere, but it is somebody else's, so that it is not
// signed as ours.
const Forwarded = "forward"

// Onward takes in mail that goes on by a recipient's wish. Its body, which was taken in
// here before, stays as it is, byte for byte. The stages mail, rcpt, headers, message and
// queue are asked. Recipients that are refused for good are left out, and come back with
// the refusals; where one is deferred, all of it is, so that nobody gets it twice. The
// reply is to the whole.
func (in *Intake) Onward(ctx context.Context, chain *hooks.Chain, tx *hooks.Transaction, body message.Body) (r message.Reply, refused map[*hooks.Recipient]message.Reply) {
	ends := func(d hooks.Decision) message.Reply {
		in.o.Record.Verdict(tx, verdictOf(d.Verb), d.Reply, d.By)
		return d.Reply
	}
	given := tx.Recipients
	tx.Given = tx.Sender
	var err error
	if tx.Sender, err = Canonical(tx.Sender); err != nil {
		return ends(hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(501, "5.1.7", "%s: %v", tx.Given.Path(), err), By: "postern"}), nil
	}
	switch d := chain.Run(ctx, hooks.Mail, tx); {
	case d.Verb.Refuses():
		return ends(d), nil
	case d.Verb == hooks.Discard:
		return in.discarded(tx, d), nil
	}
	tx.Recipients = nil
	refused = map[*hooks.Recipient]message.Reply{}
	var last hooks.Decision
	for _, one := range given {
		d := hooks.Decision{Verb: hooks.Reject, By: "postern"}
		if err := canonicalRecipient(one); err != nil {
			d.Reply = message.NewReply(501, "5.1.3", "%v", err)
		} else {
			d = in.recipient(ctx, chain, tx, one)
		}
		switch {
		case d.Verb.Refuses() && d.Reply.Temporary():
			d.Reply.Text = one.Address.Path() + ": " + d.Reply.Text
			tx.Recipients = append(tx.Recipients, one)
			return ends(d), nil
		case d.Verb.Refuses():
			refused[one], last = d.Reply, d
			in.o.Record.Refused(tx, hooks.Rcpt, d.By, d.Reply)
		case d.Verb != hooks.Discard:
			tx.Recipients = append(tx.Recipients, tx.Current)
		}
	}
	tx.Current = nil
	if len(tx.Recipients) == 0 && len(refused) == len(given) {
		tx.Recipients = slices.Clip(given)
		last.Reply.Text = given[len(given)-1].Address.Path() + ": " + last.Reply.Text
		return ends(last), nil
	}
	m := in.Begin(ctx, chain, tx)
	buf := make([]byte, 32<<10)
	for at, size := int64(0), body.Size(); at < size; {
		n, err := body.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 {
			m.Abort()
			return message.NewReply(451, "4.3.0", "Reading the message: %v", err), nil
		}
		m.Write(buf[:n])
		at += int64(n)
	}
	return m.End(ctx).Reply, refused
}
