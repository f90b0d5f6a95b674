package send

import (
	"bytes"
	"fmt"
	"mime/quotedprintable"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// report makes a notice's text: a multipart/report (RFC 6522) of a text for
// people in the form of QSBMF, a message/delivery-status (RFC 3464), and the
// header section of the message in question, or the message itself. All of it but
// that is 7-bit, and nothing that another server said, or an address holds, can
// add a line.
type report struct {
	kind   Kind
	config *Config
	about  *queue.Message
	to     message.Address
	list   []int
	header []byte
	full   []byte // instead of header
	now    time.Time
	id     string
}

// maxSaid bounds another server's words in a notice.
const maxSaid = 600

func (r *report) bytes() []byte {
	var b bytes.Buffer
	host := clean(r.config.Hostname)
	boundary := "=_" + r.id
	subject := [...]string{"failure notice", "delay notice", "failure notice: double bounce", "success notice"}[r.kind]
	fmt.Fprintf(&b, "Date: %s\r\nFrom: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <%s@%s>\r\n",
		r.now.Format(message.DateLayout), host, clean(r.to.Path()), subject, r.id, host)
	fmt.Fprintf(&b, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n%s\r\n", boundary, label(r.full))
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", boundary)
	r.text(&b, host)
	fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: message/delivery-status\r\n\r\n", boundary)
	r.status(&b, host)
	if r.full != nil {
		fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: message/rfc822\r\n%s\r\n", boundary, label(r.full))
		b.Write(r.full)
	} else {
		fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: text/rfc822-headers\r\n", boundary)
		writeHeader(&b, r.header)
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes()
}

// label is the Content-Transfer-Encoding of a part that holds b.
func label(b []byte) string {
	for _, c := range b {
		if c >= 0x80 {
			return "Content-Transfer-Encoding: 8bit\r\n"
		}
	}
	return ""
}

// text is the part for people. QSBMF readers know a bounce by its first words,
// find a paragraph for each recipient that begins with "<address>:", and stop at
// one that begins with a hyphen. Other notices must not look like that.
func (r *report) text(b *bytes.Buffer, host string) {
	switch r.kind {
	case Delay:
		fmt.Fprintf(b, "This is a note from the mail system at %s. There is nothing you need to do.\r\n"+
			"Your message has not reached the recipients below yet. It will be tried\r\nuntil %s;\r\n"+
			"if it can't be delivered by then, you will be told.\r\n", host, r.about.Arrived.Add(r.config.Lifetime).Format(message.DateLayout))
	case Success:
		fmt.Fprintf(b, "This is a note from the mail system at %s, as you asked for.\r\n"+
			"Your message reached the recipients below, or a mail system that sends no\r\nsuch notes and from which you will not hear of it.\r\n", host)
	case Double:
		fmt.Fprintf(b, "Hi. This is the mail system at %s.\r\n"+
			"A bounce could not be delivered to the sender it was meant for, and is given up.\r\n", host)
	default:
		fmt.Fprintf(b, "Hi. This is the mail system at %s.\r\n"+
			"Your message could not be delivered to the recipients below, and it will not\r\nbe tried again. What was said of each of them follows its address.\r\n", host)
	}
	for _, i := range r.list {
		to := &r.about.Recipients[i]
		fmt.Fprintf(b, "\r\n%s:\r\n", clean(escape(to.Address.Path())))
		if r.kind == Success {
			b.WriteString(map[bool]string{false: "It is delivered.\r\n", true: "It was handed on.\r\n"}[to.Relayed])
		}
		if r.failed() && expired(to) {
			fmt.Fprintf(b, "It was tried for %s without success. The last answer:\r\n", short(r.config.Lifetime))
		}
		if to.Peer != "" {
			fmt.Fprintf(b, "%s said:\r\n", clean(to.Peer))
		}
		said := strings.TrimRight(to.Last.Error(), " ")
		if to.Last.IsZero() {
			said = "no answer yet"
		}
		for line := range lines(said) {
			b.WriteString(line)
			b.WriteString("\r\n")
		}
	}
	if r.full != nil {
		b.WriteString("\r\n--- The message is attached.\r\n")
		return
	}
	b.WriteString("\r\n--- The header section of the message is attached.\r\n")
}

// status is the message/delivery-status (RFC 3464 section 2).
func (r *report) status(b *bytes.Buffer, host string) {
	if id := unxtext(r.about.EnvID); id != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", clean(id))
	}
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\nArrival-Date: %s\r\n", host, r.about.Arrived.Format(message.DateLayout))
	for _, i := range r.list {
		to := &r.about.Recipients[i]
		b.WriteString("\r\n")
		if to.Original != "" {
			fmt.Fprintf(b, "Original-Recipient: %s\r\n", original(to.Original))
		}
		fmt.Fprintf(b, "Final-Recipient: %s\r\n", typed(to.Address.String()))
		action := [...]string{"failed", "delayed", "failed", "delivered"}[r.kind]
		if r.kind == Success && to.Relayed {
			action = "relayed"
		}
		fmt.Fprintf(b, "Action: %s\r\nStatus: %s\r\n", action, r.statusOf(to))
		by := "x-postern"
		if to.Peer != "" {
			name, _, _ := strings.Cut(to.Peer, " ")
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", clean(name))
			by = "smtp"
		}
		if !to.Last.IsZero() {
			fmt.Fprintf(b, "Diagnostic-Code: %s; %s\r\n", by, clean(to.Last.String()))
		}
		if !to.Tried.IsZero() {
			fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", to.Tried.Format(message.DateLayout))
		}
		if r.kind == Delay {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", r.about.Arrived.Add(r.config.Lifetime).Format(message.DateLayout))
		}
	}
}

// failed tells whether the report is of recipients that were given up.
func (r *report) failed() bool { return r.kind == Failure || r.kind == Double }

// expired tells whether a recipient was given up for its age: nothing else
// fails with an answer that is temporary.
func expired(r *queue.Recipient) bool { return r.State == queue.Failed && !r.Last.Permanent() }

// statusOf is the status code (RFC 3463) of a recipient.
func (r *report) statusOf(to *queue.Recipient) string {
	switch s := to.Last.Status(); {
	case r.kind == Success && to.Relayed:
		return "2.1.9" // relayed to one that does not speak DSN
	case r.kind == Success && (s == "" || s[0] != '2'):
		return "2.0.0"
	case r.kind == Success:
		return s
	case r.kind != Delay && expired(to):
		return "4.4.7"
	case r.kind == Delay && (s == "" || s[0] != '4'):
		return "4.0.0"
	case s == "" || r.kind != Delay && s[0] != '5':
		return "5.0.0"
	default:
		return s
	}
}

// original is an ORCPT value, or an address, as Original-Recipient has it: decoded
// (RFC 3464 section 2.3.1), except where it is beyond ASCII (RFC 6533 section 3).
func original(s string) string {
	kind, rest, ok := strings.Cut(s, ";")
	switch {
	case !ok || strings.ContainsAny(kind, "@ \""):
		return typed(s)
	case strings.EqualFold(kind, "utf-8"):
		return clean(kind) + "; " + clean(escape(rest))
	}
	return clean(kind) + "; " + clean(unxtext(rest))
}

// typed is an address with its type.
func typed(s string) string {
	if e := escape(s); e != s {
		return "utf-8; " + clean(e)
	}
	return "rfc822; " + clean(s)
}

// escape is a text with what is beyond ASCII as RFC 6533 section 3 writes it in
// ASCII: \x{E9}.
func escape(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 && r != '\\' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\x{%X}", r)
		}
	}
	return b.String()
}

// unxtext decodes xtext (RFC 3461 section 4); what is none stays as it is.
func unxtext(s string) string {
	if !strings.Contains(s, "+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '+' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// writeHeader writes the header section as a body part, quoted-printable where
// it is not fit for 7-bit lines (RFC 6522 section 4).
func writeHeader(b *bytes.Buffer, header []byte) {
	if fit(header) {
		b.WriteString("\r\n")
		b.Write(header)
		return
	}
	b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(b)
	_, _ = w.Write(header) // a bytes.Buffer takes everything
	_ = w.Close()
}

// fit tells whether b is lines of at most 998 printable ASCII characters with CRLF.
func fit(b []byte) bool {
	n := 0
	for i, c := range b {
		switch {
		case c == '\r' && i+1 < len(b) && b[i+1] == '\n':
		case c == '\n' && i > 0 && b[i-1] == '\r':
			n = 0
		case c >= ' ' && c <= '~' || c == '\t':
			if n++; n > 998 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// clean is a text as one line of printable ASCII of bounded length.
func clean(s string) string {
	if len(s) > maxSaid {
		s = s[:maxSaid] + "..."
	}
	b := []byte(s)
	for i, c := range b {
		switch {
		case c == '\n' || c == '\r' || c == '\t':
			b[i] = ' '
		case c < ' ' || c > '~':
			b[i] = '?'
		}
	}
	return string(b)
}

// lines parts a text into lines of at most 76 characters where blanks allow it.
// It holds no empty line, which would end a paragraph of QSBMF.
func lines(s string) func(yield func(string) bool) {
	const width = 76
	return func(yield func(string) bool) {
		for s = clean(s); s != ""; {
			line := s
			if len(line) > width {
				if i := strings.LastIndexByte(s[:width+1], ' '); i > width/2 {
					line = s[:i]
				} else if i := strings.IndexByte(s[width:], ' '); i >= 0 {
					line = s[:width+i] // a long word stays whole
				}
			}
			s = strings.TrimLeft(s[len(line):], " ")
			if line[0] == '-' || line[0] == '<' { // neither another paragraph nor the end
				line = " " + line
			}
			if !yield(line) {
				return
			}
		}
	}
}

// short is a duration in days, hours, minutes or seconds, whichever is whole.
func short(d time.Duration) string {
	for _, u := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "days"}, {time.Hour, "hours"}, {time.Minute, "minutes"}, {time.Second, "seconds"}} {
		if d >= u.size && d%u.size == 0 {
			return fmt.Sprintf("%d %s", d/u.size, u.name)
		}
	}
	return d.String()
}
