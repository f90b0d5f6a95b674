package console

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// Filter chooses queued messages. A message must fit all that is set.
type Filter struct {
	IDs         []string  `json:"ids,omitempty"`
	Sender      string    `json:"sender,omitempty"`    // address, without case; "<>" is the null path; "@domain" any at it
	Recipient   string    `json:"recipient,omitempty"` // likewise; one of its recipients that are not final
	Domain      string    `json:"domain,omitempty"`    // of such a recipient; "*.example.net" any below
	Before      time.Time `json:"before,omitzero"`     // arrived before
	MinSize     int64     `json:"min_size,omitempty"`  // bytes
	Route       string    `json:"route,omitempty"`     // where such a recipient goes, as the summary calls it; see GoesTo
	Reason      string    `json:"reason,omitempty"`    // part of a recipient's last reply, or of why it is held; without case
	Held        bool      `json:"held,omitempty"`
	Quarantined bool      `json:"quarantined,omitempty"`
	All         bool      `json:"all,omitempty"` // says that nothing else is set on purpose
}

// maxIDs bounds the ids of one order.
const maxIDs = 100000

// Errors of Filter.Check.
var (
	ErrNoFilter = errors.New("say which messages: ids, a filter, or all")
	ErrBadID    = errors.New("not the id of a message")
	ErrManyIDs  = errors.New("too many ids at once")

	// ErrNotQuarantined is the problem of a message that is queued, but not there
	// where the filter asks for it.
	ErrNotQuarantined = errors.New("the message is not in quarantine")
)

// Check tells whether the filter may choose messages for an order: an empty one
// does not mean everything, unless it says All.
func (f *Filter) Check() error {
	if len(f.IDs) > maxIDs {
		return ErrManyIDs
	}
	for _, id := range f.IDs {
		if !message.ValidID(id) {
			return ErrBadID
		}
	}
	if !f.All && len(f.IDs) == 0 && !f.narrows() {
		return ErrNoFilter
	}
	return nil
}

// narrows tells whether anything but ids is set.
func (f *Filter) narrows() bool {
	return f.Sender != "" || f.Recipient != "" || f.Domain != "" || f.Route != "" || !f.Before.IsZero() || f.MinSize > 0 || f.Reason != "" || f.Held || f.Quarantined
}

// GoesTo tells whether the message fits Route, which Matches does not look at:
// one of its recipients that are not final goes there, as destination says.
func (f *Filter) GoesTo(m *queue.Message, destination func(m *queue.Message, recipient int) string) bool {
	if f.Route == "" {
		return true
	}
	for i := range m.Recipients {
		if !m.Recipients[i].State.Final() && strings.EqualFold(destination(m, i), f.Route) {
			return true
		}
	}
	return false
}

// Matches tells whether the message is one of those meant.
func (f *Filter) Matches(m *queue.Message) bool {
	switch {
	case len(f.IDs) > 0 && !slices.Contains(f.IDs, m.ID),
		f.Sender != "" && !addressFits(f.Sender, m.Sender),
		!f.Before.IsZero() && !m.Arrived.Before(f.Before),
		m.Size < f.MinSize,
		f.Quarantined && m.Place != queue.Quarantined,
		f.Held && m.Place != queue.Held && !slices.ContainsFunc(m.Recipients, func(r queue.Recipient) bool { return r.Held }):
		return false
	}
	if f.Recipient == "" && f.Domain == "" && f.Reason == "" {
		return true
	}
	if f.Reason != "" && contains(m.Reason, f.Reason) && f.Recipient == "" && f.Domain == "" {
		return true
	}
	return slices.ContainsFunc(m.Recipients, func(r queue.Recipient) bool {
		return !r.State.Final() &&
			(f.Recipient == "" || addressFits(f.Recipient, r.Address)) &&
			(f.Domain == "" || hooks.MatchDomain([]string{strings.ToLower(f.Domain)}, r.Address.Domain)) &&
			(f.Reason == "" || contains(r.Last.String(), f.Reason) || contains(m.Reason, f.Reason))
	})
}

func addressFits(pattern string, a message.Address) bool {
	if pattern == "<>" {
		return a.IsNull()
	}
	if domain, ok := strings.CutPrefix(pattern, "@"); ok {
		return strings.EqualFold(domain, a.Domain)
	}
	return strings.EqualFold(strings.TrimSuffix(strings.TrimPrefix(pattern, "<"), ">"), a.String())
}

func contains(text, part string) bool {
	return part != "" && strings.Contains(strings.ToLower(text), strings.ToLower(part))
}
