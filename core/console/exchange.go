package console

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// This file is messages that leave one queue and come into another, as files: a
// Detail is the envelope of an exported message, and data that anybody may have
// written where it comes back.

// doubleSender is how the sender of a double bounce is written.
const doubleSender = "#@[]"

// maxImported bounds the recipients of an imported message.
const maxImported = 100000

// maxEnvelope bounds the JSON of an imported envelope, in bytes.
const maxEnvelope = 64 << 20

// MessageOf is the message that the envelope of an export describes. Everything
// in it is checked; the time of the next attempt is now for what has none.
func MessageOf(d *Detail, now time.Time) (*queue.Message, error) {
	m := &queue.Message{
		ID: d.ID, Arrived: d.Arrived, Size: d.Size, Reason: d.Reason, Unicode: d.Unicode, EightBit: d.EightBit, Binary: d.Binary, SMTPUTF8: d.SMTPUTF8,
		Ret: d.Ret, EnvID: d.EnvID, Notified: d.Notified, Facts: d.Facts,
	}
	if s := d.Signed; s != nil {
		if m.Signed = (queue.Span{From: s.From, To: s.To}); s.From < 0 || s.To <= s.From || s.To > d.Size {
			return nil, fmt.Errorf("signed: %d to %d is no part of a message of %d bytes", s.From, s.To, d.Size)
		}
	}
	if !message.ValidID(d.ID) {
		return nil, fmt.Errorf("id %q is not the id of a message", d.ID)
	}
	if d.Sender == doubleSender {
		m.Double = true
	} else if a, err := message.ParseSender(d.Sender); err != nil {
		return nil, fmt.Errorf("sender %q: %w", d.Sender, err)
	} else {
		m.Sender = a
	}
	if d.Arrived.IsZero() || d.Arrived.After(now.Add(24*time.Hour)) {
		return nil, errors.New("arrived: it is no time in the past")
	}
	for p := queue.Active; ; p++ {
		if p.String() == d.Place {
			m.Place = p
			break
		}
		if p == queue.Quarantined {
			return nil, fmt.Errorf("place %q is none of active, held and quarantined", d.Place)
		}
	}
	if n := len(d.Recipients); n == 0 || n > maxImported {
		return nil, fmt.Errorf("%d recipients: a message has 1 to %d", n, maxImported)
	}
	for i := range d.Recipients {
		r, err := d.Recipients[i].recipient(now)
		if err != nil {
			return nil, fmt.Errorf("recipient %d: %w", i+1, err)
		}
		m.Recipients = append(m.Recipients, r)
	}
	if m.Done() {
		return nil, errors.New("every recipient is delivered or failed: there is nothing to be tried")
	}
	return m, lineOnly(m)
}

func (one *RowRecipient) recipient(now time.Time) (r queue.Recipient, err error) {
	r = queue.Recipient{
		Unicode: one.Unicode, Original: one.Original, Notify: one.Notify, Route: one.Route, Held: one.Held, Attempts: one.Attempts,
		Next: one.Next, Tried: one.Tried, Last: parseReply(one.LastReply), Peer: one.Peer, Relayed: one.Relayed,
	}
	if r.Address, err = message.ParseAddress(one.Address); err == nil && r.Address.IsNull() {
		err = message.ErrSyntax
	}
	if err != nil {
		return r, fmt.Errorf("address %q: %w", one.Address, err)
	}
	if one.Attempts < 0 {
		return r, fmt.Errorf("%d attempts", one.Attempts)
	}
	for s := queue.Ready; ; s++ {
		if s.String() == one.State {
			r.State = s
			break
		}
		if s == queue.Failed {
			return r, fmt.Errorf("state %q is none of ready, deferred, delivered and failed", one.State)
		}
	}
	switch {
	case !r.State.Final() && r.Next.IsZero(), r.State.Final() && one.Owed:
		r.Next = now
	case r.State.Final():
		r.Next = time.Time{}
	}
	return r, nil
}

// lineOnly refuses control characters in what is said to next hops and senders.
func lineOnly(m *queue.Message) error {
	bad := func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) }
	if bad(m.Ret) || bad(m.EnvID) || bad(m.Unicode) {
		return errors.New("control characters in ret, envid or unicode")
	}
	for i := range m.Recipients {
		if r := &m.Recipients[i]; bad(r.Original) || bad(r.Notify) || bad(r.Route) || bad(r.Unicode) || bad(r.Peer) {
			return fmt.Errorf("control characters in original, notify, route, unicode or peer of recipient %d", i+1)
		}
	}
	return nil
}

// parseReply reads what message.Reply's String wrote.
func parseReply(s string) message.Reply {
	code, rest, _ := strings.Cut(s, " ")
	n, err := strconv.Atoi(code)
	if err != nil || n < 200 || n > 599 {
		return message.Reply{}
	}
	if status, text, _ := strings.Cut(rest, " "); status != "" {
		if e, ok := message.ParseEnhanced(status); ok {
			return message.Reply{Code: n, Enhanced: e, Text: text}
		}
	}
	return message.Reply{Code: n, Text: rest}
}

// queueImport takes a message in as it was exported: a line with its Detail, then
// the message itself.
func (s *Server) queueImport(w http.ResponseWriter, r *http.Request) {
	if s.o.Import == nil {
		s.fail(w, http.StatusNotFound, errors.New("nothing can be imported here"))
		return
	}
	body := bufio.NewReaderSize(r.Body, 64<<10)
	m, err := imported(body)
	if err == nil {
		for i := range m.Recipients {
			if to := m.Recipients[i].Route; to != "" && s.o.NextHop != nil {
				err = errors.Join(err, s.o.NextHop(to))
			}
		}
	}
	if err == nil {
		err = s.o.Import(r.Context(), m, body)
	}
	// A client that is still sending would not see the answer.
	if _, discard := io.Copy(io.Discard, body); discard != nil {
		s.log.Debug("control: the rest of a message", "error", discard)
	}
	if err != nil {
		s.fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	s.reply(w, struct{}{})
}

func imported(b *bufio.Reader) (*queue.Message, error) {
	line, err := firstLine(b, maxEnvelope, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the envelope: %w", err)
	}
	var d Detail
	if err := json.Unmarshal(line, &d); err != nil {
		return nil, fmt.Errorf("reading the envelope: %w", err)
	}
	return MessageOf(&d, time.Now())
}

// Inspection is a line of a check of the queue: a fault, or how far it is, or at
// the end what was looked at.
type Inspection struct {
	Fault    *queue.Fault   `json:"fault,omitempty"`
	Messages int            `json:"messages,omitempty"` // done so far
	Result   *queue.Checked `json:"result,omitempty"`
}

// inspectStep is how often a check tells how far it is, in messages.
const inspectStep = 1000

// queueCheck checks the queue beside the mail that goes through it.
func (s *Server) queueCheck(w http.ResponseWriter, r *http.Request) {
	out := newLines(w)
	done, err := s.o.Queue.Check(r.Context(), func(f queue.Fault) { out.put(Inspection{Fault: &f}) }, func(n int) {
		if n%inspectStep == 0 {
			out.put(Inspection{Messages: n})
		}
	})
	if err != nil {
		out.put(failure{err.Error()})
	} else {
		out.put(Inspection{Result: &done})
	}
	out.flush()
}
