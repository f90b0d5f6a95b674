package intake

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// stamped is the message as it goes out, but for signatures.
func (m *Mail) stamped(now time.Time) message.Edited {
	head, from := m.stamp(now)
	return message.Edited{Head: head, Rest: m.draft.Body(), From: from}
}

// stamp is what stands in front of the stored message: our Received field, what was
// found out about the sender, and the header section where it was edited. from is where the received bytes go on.
func (m *Mail) stamp(now time.Time) (head []byte, from int64) {
	tx, s := m.tx, m.tx.Session
	hop := message.Hop{Helo: s.Helo, IP: s.Client.Addr().Unmap(), By: m.set.Hostname, With: withProtocol(tx), ID: tx.ID, Text: tx.Received, At: now}
	if hop.IP.IsValid() {
		ctx, cancel := context.WithCancel(m.ctx)
		cancel() // a name that is not known by now is not waited for
		hop.Host = s.Host(ctx)
	}
	if m.local || s.Protocol == submission {
		m.completeHeader(now)
	}
	head = append(hop.Received(), m.judged(hop.Host)...)
	if tx.Content > 0 {
		return append(head, tx.Header.Section()...), 0
	}
	if !tx.Header.Edited() {
		return head, 0
	}
	head = append(head, tx.Header.Bytes()...)
	if m.headLen == 0 && !m.startsEmpty() {
		head = append(head, "\r\n"...) // it had no header section, and must not become part of the new one
	}
	return head, int64(m.headLen)
}

// startsEmpty tells whether the message begins with an empty line, or is empty.
func (m *Mail) startsEmpty() bool {
	var first [2]byte
	n, err := m.draft.Body().ReadAt(first[:], 0)
	return n == 0 && errors.Is(err, io.EOF) || string(first[:n]) == "\r\n"
}

// completeHeader adds what mail made on this host, or submitted to it, may lack
// (RFC 6409 section 8; RFC 5322 section 3.6: a date is required, a Message-ID
// should be there). Whom submitted mail is from is the user's to say.
func (m *Mail) completeHeader(now time.Time) {
	h := m.tx.Header.Clone()
	if h.Count("Message-ID") == 0 {
		_ = h.Append("Message-ID", "<"+m.tx.ID+"@"+m.set.Hostname+">")
	}
	if h.Count("Date") == 0 {
		_ = h.Append("Date", now.Format(message.DateLayout))
	}
	if m.local && h.Count("From") == 0 && !m.tx.Sender.IsNull() {
		_ = h.Append("From", m.tx.Sender.Path())
	}
	m.tx.Header = h
}

// submission is the protocol of a session by which users hand in their mail.
const submission = "submission"

// DoubleBounce is the protocol of a session that carries a bounce of a bounce.
const DoubleBounce = "double-bounce"

// withProtocol is the word for how the message came: of RFC 3848, and where
// SMTPUTF8 was said of RFC 6531 section 4.3.
func withProtocol(tx *hooks.Transaction) string {
	s, with := tx.Session, "SMTP"
	switch {
	case s.Protocol == "lmtp":
		with = "LMTP"
	case s.Protocol != "smtp" && s.Protocol != submission:
		return s.Protocol
	case !s.Extended:
		return with
	case !tx.Said("SMTPUTF8"):
		with = "ESMTP"
	}
	if tx.Said("SMTPUTF8") {
		with = "UTF8" + with
	}
	if s.TLS != nil {
		with += "S"
	}
	if s.Authenticated {
		with += "A"
	}
	return with
}
