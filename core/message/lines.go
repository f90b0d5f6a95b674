package message

import "bytes"

// LineEnds watches a text that comes in pieces for the bytes that only a binary
// body may hold (RFC 5321 section 2.3.8, RFC 3030 section 3): an LF without CR
// before it, a CR without LF behind it, a NUL. A CR at the end of one piece
// waits for the next. The zero value is ready for a text's first byte.
type LineEnds struct {
	BareLF, BareCR, NUL bool // what was seen so far

	cr bool // the last piece ended with CR
}

// Faulty tells whether one of them was seen.
func (l *LineEnds) Faulty() bool { return l.BareLF || l.BareCR || l.NUL }

// Scan looks at the next piece. It works by vectorised searches: one for each
// line and two over the whole.
func (l *LineEnds) Scan(b []byte) {
	if len(b) == 0 {
		return
	}
	pairs := 0 // CRs that stand in b and have their LF
	if l.cr && b[0] != '\n' {
		l.BareCR = true
	}
	for p := 0; ; {
		i := bytes.IndexByte(b[p:], '\n')
		if i < 0 {
			break
		}
		i += p
		p = i + 1
		switch {
		case i > 0 && b[i-1] == '\r':
			pairs++
		case i > 0 || !l.cr:
			l.BareLF = true
		}
	}
	l.cr = b[len(b)-1] == '\r'
	if l.cr {
		pairs++
	}
	if bytes.Count(b, []byte{'\r'}) != pairs {
		l.BareCR = true
	}
	if bytes.IndexByte(b, 0) >= 0 {
		l.NUL = true
	}
}

// End says that the text is over: a CR that waits is a bare one.
func (l *LineEnds) End() {
	if l.cr {
		l.BareCR, l.cr = true, false
	}
}
