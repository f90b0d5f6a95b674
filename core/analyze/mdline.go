package analyze

import (
	"bufio"
	"bytes"
	"strconv"
)

// Lines writes what it hears as the lines of matchup:
//
//	m BIRTH DONE BYTES SUCCESSES FAILURES DEFERRALS <SENDER> QP UID
//	d RESULT BIRTH START DONE BYTES <SENDER> CHANNEL.RECIPIENT QP UID REASON
type Lines struct {
	W   *bufio.Writer
	buf []byte
}

// Delivery implements Sink.
func (l *Lines) Delivery(d *Delivery) error {
	b := append(l.buf[:0], 'd', ' ', d.Result)
	for _, s := range [...]Stamp{d.Birth, d.Start, d.Done} {
		b = s.Append(append(b, ' '))
	}
	b = strconv.AppendInt(append(b, ' '), d.Bytes, 10)
	for _, s := range [...]string{d.Sender, d.Recipient, d.QP, d.UID, d.Reason} {
		b = append(append(b, ' '), s...)
	}
	l.buf = append(b, '\n')
	_, err := l.W.Write(l.buf)
	return err
}

// Message implements Sink.
func (l *Lines) Message(m *Message) error {
	b := append(l.buf[:0], 'm')
	for _, s := range [...]Stamp{m.Birth, m.Done} {
		b = s.Append(append(b, ' '))
	}
	for _, n := range [...]int64{m.Bytes, m.Successes, m.Failures, m.Deferrals} {
		b = strconv.AppendInt(append(b, ' '), n, 10)
	}
	for _, s := range [...]string{m.Sender, m.QP, m.UID} {
		b = append(append(b, ' '), s...)
	}
	l.buf = append(b, '\n')
	_, err := l.W.Write(l.buf)
	return err
}

// mdLine reads a line of matchup.
func (r *Reader) mdLine(line []byte) (known bool, err error) {
	f := &r.fields
	f.split(line)
	switch {
	case f.n >= 10 && f.is(0, "m"):
		var m Message
		good := f.stamp(1, &m.Birth) && f.stamp(2, &m.Done) && f.number(3, &m.Bytes) &&
			f.number(4, &m.Successes) && f.number(5, &m.Failures) && f.number(6, &m.Deferrals)
		if !good {
			return false, nil
		}
		m.Sender, m.QP, m.UID = f.text(7), f.text(8), f.text(9)
		return true, r.match.sink.Message(&m)
	case f.n >= 10 && f.is(0, "d") && len(f.at(1)) == 1 && bytes.IndexByte([]byte("kdz"), f.at(1)[0]) >= 0:
		d := Delivery{Result: f.at(1)[0]}
		if !f.stamp(2, &d.Birth) || !f.stamp(3, &d.Start) || !f.stamp(4, &d.Done) || !f.number(5, &d.Bytes) {
			return false, nil
		}
		d.Sender, d.Recipient, d.QP, d.UID, d.Reason = f.text(6), f.text(7), f.text(8), f.text(9), f.text(10)
		return true, r.match.sink.Delivery(&d)
	case f.n >= 2 && f.is(0, "?"): // what matchup did not know
		return true, nil
	}
	return false, nil
}

// maxFields is how many words of a line are told apart; the rest counts as none.
const maxFields = 20

// fields is a line's words between blanks and tabs.
type fields struct {
	line []byte
	from [maxFields]int
	to   [maxFields]int
	n    int
}

func (f *fields) split(line []byte) {
	f.line, f.n = line, 0
	i := 0
	for f.n < maxFields {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		if i == len(line) {
			return
		}
		f.from[f.n] = i
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		f.to[f.n] = i
		f.n++
	}
}

// drop takes the first n words off.
func (f *fields) drop(n int) {
	n = min(n, f.n)
	copy(f.from[:], f.from[n:f.n])
	copy(f.to[:], f.to[n:f.n])
	f.n -= n
}

func (f *fields) at(i int) []byte {
	if i >= f.n {
		return nil
	}
	return f.line[f.from[i]:f.to[i]]
}

func (f *fields) is(i int, word string) bool { return string(f.at(i)) == word }
func (f *fields) text(i int) string          { return string(f.at(i)) }

// number reads word i, up to a colon.
func (f *fields) number(i int, n *int64) bool {
	b := bytes.TrimSuffix(f.at(i), []byte(":"))
	if len(b) == 0 || len(b) > 18 {
		return false
	}
	*n = 0
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
		*n = *n*10 + int64(c-'0')
	}
	return true
}

func (f *fields) stamp(i int, s *Stamp) (ok bool) {
	*s, ok = parseStamp(f.at(i))
	return ok
}
