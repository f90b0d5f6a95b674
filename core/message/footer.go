package message

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Footer is a text to be added to a message's end, or to its top, such as a
// disclaimer or the notice that a mail came from outside. Where HTML is empty it
// is made of Text, and the other way round.
type Footer struct {
	Text string // UTF-8
	HTML string // UTF-8, a piece that may stand within a body element
	Top  bool
}

const (
	maxFooter     = 64 << 10
	maxFooterText = 4 << 20 // octets of a text part that is changed in place
)

var errFooter = errors.New("a footer has a text of at most 64 KiB, without NUL")

// Add puts the footer into the message that is made of the header section h and of
// body from offset start on, and returns the new content. h is changed where the
// message's own MIME fields must be. How it was done is told by done; where the
// message is one that must not be touched, content is nil and done says why.
//
// The footer goes into the text that a reader shows first: a text part, each text
// of a multipart/alternative, the first part of a multipart/mixed, in the part's
// own charset and transfer encoding; US-ASCII becomes UTF-8 where the footer needs
// it. Where the text can't hold it, it becomes a part of its own in a
// multipart/mixed. Signed, encrypted and machine-readable messages are left alone;
// signed texts within a multipart/mixed are, and the footer stands beside them.
func (f Footer) Add(h *Header, body Body, start int64) (content Body, done string, err error) {
	if f, err = f.complete(); err != nil {
		return nil, "", err
	}
	head := h.Section()
	whole := Edited{Head: head, Rest: body, From: start}
	m, err := ParseMIME(whole)
	if err != nil {
		return nil, "", err
	}
	e := footerEdit{Footer: f, whole: whole, header: h, m: m}
	content, done, err = e.run(int64(len(head)))
	if err != nil || content == nil {
		return nil, done, err
	}
	if by := signers(h); by != "" {
		done += "; it breaks the DKIM signature of " + by
	}
	return content, done, nil
}

// Section is Bytes with the empty line behind it.
func (h *Header) Section() []byte {
	b := h.Bytes()
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\r', '\n')
	}
	return append(b, '\r', '\n')
}

// complete fills in the missing form and gives both the line ends of the wire.
func (f Footer) complete() (Footer, error) {
	if strings.TrimSpace(f.Text+f.HTML) == "" {
		return f, errFooter
	}
	if f.HTML == "" {
		f.HTML = htmlOf(f.Text)
	}
	if f.Text == "" {
		text, _, err := RenderHTML(strings.NewReader(f.HTML), maxFooter)
		if err != nil {
			return f, err
		}
		f.Text = text
	}
	if len(f.Text) > maxFooter || len(f.HTML) > 2*maxFooter || strings.ContainsRune(f.Text+f.HTML, 0) {
		return f, errFooter
	}
	f.Text = strings.Trim(wireLines(strings.ToValidUTF8(f.Text, "\uFFFD")), "\r\n") + "\r\n"
	f.HTML = wireLines(strings.ToValidUTF8(f.HTML, "\uFFFD"))
	return f, nil
}

// wireLines makes every line end CRLF.
func wireLines(s string) string { return crlfs.Replace(s) }

var crlfs = strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n")

// signers lists the domains that signed the message (RFC 6376).
func signers(h *Header) string {
	var list []string
	for f := range h.Named("DKIM-Signature") {
		for tag := range strings.SplitSeq(f.Value(), ";") {
			if k, v, ok := strings.Cut(tag, "="); ok && strings.TrimSpace(k) == "d" && len(list) < 10 {
				list = append(list, cleanTrace(strings.TrimSpace(v), true))
			}
		}
	}
	return strings.Join(slices.Compact(list), ", ")
}

// footerEdit is one footer on its way into one message.
type footerEdit struct {
	Footer
	whole  Edited
	header *Header
	m      *MIME

	texts   []*Part
	why     string // a text can't be changed
	splices []splice
}

func (e *footerEdit) run(start int64) (content Body, done string, err error) {
	root := e.m.Root
	if e.m.Truncated != "" {
		return nil, "left alone: its structure is beyond the bounds", nil
	}
	if root.From != start {
		return nil, "left alone: a header section that does not end", nil
	}
	for f := range e.header.Fields() {
		if f.Name == "" && !bytes.HasPrefix(f.Raw, []byte("From ")) && !bytes.HasPrefix(f.Raw, []byte(">From ")) {
			return nil, "left alone: a line of the header section that is no field", nil
		}
	}
	if why := untouchable(root); why != "" {
		return nil, "left alone: " + why, nil
	}
	ok := e.collect(root)
	header := e.header.Clone()
	for _, p := range e.texts {
		if !ok {
			break
		}
		if ok, err = e.insert(p); err != nil {
			return nil, "", err
		}
	}
	if !ok {
		*e.header = *header
	}
	switch {
	case ok && len(e.texts) == 1:
		return spliced(e.whole, start, e.splices), "in the text", nil
	case ok:
		return spliced(e.whole, start, e.splices), fmt.Sprintf("in %d texts", len(e.texts)), nil
	case e.why != "" && root.Type != "multipart/mixed":
		return nil, "left alone: " + e.why, nil
	case root.Type == "multipart/mixed" && len(root.Children) > 0:
		if root.Fault != "" {
			return nil, "left alone: " + root.Fault, nil
		}
		return e.addPart(root, start), "as a part", nil
	}
	return e.wrap(start), "as a part of a new multipart", nil
}

// untouchable says why a message, or a part, must stay as it is; "" where it need
// not.
func untouchable(p *Part) string {
	switch p.Type {
	case "multipart/signed", "application/pkcs7-signature", "application/pgp-signature":
		return "signed"
	case "multipart/encrypted", "application/pgp-encrypted":
		return "encrypted"
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		return "signed or encrypted (S/MIME)"
	case "multipart/report", "message/delivery-status", "message/disposition-notification", "message/partial", "message/external-body":
		return "for machines: " + p.Type
	}
	return ""
}

// collect finds the texts that the footer belongs into. It reports false where
// that one is not there.
func (e *footerEdit) collect(p *Part) bool {
	switch {
	case untouchable(p) != "":
		return false
	case p.Type == "multipart/alternative":
		found := false
		for _, c := range p.Children {
			if isBodyText(c) || c.Multipart() {
				if !e.collect(c) {
					return false
				}
				found = true
			}
		}
		return found
	case p.Type == "multipart/mixed" || p.Type == "multipart/related":
		return len(p.Children) > 0 && e.collect(p.Children[0])
	case isBodyText(p):
		e.texts = append(e.texts, p)
		return true
	}
	return false
}

func isBodyText(p *Part) bool {
	return (p.Type == "text/plain" || p.Type == "text/html") && p.IsText()
}

// addPart puts the footer into a multipart/mixed.
func (e *footerEdit) addPart(p *Part, start int64) Body {
	boundary := "--" + p.boundary() + "\r\n"
	part := e.part()
	if e.Top {
		at := p.Children[0].Start
		return spliced(e.whole, start, []splice{{at, at, append(part, boundary...)}})
	}
	at := p.Children[len(p.Children)-1].End
	return spliced(e.whole, start, []splice{{at, at, append([]byte("\r\n"+boundary), part...)}})
}

// part is the footer as a part of its own, header section included. Its last line
// has an end.
func (e *footerEdit) part() []byte {
	fields, text := textEntity([]byte(e.Text), "text/plain")
	return append([]byte(fields+"Content-Disposition: inline\r\n\r\n"), text...)
}

// textEntity is a text of UTF-8 with CRLF line ends as a MIME entity: its fields,
// and its content in a form that any relay takes.
func textEntity(text []byte, kind string) (fields string, content []byte) {
	label, encoding := "us-ascii", "7bit"
	if !isASCII(string(text)) {
		label = "utf-8"
	}
	if content = text; label == "utf-8" || longLines(text) {
		encoding, content = "quoted-printable", appendQuoted(nil, text)
	}
	return "Content-Type: " + kind + "; charset=" + label + "\r\nContent-Transfer-Encoding: " + encoding + "\r\n", content
}

// wrap makes a multipart/mixed of the message and the footer.
func (e *footerEdit) wrap(start int64) Body {
	boundary := "postern_" + rand.Text()
	h := e.header
	inner := &Header{}
	encoding := ""
	for f := range h.Fields() {
		if wantedField(f.Raw) && f.Name != "" {
			inner.fields = append(inner.fields, f)
		}
	}
	switch e.m.Root.Encoding {
	case "8bit", "binary":
		encoding = e.m.Root.Encoding // RFC 2045 section 6.4
	}
	for _, f := range inner.fields {
		h.Remove(f.Name, 0)
	}
	_ = h.Append("Content-Type", `multipart/mixed; boundary="`+boundary+`"`) // a valid field
	if encoding != "" {
		_ = h.Append("Content-Transfer-Encoding", encoding)
	}
	if h.Count("MIME-Version") == 0 {
		_ = h.Append("MIME-Version", "1.0")
	}
	r := &Rope{}
	delim := "--" + boundary
	if e.Top {
		r.AddBytes(fmt.Appendf(nil, "%s\r\n%s%s\r\n", delim, e.part(), delim))
		r.AddBytes(inner.Section())
		r.Add(e.whole, start, e.whole.Size()-start)
		r.AddBytes([]byte("\r\n" + delim + "--\r\n"))
		return r
	}
	r.AddBytes([]byte(delim + "\r\n"))
	r.AddBytes(inner.Section())
	r.Add(e.whole, start, e.whole.Size()-start)
	r.AddBytes(fmt.Appendf(nil, "\r\n%s\r\n%s%s--\r\n", delim, e.part(), delim))
	return r
}
