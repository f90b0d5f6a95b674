package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// form is how the message goes to one host: what its extensions make of it.
type form struct {
	mail    string // the command MAIL
	rcpts   []int  // indices of recipients
	content content
	chunked bool // by BDAT
	utf8    bool // SMTPUTF8 is said
}

// errForm is a message that can't go to a host in any form.
type errForm struct{ reply message.Reply }

func (e errForm) Error() string { return e.reply.Error() }

// form decides how the message goes to cn for the recipients without an outcome.
// Recipients whose address the host can't take get their outcome here. An errForm
// means that nobody's message can go there.
func (t *transaction) form(cn *conn) (*form, error) {
	f := &form{content: content{body: t.job.Body, size: t.job.Body.Size()}}
	utf8, err := t.international(cn, f)
	if err != nil || len(f.rcpts) == 0 {
		return f, err
	}
	body, err := t.fit(cn, f)
	if err != nil {
		return f, err
	}
	return f, t.command(cn, f, body, utf8)
}

// preview is the form as far as it is known before the message: of its size,
// what the client said of it, 0 where it said nothing. What the message itself
// rules out is found by form later.
func (t *transaction) preview(cn *conn) (*form, error) {
	f := &form{content: content{size: t.job.Message.Size}, chunked: true} // DATA waits
	utf8, err := t.international(cn, f)
	if err != nil || len(f.rcpts) == 0 {
		return f, err
	}
	body := ""
	switch {
	case t.job.Message.Binary && cn.ext.binary && cn.ext.chunking:
		body = " BODY=BINARYMIME"
	case cn.ext.eightBit:
		body = " BODY=8BITMIME"
	}
	return f, t.command(cn, f, body, utf8)
}

// command writes MAIL, unless the message is larger than the host takes.
func (t *transaction) command(cn *conn, f *form, body string, utf8 bool) error {
	if size := f.content.size; cn.ext.size > 0 && size > cn.ext.size { // RFC 1870 section 6.3
		return errForm{message.NewReply(552, "5.3.4", "The message has %d bytes, the next hop takes %d", size, cn.ext.size)}
	}
	var b strings.Builder
	b.WriteString("MAIL FROM:<")
	b.WriteString(pathFor(t.job.Message.SenderFor(cn.ext.utf8), cn.ext.utf8))
	b.WriteString(">")
	b.WriteString(body)
	if cn.ext.sized && (f.content.size > 0 || t.job.Body != nil) {
		b.WriteString(" SIZE=")
		b.WriteString(strconv.FormatInt(f.content.size, 10))
	}
	if utf8 {
		b.WriteString(" SMTPUTF8")
	}
	if cn.ext.dsn {
		b.WriteString(mailDSN(t.job.Message.Ret, t.job.Message.EnvID))
	}
	f.mail, f.utf8 = b.String(), utf8
	return nil
}

// international settles who of the recipients the host can be told of, and
// whether SMTPUTF8 is to be said: where an address or a header section needs it,
// and only there, since a later host may lack it (RFC 6531 section 3.4). A domain
// alone needs nothing: it has a form in ASCII.
func (t *transaction) international(cn *conn, f *form) (utf8 bool, err error) {
	m := t.job.Message
	switch {
	case m.SMTPUTF8 && t.job.Body == nil:
		utf8 = cn.ext.utf8 // its header section is still to come
	case m.SMTPUTF8:
		if utf8, err = t.header8(); err != nil {
			return false, err
		}
	}
	if !cn.ext.utf8 && (utf8 || !isASCII(pathFor(m.Sender, false))) {
		return false, errForm{message.NewReply(550, "5.6.7", "The message needs SMTPUTF8, which the next hop does not know")}
	}
	if unsafe(m.Sender) {
		return false, errForm{errUnsafe}
	}
	utf8 = utf8 || !m.SenderFor(cn.ext.utf8).IsASCII()
	for _, i := range slices.Clone(t.rest) {
		to := m.Recipients[i].AddressFor(cn.ext.utf8)
		if !to.IsASCII() && !cn.ext.utf8 && !isASCII(pathFor(to, false)) {
			t.decide(i, send.Bounced, message.NewReply(553, "5.6.7", "The address needs SMTPUTF8, which the next hop does not know"))
			continue
		}
		if unsafe(to) {
			t.decide(i, send.Bounced, errUnsafe)
			continue
		}
		utf8 = utf8 || !to.IsASCII()
		f.rcpts = append(f.rcpts, i)
	}
	return utf8 && cn.ext.utf8, nil
}

// errUnsafe is the reply about an address that can't be said.
var errUnsafe = message.NewReply(553, "5.1.3", "The address holds control characters")

// unsafe tells whether an address could end a command. No parser lets one in; a
// stored message or a policy might.
func unsafe(a message.Address) bool {
	return strings.ContainsFunc(a.Local+a.Domain, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// pathFor is an address as MAIL and RCPT have it; without utf8, its domain in
// A-labels.
func pathFor(a message.Address, utf8 bool) string {
	if !utf8 && !isASCII(a.Domain) {
		if d, err := idna.Lookup.ToASCII(a.Domain); err == nil {
			a.Domain = d
		}
	}
	return a.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// fit makes the message one that the host takes, and returns the BODY parameter.
// A host without 8BITMIME gets 7-bit lines, one without BINARYMIME lines; where a
// message can't be rewritten so, nobody gets it.
func (t *transaction) fit(cn *conn, f *form) (param string, err error) {
	binary := t.job.Message.Binary
	switch {
	case binary && cn.ext.binary && cn.ext.chunking:
		f.chunked = true
		return " BODY=BINARYMIME", nil
	case !binary && cn.ext.eightBit:
		f.chunked, err = t.endless(cn)
		return " BODY=8BITMIME", err
	case !binary:
		if eight, err := t.beyondASCII(); err != nil || !eight {
			return "", err
		}
	}
	s, err := t.takenApart()
	if err == nil {
		f.content.plan, err = downgrade(s, binary, !cn.ext.eightBit)
	}
	switch {
	case errors.Is(err, errBody):
		return "", err
	case err != nil && binary:
		return "", errForm{message.NewReply(554, "5.6.1", "The message is binary, which the next hop does not take, and can't be rewritten: %v", err)}
	case err != nil:
		return "", errForm{message.NewReply(554, "5.6.3", "The message has 8-bit lines, which the next hop does not take, and can't be rewritten: %v", err)}
	}
	if f.content.plan != nil {
		if err := t.sign(f.content.plan); err != nil {
			return "", err
		}
		var n counter
		if err := f.content.plan.render(f.content.body, &n); err != nil {
			return "", err
		}
		f.content.size = int64(n)
	}
	if cn.ext.eightBit {
		param = " BODY=8BITMIME"
	}
	return param, nil
}

// sign puts signatures of the rewritten message in the place of our own, which are of
// what it was.
func (t *transaction) sign(p *plan) error {
	m := t.job.Message
	if m.Signed.Empty() {
		return nil
	}
	var old bytes.Buffer
	if err := copyBody(&old, t.job.Body, m.Signed.From, m.Signed.To); err != nil {
		return err
	}
	p.edits = append([]edit{{from: m.Signed.From, to: m.Signed.To}}, p.edits...) // they stand behind the first field
	again := t.c.set.Load().Again
	var fields []byte
	if again != nil {
		var err error
		fields, err = again(old.Bytes(), func(w io.Writer) error { return p.render(t.job.Body, w) }, time.Now())
		switch {
		case errors.Is(err, errBody):
			return err
		case err != nil:
			t.c.o.Log.Error("signing a rewritten message", "id", m.ID, "error", err)
			return errForm{message.NewReply(451, "4.3.0", "The message has to be rewritten for the next hop, and can't be signed then")}
		}
	}
	if len(fields) == 0 {
		t.c.o.Log.Warn("a message that is rewritten for its next hop goes without our signature, which no key can make now", "id", m.ID)
	}
	p.edits[0].text = string(fields)
	return nil
}

// endless tells whether the message lacks the last line's end, as one that came
// by BDAT may, and goes by BDAT for that: DATA would add it.
func (t *transaction) endless(cn *conn) (bool, error) {
	size := t.job.Body.Size()
	if !cn.ext.chunking || size == 0 {
		return false, nil
	}
	var tail bytes.Buffer
	if err := copyBody(&tail, t.job.Body, max(size-2, 0), size); err != nil {
		return false, err
	}
	return tail.String() != "\r\n", nil
}

// takenApart is the message's structure, found once a job.
func (t *transaction) takenApart() (*structure, error) {
	if t.parts == nil && t.partsErr == nil {
		t.parts, t.partsErr = takeApart(t.job.Body)
	}
	return t.parts, t.partsErr
}

// header8 tells whether a header section, of the message or of a part, goes
// beyond ASCII (RFC 6532).
func (t *transaction) header8() (bool, error) {
	s, err := t.takenApart()
	if errors.Is(err, errComplex) {
		return true, nil // what was announced is believed
	}
	if err != nil {
		return false, err
	}
	return s.utf8, nil
}

// beyondASCII tells whether a byte of the message is.
func (t *transaction) beyondASCII() (bool, error) {
	if t.eight == nil {
		var d detector
		err := copyBody(&d, t.job.Body, 0, t.job.Body.Size())
		if err != nil && !errors.Is(err, errFound) {
			return false, err
		}
		t.eight = new(err != nil)
	}
	return *t.eight, nil
}

var errFound = errors.New("found")

type detector struct{}

func (detector) Write(p []byte) (int, error) {
	if bytes.ContainsFunc(p, func(r rune) bool { return r >= 0x80 }) {
		return 0, errFound
	}
	return len(p), nil
}

// mailDSN is RET and ENVID as they came (RFC 3461 section 5.2.1).
func mailDSN(ret, envid string) string {
	s := ""
	if strings.EqualFold(ret, "FULL") || strings.EqualFold(ret, "HDRS") {
		s = " RET=" + ret
	}
	if envid != "" && esmtpValue(envid) {
		s += " ENVID=" + envid
	}
	return s
}

// rcptDSN is NOTIFY and ORCPT as they came. Where a policy put another address in
// the place of the one that was given, that one is the original recipient (RFC
// 3461 section 5.2.7.2 has the like for aliases). utf8 tells that SMTPUTF8 was
// said (RFC 6533 section 3).
func rcptDSN(notify, original string, utf8 bool) string {
	s := ""
	if notify != "" && esmtpValue(notify) {
		s = " NOTIFY=" + notify
	}
	if original == "" {
		return s
	}
	kind, value, ok := strings.Cut(original, ";")
	if !ok || strings.ContainsAny(kind, "@ \"") {
		kind, value = "rfc822", xtext(original)
		if !isASCII(original) {
			kind, value = "utf-8", original
		}
	}
	if !isASCII(value) && !utf8 {
		value = unicodeXtext(value)
	}
	if esmtpValue(kind) && esmtpValue(value) {
		s += " ORCPT=" + kind + ";" + value
	}
	return s
}

// esmtpValue tells whether s can be the value of a parameter (RFC 5321 section
// 4.1.2, and RFC 6531 section 3.3 for what is beyond ASCII). It keeps stored
// values from becoming commands.
func esmtpValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}

// xtext is the encoding of RFC 3461 section 4.
func xtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c <= '~' && c != '+' && c != '=' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}

// unicodeXtext is the utf-8-addr-xtext of RFC 6533 section 3.
func unicodeXtext(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r > ' ' && r <= '~' && r != '+' && r != '=' && r != '\\' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\x{%X}", r)
		}
	}
	return b.String()
}
