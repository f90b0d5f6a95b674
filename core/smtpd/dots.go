package smtpd

import "bytes"

// dots reads the text behind DATA (RFC 5321 section 4.5.2): it finds the one end
// of it, CRLF "." CRLF, takes away the dot that a sender put in front of a line
// that began with one, and notices the bytes that no message may hold: NUL, a CR
// without LF, an LF without CR. What looks like an end but isn't one, such as
// LF "." LF, is content, wherever the packets were cut.
//
// It works on whole buffers: one vectorised search for each line, and two more
// over the whole, no loop over bytes. The zero value, with line set, is ready for
// the first byte of a message.
type dots struct {
	line      bool // the next byte begins a line: the start, or CRLF stood before it
	normalise bool // a bare LF becomes CRLF, and is no fault

	bareLF, bareCR, nul bool // what was seen
}

// cut is a place where the content differs from what came.
type cut struct {
	at  int32
	eol bool // an LF that becomes CRLF; otherwise a dot that goes
}

// maxCuts bounds the cuts of one scan: a text that is all dots is taken in
// pieces.
const maxCuts = 64

// chunk is what one scan found: the first n bytes were consumed, out of which
// all but the cuts are content, up to text.
type chunk struct {
	n    int // consumed, the end included
	text int // where the content ends
	end  bool
	more bool // it stopped for want of room: scan again before reading on
	cuts []cut
}

// faulty tells whether the content must not be taken.
func (d *dots) faulty() bool { return d.bareCR || d.nul || d.bareLF && !d.normalise }

// scan consumes b as far as its meaning is certain. Up to two bytes at its end
// may be left, since what they are depends on the next: the caller gives them
// again with more behind them. Of bytes behind the end none is looked at. room
// holds the cuts.
func (d *dots) scan(b []byte, room *[maxCuts]cut) chunk {
	c := chunk{cuts: room[:0]}
	p, pairs := 0, 0
	for len(c.cuts) < maxCuts-1 { // one turn makes two cuts at most
		if d.line && p < len(b) && b[p] == '.' {
			rest := b[p:min(p+3, len(b))]
			if string(rest) == ".\r\n" {
				c.n, c.text, c.end = p+3, p, true
				d.judge(b[:p], pairs)
				return c
			}
			if len(rest) < 3 && (len(rest) == 1 || rest[1] == '\r') {
				c.n, c.text = p, p
				d.judge(b[:p], pairs)
				return c
			}
			c.cuts = append(c.cuts, cut{at: int32(p)})
			d.line = false
			p++
		}
		i := bytes.IndexByte(b[p:], '\n')
		if i < 0 {
			return d.partial(b, p, pairs, c)
		}
		i += p
		p = i + 1
		if i > 0 && b[i-1] == '\r' {
			pairs++
			d.line = true
			continue
		}
		d.bareLF, d.line = true, false
		if d.normalise {
			c.cuts = append(c.cuts, cut{at: int32(i), eol: true})
		}
	}
	c.n, c.text, c.more = p, p, true
	d.judge(b[:p], pairs)
	return c
}

// partial takes the begun line at b[p:], but for a CR whose LF may follow.
func (d *dots) partial(b []byte, p, pairs int, c chunk) chunk {
	n := len(b)
	if n > p && b[n-1] == '\r' {
		n--
	}
	if n > p {
		d.line = false
	}
	c.n, c.text = n, n
	d.judge(b[:n], pairs)
	return c
}

// judge looks for what may not be in the text. Each CR that isn't one of the
// pairs is a bare one.
func (d *dots) judge(text []byte, pairs int) {
	if bytes.Count(text, []byte{'\r'}) != pairs {
		d.bareCR = true
	}
	if bytes.IndexByte(text, 0) >= 0 {
		d.nul = true
	}
}

// write hands the content of a chunk of b on, in as few pieces as there are
// cuts.
func (c chunk) write(b []byte, to interface{ Write(p []byte) }) {
	from := 0
	for _, one := range c.cuts {
		at := int(one.at)
		if at > from {
			to.Write(b[from:at])
		}
		if one.eol {
			to.Write([]byte("\r\n"))
		}
		from = at + 1
	}
	if c.text > from {
		to.Write(b[from:c.text])
	}
}
