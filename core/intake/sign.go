package intake

import (
	"fmt"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// ours tells whether the message is one that we send for somebody who may, or for
// ourselves, so that we answer for it with a signature.
func (m *Mail) ours() bool {
	s := m.tx.Session
	return m.local || s.Protocol != Forwarded && (s.Relaying || s.Authenticated)
}

// signed is the message as it goes out, which begins with our Received field, with our
// signatures behind that field, or, where it is somebody else's, with our seal. It is called when nothing will change any more.
func (m *Mail) signed(whole message.Edited, now time.Time) (message.Edited, error) {
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
		return whole, fmt.Errorf("sign: %w", err)
	}
	if len(fields) == 0 {
		return whole, nil
	}
	n := firstField(whole.Head)
	head := make([]byte, 0, len(whole.Head)+len(fields))
	head = append(append(append(head, whole.Head[:n]...), fields...), whole.Head[n:]...)
	return message.Edited{Head: head, Rest: whole.Rest, From: whole.From}, nil
}
