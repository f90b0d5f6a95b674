package message

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxReplyLine is the longest reply line we send, CRLF included (RFC 5321
// section 4.5.3.1.5).
const maxReplyLine = 512

// Reply is an SMTP reply: ours to a client, or a next hop's to us. It is an
// error, and the one that package borders speak. Enhanced is the status code of
// RFC 3463; a zero Enhanced sends none. Text may have several lines, parted by
// "\n"; what is not printable ASCII is replaced when it is sent.
type Reply struct {
	Code     int
	Enhanced [3]int
	Text     string
}

// NewReply makes a reply out of "250", "2.1.0" and a text with format arguments;
// a text without arguments is taken as it is. An enhanced status that does not
// parse is left out.
func NewReply(code int, enhanced, text string, args ...any) Reply {
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	e, _ := ParseEnhanced(enhanced)
	return Reply{Code: code, Enhanced: e, Text: text}
}

// ParseEnhanced reads "5.7.1" (RFC 3463 section 2).
func ParseEnhanced(s string) ([3]int, bool) {
	var e [3]int
	for i := range e {
		part, rest, more := strings.Cut(s, ".")
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || n > 999 || more != (i < 2) {
			return [3]int{}, false
		}
		e[i], s = int(n), rest
	}
	if e[0] != 2 && e[0] != 4 && e[0] != 5 {
		return [3]int{}, false
	}
	return e, true
}

// Error is the reply as one line: "550 5.1.1 No such user".
func (r Reply) Error() string { return r.String() }

// String is the reply as one line.
func (r Reply) String() string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(r.Code))
	if s := r.Status(); s != "" {
		b.WriteByte(' ')
		b.WriteString(s)
	}
	if r.Text != "" {
		b.WriteByte(' ')
		b.WriteString(strings.ReplaceAll(r.Text, "\n", " "))
	}
	return b.String()
}

// LogValue gives logs the reply as one line.
func (r Reply) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Status is the enhanced status as text, "" where there is none.
func (r Reply) Status() string {
	if r.Enhanced[0] == 0 {
		return ""
	}
	return strconv.Itoa(r.Enhanced[0]) + "." + strconv.Itoa(r.Enhanced[1]) + "." + strconv.Itoa(r.Enhanced[2])
}

// IsZero tells whether no reply is there.
func (r Reply) IsZero() bool { return r.Code == 0 }

// Positive tells whether the reply is of class 2 or 3.
func (r Reply) Positive() bool { return r.Code >= 200 && r.Code < 400 }

// Negative tells whether the reply refuses, for now or for good.
func (r Reply) Negative() bool { return r.Code >= 400 }

// Temporary tells whether the reply is of class 4.
func (r Reply) Temporary() bool { return r.Code >= 400 && r.Code < 500 }

// Permanent tells whether the reply is of class 5.
func (r Reply) Permanent() bool { return r.Code >= 500 && r.Code < 600 }

// Permanent is the one judge of errors: true only for a Reply of class 5.
// Whatever is not clearly permanent is temporary.
func Permanent(err error) bool {
	r, ok := errors.AsType[Reply](err)
	return ok && r.Permanent()
}

// ReplyOf is err as a reply: the Reply inside it, else 451 4.3.0 with err's text.
func ReplyOf(err error) Reply {
	if r, ok := errors.AsType[Reply](err); ok {
		return r
	}
	return NewReply(451, "4.3.0", "%v", err)
}

// Append adds the reply's wire form to dst: one or more lines with CRLF, none
// over 512 octets, the enhanced status on each (RFC 2034 section 4). Control
// and non-ASCII bytes become "?", so that nothing a client or a policy said can
// add a line.
func (r Reply) Append(dst []byte) []byte { return r.append(dst, false) }

// AppendUTF8 is Append for a client that said SMTPUTF8 (RFC 6531 section
// 3.7.4.2): printable characters beyond ASCII stay as they are.
func (r Reply) AppendUTF8(dst []byte) []byte { return r.append(dst, true) }

func (r Reply) append(dst []byte, wide bool) []byte {
	text := r.Text
	status := r.Status()
	room := maxReplyLine - len("250 \r\n") - len(status) - 1
	for {
		line, rest, more := strings.Cut(text, "\n")
		if len(line) > room {
			cut := cutLine(line, room)
			line, rest, more = text[:cut], text[cut:], true
		}
		dst = strconv.AppendInt(dst, int64(r.Code), 10)
		if more {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		if status != "" {
			dst = append(dst, status...)
			dst = append(dst, ' ')
		}
		dst = appendClean(dst, line, wide)
		dst = append(dst, '\r', '\n')
		if !more {
			return dst
		}
		text = rest
	}
}

// cutLine says where to part a line of over room bytes: behind a blank of its
// second half, else at room, but never inside a character.
func cutLine(line string, room int) int {
	if sp := strings.LastIndexByte(line[:room], ' '); sp > room/2 {
		return sp + 1
	}
	cut := room
	for cut > room-utf8.UTFMax && !utf8.RuneStart(line[cut]) {
		cut--
	}
	return cut
}

// appendClean adds what may stand in a reply, "?" for every byte that may not.
func appendClean(dst []byte, line string, wide bool) []byte {
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c >= utf8.RuneSelf && wide {
			if r, n := utf8.DecodeRuneInString(line[i:]); n > 1 && unicode.IsPrint(r) {
				dst = append(dst, line[i:i+n]...)
				i += n - 1
				continue
			}
		}
		if c == '\t' || c == '\r' {
			c = ' '
		}
		if c < ' ' || c > '~' {
			c = '?'
		}
		dst = append(dst, c)
	}
	return dst
}
