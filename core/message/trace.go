package message

import (
	"net/netip"
	"strings"
	"time"
)

// DateLayout is the date of RFC 5322 section 3.3, for time.Time.Format.
const DateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// Hop is what a Received field tells (RFC 5321 section 4.4).
type Hop struct {
	Helo string     // what the client called itself
	Host string     // its confirmed name, "" where unknown
	IP   netip.Addr // its address; the zero value where it came by no network
	By   string     // our name
	With string     // ESMTP, ESMTPS, ESMTPA…; RFC 3848
	ID   string
	Text string // replaces everything between "Received: " and the date, where set
	At   time.Time
}

// Received is the whole field, folded, with its final CRLF. Whatever the client
// said is reduced to printable ASCII without brackets or semicolons that could
// end a part of it.
func (h Hop) Received() []byte {
	b := make([]byte, 0, 256)
	b = append(b, "Received: "...)
	if h.Text != "" {
		b = append(b, cleanTrace(h.Text, false)...)
	} else {
		if h.IP.IsValid() {
			b = append(b, "from "...)
			b = append(b, cleanTrace(h.Helo, true)...)
			b = append(b, " ("...)
			if h.Host == "" {
				b = append(b, "unknown"...)
			} else {
				b = append(b, cleanTrace(h.Host, true)...)
			}
			b = append(b, ' ')
			b = append(b, Literal(h.IP)...)
			b = append(b, ")\r\n\t"...)
		}
		b = append(b, "by "...)
		b = append(b, h.By...)
		b = append(b, " with "...)
		b = append(b, h.With...)
		b = append(b, " id "...)
		b = append(b, h.ID...)
	}
	b = append(b, ";\r\n\t"...)
	b = h.At.AppendFormat(b, DateLayout)
	return append(b, '\r', '\n')
}

func cleanTrace(s string, atom bool) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r > '~':
			return '?'
		case atom && strings.ContainsRune(" ();\\\"<>", r):
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "unknown"
	}
	return s
}
