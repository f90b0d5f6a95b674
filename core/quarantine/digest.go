package quarantine

import (
	"bytes"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode"

	"github.com/postern-mta/postern/core/message"
)

// Entry is a message that is kept from a recipient. From, Subject and Reason may hold
// anything that a stranger wrote.
type Entry struct {
	ID      string
	From    string
	Subject string
	Reason  string
	Arrived time.Time
	Size    int64  // bytes
	Link    string // "" for none
}

// Digest is the mail that tells a recipient what is kept.
type Digest struct {
	From, To message.Address
	Hostname string
	Now      time.Time
	Entries  []Entry
	More     int           // further ones, which are not listed
	Keep     time.Duration // how long mail is kept
	Valid    time.Duration // of the links
}

const (
	maxShown = 100 // characters of what a stranger wrote
	timeForm = "Mon, 2 Jan 2006 15:04 -0700"
)

// Message is the digest as a message, with CRLF at each line's end. It is sent from
// the null path, and says that no person wrote it (RFC 3834).
func (d *Digest) Message() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n", d.From, d.To, d.subject(), d.Now.Format(time.RFC1123Z), message.NewID(d.Now), d.Hostname)
	b.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(d.text(), "\n", "\r\n"))) // into memory
	_ = w.Close()
	return b.Bytes()
}

func (d *Digest) subject() string {
	if n := len(d.Entries) + d.More; n != 1 {
		return fmt.Sprintf("%d messages are kept from you", n)
	}
	return "A message is kept from you"
}

func (d *Digest) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s takes this mail to %s for junk, or for worse, and keeps it in\nquarantine for %s. What you do nothing about is deleted then.\n", d.Hostname, d.To, span(d.Keep))
	for _, e := range d.Entries {
		fmt.Fprintf(&b, "\nFrom:    %s\nSubject: %s\nCame:    %s, %d KB\nKept as: %s\n", Clean(e.From), Clean(e.Subject), e.Arrived.Format(timeForm), (e.Size+1023)/1024, Clean(e.Reason))
		if e.Link != "" {
			fmt.Fprintf(&b, "Release: %s\n", e.Link)
		}
	}
	if d.More > 0 {
		fmt.Fprintf(&b, "\nAnd %d more, which are not listed.\n", d.More)
	}
	if len(d.Entries) > 0 && d.Entries[0].Link != "" {
		fmt.Fprintf(&b, "\nA link shows the message's sender and subject, and a button that has it\ndelivered to you. It works for %s. Do not pass this mail on: whoever has a\nlink can use it.\n", span(d.Valid))
	} else {
		b.WriteString("\nAsk your postmaster for what you want to have; say when it came.\n")
	}
	return b.String()
}

// span is a duration in words for people.
func span(d time.Duration) string {
	n, unit := int64(d/(24*time.Hour)), "day"
	if n == 0 {
		n, unit = max(int64(d/time.Hour), 1), "hour"
	}
	if n == 1 {
		return "a" + map[string]string{"day": "", "hour": "n"}[unit] + " " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// Clean is what a stranger wrote, as people may see it: on one line, not long, without
// characters that hide or turn round others, and with no link that can be clicked.
func Clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			r = ' '
		}
		if unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs) {
			continue
		}
		if n++; n > maxShown {
			b.WriteString("...")
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(strings.ReplaceAll(b.String(), "://", ": //"))
}
