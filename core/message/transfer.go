package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
)

const noBase64 = 0xFF

// base64Value is the value of each byte in base64, noBase64 where it has none.
var base64Value = func() (t [256]byte) {
	for i := range t {
		t[i] = noBase64
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

// encodingName is a Content-Transfer-Encoding as it is meant: the first word, in
// lower case.
func encodingName(v string) string {
	v = strings.TrimLeft(v, " \t\"")
	if i := strings.IndexAny(v, " \t;,(\""); i >= 0 {
		v = v[:i]
	}
	switch v = strings.ToLower(v); v {
	case "uuencode", "x-uue", "uue":
		return uuencode
	}
	return v
}

// decodeTransfer undoes a Content-Transfer-Encoding (RFC 2045 section 6), as
// leniently as mail readers do; an unknown one leaves r as it is.
func decodeTransfer(encoding string, r io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return &base64Reader{r: r}
	case "quoted-printable":
		return &qpReader{r: r}
	case uuencode:
		return newUUReader(r, false)
	}
	return r
}

// base64Reader decodes base64. Bytes outside the alphabet are skipped, padding
// ends a group and not the text, and a last group may lack its padding.
type base64Reader struct {
	r     io.Reader
	raw   [4096]byte
	clean [4096 + 4]byte // letters of the alphabet that wait
	n     int
	out   []byte // decoded, to be handed out
	buf   [3 * 1100]byte
	err   error
}

func (d *base64Reader) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		d.fill()
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// fill decodes the next piece. A padded group may end inside it, so what comes
// before is decoded at once.
func (d *base64Reader) fill() {
	n, err := d.r.Read(d.raw[:])
	d.err = err
	d.out = d.buf[:0]
	for _, c := range d.raw[:n] {
		if base64Value[c] != noBase64 {
			d.clean[d.n] = c
			d.n++
		} else if c == '=' && d.n%4 > 1 {
			d.flush(true)
		}
	}
	d.flush(err != nil)
}

// flush decodes the whole groups that wait, and where end is said the rest, too.
func (d *base64Reader) flush(end bool) {
	n := d.n &^ 3
	if end {
		n = d.n
		if n%4 == 1 {
			n-- // six bits are no byte
		}
	}
	at := len(d.out)
	k, _ := base64.RawStdEncoding.Decode(d.buf[at:], d.clean[:n])
	d.out = d.buf[:at+k]
	if end {
		d.n = 0
		return
	}
	d.n = copy(d.clean[:], d.clean[n:d.n])
}

// qpReader decodes quoted-printable. What is no escape stays as it is; blanks at
// the end of a line go, and are no part of a soft line break.
type qpReader struct {
	r    io.Reader
	raw  [4096]byte
	out  []byte
	next []byte // of out, not handed out yet
	held []byte // blanks and CR that may end a line
	at   byte   // 0: in text; 1: behind "="; 2: behind "=" and one digit
	hi   byte   // that digit
	err  error
}

// maxBlanks is the longest run of blanks that is held back.
const maxBlanks = 1 << 10

func (d *qpReader) Read(p []byte) (int, error) {
	for len(d.next) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.r.Read(d.raw[:])
		d.out = d.out[:0]
		d.decode(d.raw[:n])
		if d.err = err; err != nil {
			d.end()
		}
		d.next = d.out
	}
	n := copy(p, d.next)
	d.next = d.next[n:]
	return n, nil
}

func (d *qpReader) decode(b []byte) {
	for i := 0; i < len(b); {
		if d.at > 0 {
			if d.escape(b[i]) {
				i++
			}
			continue
		}
		run := i
		for run < len(b) && !qpSpecial[b[run]] {
			run++
		}
		if run > i {
			d.release()
			d.out = append(d.out, b[i:run]...)
			i = run
			continue
		}
		switch c := b[i]; c {
		case '=':
			d.release()
			d.at = 1
		case '\n':
			if bytes.HasSuffix(d.held, []byte{'\r'}) {
				d.out = append(d.out, '\r')
			}
			d.out, d.held = append(d.out, '\n'), d.held[:0]
		default:
			if d.held = append(d.held, c); len(d.held) > maxBlanks {
				d.release()
			}
		}
		i++
	}
}

var qpSpecial = [256]bool{'=': true, '\n': true, '\r': true, ' ': true, '\t': true}

// escape takes a byte behind "=". It reports false where the byte is to be looked
// at again, as text.
func (d *qpReader) escape(c byte) bool {
	v := hexValue(c)
	switch {
	case d.at == 1 && v >= 0:
		d.at, d.hi = 2, c
		if len(d.held) > 0 { // "=", blanks, digit: no escape
			d.literal()
			return false
		}
		return true
	case d.at == 2 && v >= 0:
		d.out = append(d.out, byte(hexValue(d.hi)<<4|v))
		d.at = 0
		return true
	case d.at == 1 && c == '\n':
		d.at, d.held = 0, d.held[:0]
		return true
	case d.at == 1 && (c == ' ' || c == '\t' || c == '\r') && len(d.held) < maxBlanks:
		d.held = append(d.held, c)
		return true
	}
	if d.at == 2 {
		d.out = append(d.out, '=', d.hi)
		d.at = 0
		return false
	}
	d.literal()
	return false
}

// literal says that "=" was no escape.
func (d *qpReader) literal() {
	d.out = append(d.out, '=')
	d.release()
	d.at = 0
}

func (d *qpReader) release() {
	d.out = append(d.out, d.held...)
	d.held = d.held[:0]
}

func (d *qpReader) end() {
	switch {
	case d.at == 2:
		d.out = append(d.out, '=', d.hi)
	case d.at == 0:
		d.release()
	}
	d.at = 0
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// appendQuoted encodes b in quoted-printable (RFC 2045 section 6.7), lines of at
// most 76. CRLF is a line end; a lone CR or LF is encoded.
func appendQuoted(dst, b []byte) []byte {
	const digits = "0123456789ABCDEF"
	line := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '\r' && i+1 < len(b) && b[i+1] == '\n' {
			i++
			dst, line = append(dst, '\r', '\n'), 0
			continue
		}
		ends := i+1 == len(b) || b[i+1] == '\r' && i+2 < len(b) && b[i+2] == '\n'
		plain := c > ' ' && c <= '~' && c != '=' || (c == ' ' || c == '\t') && !ends
		if line == 0 && (c == '.' || c == '-' || c == 'F' && bytes.HasPrefix(b[i:], []byte("From "))) {
			plain = false // what a relay might stuff, take for a delimiter, or for a mailbox's next message
		}
		width := 3
		if plain {
			width = 1
		}
		if line+width > 75 && !(ends && line+width == 76) {
			dst, line = append(dst, "=\r\n"...), 0
		}
		if plain {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', digits[c>>4], digits[c&15])
		}
		line += width
	}
	return dst
}

// appendBase64 encodes b in lines of 76.
func appendBase64(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(57, len(b))
		dst = append(base64.StdEncoding.AppendEncode(dst, b[:n]), '\r', '\n')
		b = b[n:]
	}
	return dst
}

// readLimited reads at most limit bytes; more tells that there were others.
func readLimited(r io.Reader, limit int) (b []byte, more bool, err error) {
	b, err = io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if len(b) > limit {
		return b[:limit], true, err
	}
	return b, false, err
}
