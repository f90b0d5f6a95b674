package qmail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Composer completes a message as qmail-inject does: it rewrites the addresses of its
// header, adds what it lacks, and reads the envelope out of it.
type Composer struct {
	// Names for addresses that lack something. DefaultHost stands behind an address
	// without @, PlusDomain behind a host that ends in +, DefaultDomain behind one without
	// a dot, IDHost in the Message-ID.
	DefaultHost, DefaultDomain, PlusDomain, IDHost string

	User, Host, Name string // of From, where the message has none; Host "": DefaultHost
	Sender           string // of the envelope, whatever else says so, where HasSender
	HasSender        bool
	SUser, SHost     string // of the envelope where nothing else says so; "": User and Host

	FromHeader bool     // recipients are those of the header too
	Recipients []string // and these
	Lists      []string // addresses of lists: mail to one gets a Mail-Followup-To

	CommentName      bool // c: the name stands in a comment behind the address
	IgnoreReturnPath bool // s: Return-Path does not set the envelope sender
	DropFrom         bool // f
	DropMessageID    bool // i
	VERP             bool // r: a sender for each recipient
	UniqueSender     bool // m: a sender for this message

	Now time.Time
	PID int
}

// Composed is a message that is ready for the queue, with LF line ends.
type Composed struct {
	Sender     string
	Recipients []string
	Head       []byte // the header section and the blank line
	Body       io.Reader
}

// ErrHeader says that a field from which the sender would be known is no list of
// addresses.
var ErrHeader = errors.New("the header can't be used")

// The largest header section, in bytes.
const maxComposed = 8 << 20

// class is what a field means for the envelope.
type class int

const (
	plain     class = iota
	rewritten       // a sender-type field: its addresses are rewritten, and must be some
	recipient       // To, Cc…: rewritten, and recipients
	blind           // Bcc: recipients, and removed
	removed
)

// classes of fields by their names in lower case; a Resent- field is in resent.
var classes = map[string]class{
	"to": recipient, "cc": recipient, "apparently-to": recipient, "bcc": blind,
	"from": rewritten, "sender": rewritten, "reply-to": rewritten, "errors-to": rewritten, "return-receipt-to": rewritten,
	"mail-followup-to": rewritten, "mail-reply-to": rewritten,
	"return-path": removed, "content-length": removed,
	"resent-to": recipient, "resent-cc": recipient, "resent-bcc": blind,
	"resent-from": rewritten, "resent-sender": rewritten, "resent-reply-to": rewritten,
}

// Compose reads a message and completes it.
func (c *Composer) Compose(r io.Reader) (*Composed, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	fields, err := readFields(b)
	if err != nil {
		return nil, err
	}
	h := composing{Composer: c, seen: map[string]bool{}}
	for _, f := range fields {
		h.resent = h.resent || strings.HasPrefix(f.name, "resent-")
	}
	for _, f := range fields {
		if err := h.field(f); err != nil {
			return nil, err
		}
	}
	out := &Composed{Sender: h.sender(), Recipients: c.all(h.recipients), Body: b}
	out.Head = append(h.added(), h.kept.Bytes()...)
	out.Head = append(out.Head, '\n')
	return out, nil
}

// field is one of the header, with its continuation lines.
type field struct{ name, text string }

// value is what stands behind the colon.
func (f field) value() string {
	_, v, _ := strings.Cut(f.text, ":")
	return v
}

// readFields reads the header section and the blank line behind it. What is no field
// begins the body, and stays in b.
func readFields(b *bufio.Reader) (list []field, err error) {
	size := 0
	for {
		peek, err := b.Peek(1)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		first := peek[0] // what Peek gave is good until the next call
		switch {
		case first == '\n':
			_, err = b.Discard(1)
			return list, err
		case first == '\r':
			if two, _ := b.Peek(2); len(two) == 2 && two[1] == '\n' {
				_, err = b.Discard(2)
				return list, err
			}
			return list, nil
		case (first == ' ' || first == '\t') && len(list) > 0:
		case len(list) == 0 && startsWith(b, "From "):
			// What a mailbox has in front of a message.
		case !startsField(b):
			return list, nil
		}
		line, err := b.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if size += len(line); size > maxComposed {
			return nil, fmt.Errorf("%w: it is larger than %d MiB", ErrHeader, maxComposed>>20)
		}
		line = strings.TrimRight(line, "\r\n") + "\n"
		switch {
		case first == ' ' || first == '\t':
			list[len(list)-1].text += line
		case strings.HasPrefix(line, "From "):
			list = append(list, field{"mbox-line", "MBOX-Line: " + line})
		default:
			name, _, _ := strings.Cut(line, ":")
			list = append(list, field{strings.ToLower(strings.TrimRight(name, " \t")), line})
		}
	}
}

func startsWith(b *bufio.Reader, what string) bool {
	p, _ := b.Peek(len(what))
	return string(p) == what
}

// startsField tells whether a line begins with a field's name (RFC 822 section 3.2).
func startsField(b *bufio.Reader) bool {
	p, _ := b.Peek(1000)
	for i, c := range p {
		switch {
		case c == ':':
			return i > 0
		case c == ' ' || c == '\t':
			rest := bytes.TrimLeft(p[i:], " \t")
			return i > 0 && len(rest) > 0 && rest[0] == ':'
		case c < '!' || c > '~':
			return false
		}
	}
	return false
}

// composing is a Composer at work.
type composing struct {
	*Composer
	kept       bytes.Buffer
	seen       map[string]bool
	resent     bool
	recipients []string
	followUp   []string // all of To and Cc
	returnPath *string
}

func (h *composing) field(f field) error {
	kind := classes[f.name]
	h.seen[f.name] = true
	switch {
	case f.name == "from" && h.DropFrom, f.name == "message-id" && h.DropMessageID:
		h.seen[f.name] = false
		return nil
	case f.name == "return-path":
		if list, err := parseList(f.value()); err == nil && len(list) == 1 && !h.IgnoreReturnPath {
			path := ""
			if list[0].address != nil {
				h.rewrite(list[0].address)
				path = list[0].address.raw()
			}
			h.returnPath = &path
		}
		return nil
	case kind == removed:
		return nil
	case kind == plain:
		h.kept.WriteString(f.text)
		return nil
	}
	list, err := parseList(f.value())
	if err != nil {
		if kind == rewritten {
			return fmt.Errorf("%w: %s: %w", ErrHeader, strings.TrimSpace(strings.SplitN(f.text, "\n", 2)[0]), err)
		}
		if kind != blind { // as it is, since its recipients may be known otherwise
			h.kept.WriteString(f.text)
		}
		return nil
	}
	for _, one := range list {
		if one.address == nil {
			continue
		}
		h.rewrite(one.address)
		if kind == recipient && (f.name == "to" || f.name == "cc") {
			h.followUp = append(h.followUp, one.address.raw())
		}
		if (kind == recipient || kind == blind) && strings.HasPrefix(f.name, "resent-") == h.resent {
			h.recipients = append(h.recipients, one.address.raw())
		}
	}
	if kind != blind {
		name, _, _ := strings.Cut(f.text, ":")
		fmt.Fprintf(&h.kept, "%s: %s\n", strings.TrimRight(name, " \t"), writeList(list))
	}
	return nil
}

// rewrite completes an address.
func (c *Composer) rewrite(a *addrSpec) {
	if a.domain == "" {
		a.domain = c.DefaultHost
	}
	switch {
	case strings.HasSuffix(a.domain, "+"):
		a.domain = strings.TrimSuffix(a.domain, "+") + "." + c.PlusDomain
	case !strings.ContainsAny(a.domain, ".["):
		a.domain += "." + c.DefaultDomain
	}
}

// Rewrite is an address of the envelope as it is written on a command line, completed.
func (c *Composer) Rewrite(text string) (string, error) {
	list, err := parseList(text)
	if err != nil || len(list) != 1 || list[0].address == nil {
		return "", fmt.Errorf("%q is no address", text)
	}
	c.rewrite(list[0].address)
	return list[0].address.raw(), nil
}

func (c *Composer) all(header []string) []string {
	if !c.FromHeader {
		return c.Recipients
	}
	return append(append([]string(nil), c.Recipients...), header...)
}

func or(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// sender is the envelope's.
func (h *composing) sender() string {
	switch {
	case h.HasSender:
		return h.Sender
	case h.returnPath != nil:
		return *h.returnPath
	}
	a := addrSpec{or(h.SUser, h.User), or(h.SHost, h.Host)}
	if h.UniqueSender {
		a.local += fmt.Sprintf("-%d.%d", h.Now.Unix(), h.PID)
	}
	h.rewrite(&a)
	if h.VERP {
		return a.local + "-@" + a.domain + "-@[]"
	}
	return a.local + "@" + a.domain
}

// added is the fields that the message lacks.
func (h *composing) added() []byte {
	var b bytes.Buffer
	prefix := ""
	if h.resent {
		prefix = "Resent-"
	}
	lacks := func(name string) bool { return !h.seen[strings.ToLower(prefix+name)] }
	now := h.Now.UTC()
	if lacks("Date") {
		fmt.Fprintf(&b, "%sDate: %s -0000\n", prefix, now.Format("2 Jan 2006 15:04:05"))
	}
	if lacks("Message-ID") {
		fmt.Fprintf(&b, "%sMessage-ID: <%s.%d.qmail@%s>\n", prefix, now.Format("20060102150405"), h.PID, h.IDHost)
	}
	if lacks("From") {
		fmt.Fprintf(&b, "%sFrom: %s\n", prefix, h.from())
	}
	if lacks("To") && lacks("Cc") {
		fmt.Fprintf(&b, "%sCc: recipient list not shown: ;\n", prefix)
	}
	if !h.resent && !h.seen["mail-followup-to"] && h.toList() {
		fmt.Fprintf(&b, "Mail-Followup-To: %s\n", strings.Join(h.followUp, ",\n  "))
	}
	return b.Bytes()
}

func (h *composing) toList() bool {
	for _, list := range h.Lists {
		for _, a := range h.followUp {
			if strings.EqualFold(a, strings.TrimSpace(list)) {
				return true
			}
		}
	}
	return false
}

// from is who the message is from.
func (h *composing) from() string {
	a := addrSpec{quoted(h.User, ".!#$%&'*+-/=?^_`{|}~"), h.Host}
	h.rewrite(&a)
	switch {
	case h.Name == "":
		return a.written()
	case h.CommentName:
		return a.written() + " (" + inComment.Replace(h.Name) + ")"
	}
	return quoted(h.Name, " !#$%&'*+-/=?^_`{|}~") + " <" + a.written() + ">"
}

// What stands for characters that would end a comment, a quoted string, or the line.
var (
	inComment = strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`, "\n", " ")
	inQuotes  = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ")
)

// quoted is a text in quotes where it has other than letters, digits and more.
func quoted(s, more string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(more, c)
	}
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..") {
		return s
	}
	return `"` + inQuotes.Replace(s) + `"`
}
