package analyze

import (
	"bytes"
)

// qmailLine reads a line of qmail-send. The stamp stands in front, or behind what
// syslog or the journal puts there.
func (r *Reader) qmailLine(line []byte) (known bool, err error) {
	f := &r.fields
	f.split(line)
	at, ok := parseStamp(f.at(0))
	if !ok || f.n < 2 {
		if !r.behindTag(line, &at) {
			if f.n > 1 && qmailWords[f.text(0)] {
				r.counts.Unstamped++
			}
			return false, r.other(line, f.n > 1 && qmailWords[f.text(0)])
		}
	} else if f.n > 3 && bytes.HasSuffix(f.at(2), []byte("]:")) { // the journal's short-unix: STAMP HOST TAG[PID]:
		f.drop(2)
	}
	known, err = r.qmailWords(at)
	if err == nil && (!known || f.is(1, "warning:") || f.is(1, "alert:")) {
		err = r.other(line, known)
	}
	return known, err
}

// other passes on what is none of ours to match.
func (r *Reader) other(line []byte, known bool) error {
	if r.Other == nil {
		return nil
	}
	if known {
		return r.Other(line)
	}
	return r.Other(append([]byte("? "), line...))
}

// behindTag finds a stamp behind a syslog tag: "Nov 28 06:07:08 host qmail: 901967408.113926 new …".
func (r *Reader) behindTag(line []byte, at *Stamp) bool {
	f := &r.fields
	for i := 1; i < min(f.n-1, 8); i++ {
		if w := f.at(i - 1); len(w) == 0 || w[len(w)-1] != ':' {
			continue
		}
		if s, ok := parseStamp(f.at(i)); ok {
			*at = s
			f.drop(i)
			return f.n >= 2
		}
	}
	return false
}

// qmailWords is the first words of qmail-send's lines.
var qmailWords = map[string]bool{
	"new": true, "info": true, "starting": true, "delivery": true, "end": true, "status:": true, "bounce": true, "triple": true, "warning:": true, "alert:": true,
	"running": true, "exiting": true, "extra": true, "number": true, "local": true, "remote": true,
}

// qmailWords reads the words behind the stamp, which is word 0.
func (r *Reader) qmailWords(at Stamp) (known bool, err error) {
	f, m := &r.fields, r.match
	switch string(f.at(1)) {
	case "new":
		if f.n < 4 || !f.is(2, "msg") {
			return false, nil
		}
		m.forget(f.at(3))
	case "info":
		var size int64
		if f.n < 12 || !f.is(2, "msg") || !f.number(5, &size) {
			return false, nil
		}
		m.open(number(f.at(3)), &open{birth: at, bytes: size, sender: lower(f.at(7)), qp: f.text(9), uid: f.text(11)})
	case "extra":
		return r.extra(), nil
	case "starting":
		if f.n < 9 || !f.is(2, "delivery") {
			return false, nil
		}
		to := append(append([]byte(nil), f.at(7)...), '.')
		m.start(number(f.at(3)), &started{at: at, message: string(number(f.at(5))), to: lower(append(to, f.at(8)...))})
	case "delivery":
		if f.n < 4 {
			return false, nil
		}
		return m.end(at, number(f.at(2)), f.at(3), f.at(4))
	case "end":
		if f.n < 4 || !f.is(2, "msg") {
			return false, nil
		}
		return true, m.over(at, f.at(3))
	case "status:":
		if f.is(2, "exiting") {
			m.clear()
		}
	case "running", "exiting":
		m.clear()
	case "bounce", "triple", "warning:", "alert:", "number", "local", "remote":
	default:
		return false, nil
	}
	return true, nil
}

// extra reads the counts of a message in a state: successes, deferrals, failures.
func (r *Reader) extra() bool {
	f := &r.fields
	var k, z, d int64
	if f.n < 6 || !f.number(3, &k) || !f.number(4, &z) || !f.number(5, &d) {
		return false
	}
	if o := r.match.messages.find(f.at(2)); o != nil {
		o.k, o.z, o.d = k, z, d
	}
	return true
}

// number is a word without the colon behind it.
func number(word []byte) []byte { return bytes.TrimSuffix(word, []byte(":")) }

// lower is a word with ASCII letters in lower case.
func lower(b []byte) string {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			out := append([]byte(nil), b...)
			for ; i < len(out); i++ {
				if c := out[i]; c >= 'A' && c <= 'Z' {
					out[i] = c + 'a' - 'A'
				}
			}
			return string(out)
		}
	}
	return string(b)
}
