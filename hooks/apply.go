package hooks

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/postern-mta/postern/core/message"
)

// maxAdded bounds what policies can add to one transaction.
const maxAdded = 1000

var errNoRecipient = errors.New("no such recipient")

// kinds is a set of kinds of edits.
type kinds uint64

func kindSet(list ...EditKind) (k kinds) {
	for _, kind := range list {
		k |= 1 << kind
	}
	return k
}

func (k kinds) any(of kinds) bool { return k&of != 0 }

// What edits of those kinds change in place.
var (
	changeHeader     = kindSet(AddHeader, AppendHeader, ReplaceHeader, RemoveHeader, ReplaceBody, AddFooter)
	changeRecipients = kindSet(AddRecipient, RemoveRecipient, ReplaceRecipient, SetRoute, SetNotify, SetRcptNote, AddRcptHeader, AppendRcptHeader, RemoveRcptHeader)
	changeNotes      = kindSet(SetNote)
	changeConnNotes  = kindSet(SetConnNote)
	changeResults    = kindSet(SetResult)
	changeSkipped    = kindSet(SkipPolicy)
	changeKept       = kindSet(Pardon)
)

// apart is m with copies of what the edits change in place; what they append to is
// copied then.
func (m *Marks) apart(done kinds) Marks {
	next := Marks{slices.Clip(m.Scores), slices.Clip(m.Tags), m.Results, m.Skipped, slices.Clip(m.Kept), m.Pardoned}
	if done.any(changeResults) {
		next.Results = maps.Clone(m.Results)
	}
	if done.any(changeSkipped) {
		next.Skipped = maps.Clone(m.Skipped)
	}
	if done.any(changeKept) {
		next.Kept, next.Pardoned = slices.Clone(m.Kept), maps.Clone(m.Pardoned)
	}
	return next
}

// apply makes the edits of one decision, all or none. They are tried on copies
// of what they touch first. The Value of a footer becomes how it was added.
func apply(at Stage, tx *Transaction, edits []Edit) error {
	if len(edits) == 0 {
		return nil
	}
	row := at.Row()
	var done kinds
	for _, e := range edits {
		done |= 1 << e.Kind
	}
	next := *tx
	next.Marks = tx.Marks.apart(done)
	if done.any(changeRecipients) {
		next.Recipients, next.origin = slices.Clone(tx.Recipients), map[*Recipient]*Recipient{}
	}
	if done.any(changeNotes) {
		next.Notes = maps.Clone(tx.Notes)
	}
	if tx.Header != nil && done.any(changeHeader) {
		next.Header = tx.Header.Clone()
	}
	// What stage deny finds about a message is that message's alone.
	conn := row.Scope == OfConnection && tx.ID == ""
	session := Session{Marks: tx.Session.Marks.apart(done), Notes: tx.Session.Notes}
	if done.any(changeConnNotes) {
		session.Notes = maps.Clone(session.Notes)
	}
	for i, e := range edits {
		if !row.AllowsEdit(e.Kind) {
			return fmt.Errorf("edit %q is not possible at stage %s", e.Kind, at)
		}
		marks := &next.Marks
		if conn {
			marks = &session.Marks
		}
		if e.Kind == ReplaceBody || e.Kind == AddFooter {
			done, err := editBody(&next, e)
			if err != nil {
				return fmt.Errorf("edit %q: %w", e.Kind, err)
			}
			if e.Kind == AddFooter {
				edits[i].Value = done
			}
			continue
		}
		if err := applyOne(&next, &session, marks, e); err != nil {
			return fmt.Errorf("edit %q: %w", e.Kind, err)
		}
	}
	if len(next.Recipients) > len(tx.Recipients)+maxAdded {
		return fmt.Errorf("more than %d recipients added", maxAdded)
	}
	// A client may have a stage run as often as it likes, with NOOP for one.
	for _, m := range []*Marks{&next.Marks, &session.Marks} {
		if max(len(m.Scores), len(m.Tags), len(m.Results), len(m.Skipped)) > maxAdded {
			return fmt.Errorf("more than %d scores, tags or results of one connection or message", maxAdded)
		}
	}
	// Who holds a recipient goes on holding it.
	if next.origin != nil {
		for i, r := range next.Recipients {
			next.Recipients[i] = next.settled(r)
		}
		next.Current = next.settled(next.Current)
		next.origin = nil
	}
	*tx = next
	tx.Session.Marks, tx.Session.Notes = session.Marks, session.Notes
	return nil
}

func applyOne(tx *Transaction, s *Session, marks *Marks, e Edit) error {
	switch e.Kind {
	case AddHeader, AppendHeader, ReplaceHeader, RemoveHeader:
		return editHeader(tx, e)
	case AddRecipient, RemoveRecipient, ReplaceRecipient:
		return editRecipients(tx, e)
	case SetRoute:
		return setRoute(tx, e)
	case SetNote:
		setNote(&tx.Notes, e)
	case SetConnNote:
		setNote(&s.Notes, e)
	case AddScore:
		marks.Scores = append(marks.Scores, Score{e.Name, e.Number, e.Value})
	case AddTag:
		if !marks.Tagged(e.Value) {
			marks.Tags = append(marks.Tags, e.Value)
		}
	case SetResult:
		fields, ok := e.Any.(map[string]any)
		if !ok {
			return errors.New("a result is a table of named values")
		}
		if marks.Results == nil {
			marks.Results = map[string]map[string]any{}
		}
		marks.Results[e.Name] = fields
	case SkipPolicy:
		if marks.Skipped == nil {
			marks.Skipped = map[string]bool{}
		}
		marks.Skipped[e.Value] = true
	case SetPriority:
		tx.Priority = e.N
	case SetReceived:
		tx.Received = e.Value
	case SetSender, SetReturn, SetNotify:
		return editEnvelope(tx, e)
	case SetRcptNote, AddRcptHeader, AppendRcptHeader, RemoveRcptHeader:
		return editCopy(tx, e)
	case AddCapability, RemoveCapability:
		return editCapabilities(tx, e)
	case SetPlan:
		return editPlan(tx, e)
	case SetNotice:
		return editNotice(tx, e)
	case Pardon:
		pardon(marks, e)
		if r := tx.Current; r != nil && e.Rcpt != "" && e.Value != "" && e.Rcpt == r.Address.String() {
			if marks.Pardoned == nil {
				marks.Pardoned = map[Pardoned]bool{}
			}
			marks.Pardoned[Pardoned{r.given(), e.Value}] = true
		}
	}
	return nil
}

func editHeader(tx *Transaction, e Edit) error {
	if tx.Header == nil {
		return errors.New("there is no header section yet: edit it from stage headers on")
	}
	switch e.Kind {
	case AddHeader:
		return tx.Header.Prepend(e.Name, e.Value)
	case AppendHeader:
		return tx.Header.Append(e.Name, e.Value)
	case ReplaceHeader:
		return tx.Header.Replace(e.Name, e.Value)
	}
	tx.Header.Remove(e.Name, e.N)
	return nil
}

func editRecipients(tx *Transaction, e Edit) error {
	var to message.Address
	if e.Kind != RemoveRecipient {
		var err error
		if to, err = message.ParseAddress(e.Value); err != nil {
			return fmt.Errorf("%q: %w", e.Value, err)
		}
		if to.IsNull() {
			return errors.New("a recipient can't be empty")
		}
	}
	switch e.Kind {
	case AddRecipient:
		if tx.recipient(to.String()) < 0 {
			tx.Recipients = append(tx.Recipients, &Recipient{Address: to, Given: to})
		}
	case RemoveRecipient:
		i := tx.recipient(e.Value)
		if i < 0 {
			return fmt.Errorf("%q: %w", e.Value, errNoRecipient)
		}
		tx.Recipients = slices.Delete(tx.Recipients, i, i+1)
	case ReplaceRecipient:
		return replaceRecipient(tx, e.Name, to)
	}
	return nil
}

func replaceRecipient(tx *Transaction, name string, to message.Address) error {
	one, err := tx.changed(name)
	if err != nil {
		return err
	}
	one.Address = to
	return nil
}

// changed is a copy of the recipient with that address, "" the current one, which
// has taken its place in tx and may be changed.
func (tx *Transaction) changed(address string) (*Recipient, error) {
	was := tx.Current
	if was == nil || address != "" && address != was.Address.String() {
		i := tx.recipient(address)
		if i < 0 {
			return nil, fmt.Errorf("%q: %w", address, errNoRecipient)
		}
		was = tx.Recipients[i]
	}
	if tx.origin[was] != nil {
		return was, nil // a copy already
	}
	one := *was
	tx.origin[&one] = was
	if i := slices.Index(tx.Recipients, was); i >= 0 {
		tx.Recipients[i] = &one
	}
	if was == tx.Current {
		tx.Current = &one
	}
	return &one, nil
}

// settled is the recipient that r is a copy of, with what was changed in it.
func (tx *Transaction) settled(r *Recipient) *Recipient {
	was := tx.origin[r]
	if was == nil {
		return r
	}
	*was = *r
	return was
}

// recipient is the index of the recipient with that address, or -1.
func (tx *Transaction) recipient(address string) int {
	if a, err := message.ParseAddress(address); err == nil {
		address = a.String()
	}
	return slices.IndexFunc(tx.Recipients, func(r *Recipient) bool { return r.Address.String() == address })
}

func setRoute(tx *Transaction, e Edit) error {
	if e.Name == "" {
		tx.Route = e.Value
		return nil
	}
	one, err := tx.changed(e.Name)
	if err != nil {
		return err
	}
	one.Route = e.Value
	return nil
}

func setNote(notes *map[string]any, e Edit) {
	if *notes == nil {
		*notes = map[string]any{}
	}
	if e.Any == nil {
		delete(*notes, e.Name)
		return
	}
	(*notes)[e.Name] = e.Any
}
