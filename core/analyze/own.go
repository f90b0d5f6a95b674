package analyze

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Own is what Postern knows of a message at one point of its way: a line of its log,
// or an entry of its flight recorder.
type Own struct {
	Event     string // queued, held, quarantined, relayed, delivered, deferred, bounced, left, deleted, expired; others mean nothing here
	ID        string
	Time      Stamp // of an attempt, its end
	Sender    string
	Recipient string // of an attempt
	NextHop   string // of an attempt; it tells one from a verdict of the same name
	Reply     string
	By        string // what was done beside delivery, by whom
	UID       string // who handed it over; "": nobody knows
	Duration  time.Duration
	Age       time.Duration
	Size      int64
}

// Own takes one of them. It reports false for an event that means nothing here.
func (m *Matcher) Own(o *Own) (known bool, err error) {
	if o.ID == "" {
		return false, nil
	}
	switch {
	case o.NextHop != "":
		return m.ownAttempt(o)
	case o.By != "":
		if o.Event == "deleted" || o.Event == "expired" {
			return true, m.leave(o)
		}
		return false, nil
	}
	switch o.Event {
	case "queued", "held", "quarantined":
		if !m.left.holds(o.ID) {
			was := m.ownOpen(o)
			was.bytes, was.sender = max(was.bytes, o.Size), bracketed(o.Sender)
			if o.UID != "" {
				was.uid = o.UID
			}
		}
		return true, nil
	case "relayed":
		was := m.ownOpen(o)
		was.bytes, was.birth = o.Size, min(was.birth, o.Time-Stamp(o.Duration))
		if o.UID != "" {
			was.uid = o.UID
		}
		return true, m.leave(o)
	case "left":
		return true, m.leave(o)
	case "rejected", "deferred", "discarded":
		m.messages.remove([]byte(o.ID))
	}
	return false, nil
}

// ownOpen finds the message, or begins it.
func (m *Matcher) ownOpen(o *Own) *open {
	was := m.messages.find([]byte(o.ID))
	if was == nil {
		was = &open{birth: o.Time - Stamp(o.Age), bytes: o.Size, sender: bracketed(o.Sender), qp: o.ID, uid: "-"}
		m.open([]byte(o.ID), was)
	}
	return was
}

func (m *Matcher) ownAttempt(o *Own) (known bool, err error) {
	result, ok := map[string]byte{"delivered": Success, "bounced": Failure, "deferred": Deferral}[o.Event]
	if !ok {
		return false, nil
	}
	was := m.ownOpen(o)
	was.count(result)
	channel := "remote."
	if o.NextHop == "local" || o.NextHop == "discard" || strings.HasPrefix(o.NextHop, "pipe:") {
		channel = "local."
	}
	return true, m.sink.Delivery(&Delivery{
		Result: result, Birth: was.birth, Start: o.Time - Stamp(o.Duration), Done: o.Time, Bytes: o.Size,
		Sender: bracketed(o.Sender), Recipient: channel + oneWord(lower([]byte(o.Recipient))), QP: o.ID, UID: was.uid, Reason: oneWord(o.Reply),
	})
}

func (m *Matcher) leave(o *Own) error {
	m.left.add(o.ID)
	return m.over(o.Time, []byte(o.ID))
}

func bracketed(sender string) string { return "<" + oneWord(lower([]byte(sender))) + ">" }

// oneWord is a text as qmail-send logs it: one word of printable ASCII.
func oneWord(s string) string {
	for i := range len(s) {
		if c := s[i]; c < 33 || c > 126 || c == '%' {
			b := []byte(s)
			for ; i < len(b); i++ {
				switch c := b[i]; {
				case c == '\n':
					b[i] = '/'
				case c < 33 || c > 126 || c == '%':
					b[i] = '_'
				}
			}
			return string(b)
		}
	}
	return s
}

// ownLine is what a line of our log holds, of what is of interest here.
type ownLine struct {
	Time      string          `json:"time"`
	Msg       string          `json:"msg"`
	ID        string          `json:"id"`
	Sender    string          `json:"sender"`
	Recipient string          `json:"recipient"`
	NextHop   string          `json:"next_hop"`
	Reply     string          `json:"reply"`
	By        string          `json:"by"`
	Duration  json.RawMessage `json:"duration"`
	Age       json.RawMessage `json:"age"`
	Size      int64           `json:"size"`
	duration  time.Duration
	age       time.Duration
}

func (r *Reader) take(l *ownLine) (known bool, err error) {
	at, err := time.Parse(time.RFC3339Nano, l.Time)
	if err != nil || l.Msg == "" {
		return false, nil //nolint:nilerr // a line that is none of ours
	}
	_, err = r.match.Own(&Own{
		Event: l.Msg, ID: l.ID, Time: Stamp(at.UnixNano()), Sender: l.Sender, Recipient: l.Recipient, NextHop: l.NextHop, Reply: l.Reply, By: l.By,
		Duration: l.duration, Age: l.age, Size: max(l.Size, 0),
	})
	return true, err // a line of our log that tells of something else is understood, too
}

func (r *Reader) jsonLine(line []byte) (known bool, err error) {
	r.own = ownLine{}
	if json.Unmarshal(line, &r.own) != nil {
		return false, nil
	}
	ns, _ := strconv.ParseInt(string(r.own.Duration), 10, 64) // 0 where there is none
	r.own.duration = time.Duration(ns)
	ns, _ = strconv.ParseInt(string(r.own.Age), 10, 64)
	r.own.age = time.Duration(ns)
	return r.take(&r.own)
}

// textLine reads KEY=VALUE …, with values in Go's quotes where they hold blanks.
func (r *Reader) textLine(line []byte) (known bool, err error) {
	r.own = ownLine{}
	l := &r.own
	for rest := line; len(rest) > 0; {
		eq := bytes.IndexByte(rest, '=')
		if eq < 0 {
			break
		}
		key := bytes.TrimLeft(rest[:eq], " ")
		value, more, ok := textValue(rest[eq+1:])
		if !ok {
			return false, nil
		}
		rest = more
		switch string(key) {
		case "time":
			l.Time = value
		case "msg":
			l.Msg = value
		case "id":
			l.ID = value
		case "sender":
			l.Sender = value
		case "recipient":
			l.Recipient = value
		case "next_hop":
			l.NextHop = value
		case "reply":
			l.Reply = value
		case "by":
			l.By = value
		case "duration":
			l.duration, _ = time.ParseDuration(value) // 0 where it is none
		case "age":
			l.age, _ = time.ParseDuration(value)
		case "size":
			l.Size, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return r.take(l)
}

func textValue(b []byte) (value string, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		end := bytes.IndexByte(b, ' ')
		if end < 0 {
			end = len(b)
		}
		return string(b[:end]), b[end:], true
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			s, err := strconv.Unquote(string(b[:i+1]))
			return s, b[i+1:], err == nil
		}
	}
	return "", nil, false
}
