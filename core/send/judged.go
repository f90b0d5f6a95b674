package send

import (
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// notices are the names of kinds for the policies of stage dsn.
var notices = [...]string{Failure: "bounce", Delay: "delay", Double: "double", Success: "success"}

// judged asks the policies of stage dsn about a notice that is about to be queued.
// It returns who gets what, or tells that nobody does. The notice's header section is
// theirs to edit, and what they note or tag is the message's. e.mu is held.
func (s *Sender) judged(e *entry, n *Notice, list []int) (dropped bool) {
	chain := s.o.Chain()
	defer chain.Release()
	if !chain.Has(hooks.DSN) {
		return false
	}
	size, _ := message.HeaderLen(n.Body)
	tx := s.transaction(e)
	about := hooks.Notice{Kind: notices[n.Kind], To: n.To}
	for _, i := range list {
		about.Recipients = append(about.Recipients, e.m.Recipients[i].Address.String())
	}
	tx.Notice, tx.Header = &about, message.ParseHeader(n.Body[:size])
	d := chain.Run(s.work, hooks.DSN, tx)
	to, header := tx.Notice.To, tx.Header
	tx.Notice, tx.Header = nil, nil
	s.keepFacts(e, hooks.DSN)
	if d.Verb == hooks.Discard {
		s.o.Log.Info("notice dropped by a policy", "id", e.id, "kind", n.Kind.String(), "to", n.To.String(), "policy", d.By, "reason", d.Reason)
		return true
	}
	if was, _ := header.Get("To"); to != n.To && was == clean(n.To.Path()) {
		header = header.Clone()
		_ = header.Replace("To", clean(to.Path())) // one line of ASCII
	}
	n.To = to
	if header.Edited() {
		n.Body = append(header.Bytes(), n.Body[size:]...)
	}
	return false
}
