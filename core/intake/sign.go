package intake

import (
	"fmt"
	"io"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// ours tells whether the message is one that we send for somebody who may, or for
// ourselves, so that we answer for it with a signature.
func (m *Mail) ours() bool {
	s := m.tx.Session
	return m.local || s.Protocol != Forwarded && (s.Relaying || s.Authenticated)
}

// signed is the message as it goes out, which begins with our Received field, with our
// signatures behind that field, or, where it is somebody else's, with our seal, and where
// those stand. It is called when nothing will change any more.
func (m *Mail) signed(whole message.Edited, now time.Time) (message.Edited, queue.Span, error) {
	var fields []byte
	var err error
	switch {
	case m.ours() && m.set.Sign != nil:
		fields, err = m.set.Sign(m.tx.Sender, whole, now)
	case !m.ours() && m.set.Seal != nil:
		found, _ := m.results("")
		fields, err = m.set.Seal(m.came, whole, found, now)
	}
	if err != nil {
		return whole, queue.Span{}, fmt.Errorf("sign: %w", err)
	}
	if len(fields) == 0 {
		return whole, queue.Span{}, nil
	}
	whole, span := inserted(whole, message.FieldLen(whole.Head), fields)
	return whole, span, nil
}

// inserted is a message with fields in front of what stands at n of its header section.
func inserted(whole message.Edited, n int, fields []byte) (message.Edited, queue.Span) {
	head := make([]byte, 0, len(whole.Head)+len(fields))
	head = append(append(append(head, whole.Head[:n]...), fields...), whole.Head[n:]...)
	return message.Edited{Head: head, Rest: whole.Rest, From: whole.From}, queue.Span{From: int64(n), To: int64(n + len(fields))}
}

// Again makes our signatures, or our seal, for another form of a message that had them:
// old are the fields as they stood, and write writes the message without them, from its
// start to its end. The new ones go where the old ones stood; nil: nobody signs now.
type Again func(old []byte, write func(io.Writer) error, now time.Time) ([]byte, error)

// CopySigned is Copy for a queued message, whose own signatures are made anew, since they
// are of what is sent; where nobody signs any more, it goes without. The message is
// returned as it is of that copy.
func CopySigned(m *queue.Message, body message.Body, edits []hooks.Edit, again Again, now time.Time) (*queue.Message, message.Body, error) {
	if len(edits) == 0 {
		return m, body, nil
	}
	c, span := *m, m.Signed
	c.Signed = queue.Span{}
	bare := body
	if !span.Empty() {
		r := &message.Rope{}
		r.Add(body, 0, span.From)
		r.Add(body, span.To, body.Size()-span.To)
		bare = r
	}
	own, err := Copy(bare, edits, m.SMTPUTF8)
	if err != nil {
		return m, nil, err
	}
	if !span.Empty() && again != nil {
		old := make([]byte, span.To-span.From)
		if n, err := body.ReadAt(old, span.From); n < len(old) {
			return m, nil, fmt.Errorf("read our signatures: %w", err)
		}
		fields, err := again(old, func(w io.Writer) error {
			_, err := io.Copy(w, message.NewReader(own))
			return err
		}, now)
		if err != nil {
			return m, nil, fmt.Errorf("sign: %w", err)
		}
		if len(fields) > 0 {
			own, c.Signed = inserted(own.(message.Edited), int(span.From), fields)
		}
	}
	c.Size = own.Size()
	return &c, own, nil
}
