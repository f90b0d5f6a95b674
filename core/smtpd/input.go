package smtpd

import (
	"bytes"
	"errors"
	"net"
	"sync"
)

// Sizes of what a connection reads into. An idle one holds smallSize bytes of
// its own; a buffer of bigSize is borrowed while a full one shows that there is
// more to come, and in DATA.
const (
	smallSize = 512
	bigSize   = 16 << 10
)

// Bounds of command lines. RFC 5321 section 4.5.3.1.4 asks for 512 octets, and
// extensions add to that; what is longer than maxLine is answered once and
// skipped without being kept, up to maxSkipped octets, at which the connection
// ends.
const (
	maxLine    = 2048
	maxSkipped = 1 << 20
)

// errFlood: a line without an end.
var errFlood = errors.New("smtpd: a command line without an end")

type bigBuffer [bigSize]byte

// input is the receiving side of a connection: a buffer with what came and was
// not used yet. It belongs to one goroutine.
type input struct {
	nc    net.Conn
	pool  *sync.Pool // of *bigBuffer
	big   *bigBuffer // borrowed, or nil
	buf   []byte     // small or big
	r, w  int        // buf[r:w] came and was not used
	full  bool       // the last read filled the buffer: there is likely more
	small [smallSize]byte
}

func (in *input) start(nc net.Conn, pool *sync.Pool) {
	in.nc, in.pool, in.buf = nc, pool, in.small[:]
}

// buffered is what came and was not used; it is valid until the next read.
func (in *input) buffered() []byte { return in.buf[in.r:in.w] }

// used takes n bytes of what is buffered.
func (in *input) used(n int) { in.r += n }

// drop forgets what is buffered.
func (in *input) drop() {
	in.r, in.w, in.full = 0, 0, false
	in.shrink()
}

// grow borrows a big buffer.
func (in *input) grow() {
	if in.big != nil {
		return
	}
	in.big = in.pool.Get().(*bigBuffer)
	in.w = copy(in.big[:], in.buf[in.r:in.w])
	in.r, in.buf = 0, in.big[:]
}

// shrink gives the big buffer back where what is buffered fits into the small
// one.
func (in *input) shrink() {
	if in.big == nil || in.w-in.r >= smallSize {
		return
	}
	in.w = copy(in.small[:], in.buf[in.r:in.w])
	in.r, in.buf = 0, in.small[:]
	in.pool.Put(in.big)
	in.big = nil
}

// read reads once, behind what is buffered. There must be room: less than a
// buffer's size may be unused.
func (in *input) read() error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.full || in.w == len(in.buf) {
		in.grow()
	}
	n, err := in.nc.Read(in.buf[in.w:])
	in.w += n
	in.full = in.w == len(in.buf)
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// lineFault says why a line is not run.
type lineFault uint8

const (
	lineFine  lineFault = iota
	lineBytes           // a bare CR, a bare LF or a NUL in it
	lineLong            // over maxLine
	lineChunk           // one of them, and what follows may be a chunk of BDAT
)

// line returns the next command line without its CRLF; it is valid until the
// next read. Only CRLF ends a line: a bare LF or CR is one of its bytes, and
// makes it a faulty one, as does a NUL. wait is called before each read.
func (in *input) line(wait func() error) ([]byte, lineFault, error) {
	for seen := 0; ; {
		b := in.buffered()
		if end := crlf(b, seen); end >= 0 {
			in.used(end + 2)
			return judgeLine(b[:end])
		}
		if len(b) > maxLine {
			if startsBDAT(b) {
				return nil, lineChunk, nil
			}
			return nil, lineLong, in.skipLine(wait)
		}
		seen = max(0, len(b)-1)
		in.shrink()
		if err := wait(); err != nil {
			return nil, lineFine, err
		}
		if err := in.read(); err != nil {
			return nil, lineFine, err
		}
	}
}

// crlf is the index of the first CRLF in b, of which nothing before from is one.
func crlf(b []byte, from int) int {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return -1
		}
		i += from
		if i > 0 && b[i-1] == '\r' {
			return i - 1
		}
		from = i + 1
	}
}

func judgeLine(line []byte) ([]byte, lineFault, error) {
	fault := lineFine
	switch {
	case len(line) > maxLine:
		fault = lineLong
	case bytes.IndexByte(line, '\n') >= 0, bytes.IndexByte(line, '\r') >= 0, bytes.IndexByte(line, 0) >= 0:
		fault = lineBytes
	default:
		return line, lineFine, nil
	}
	if startsBDAT(line) {
		fault = lineChunk
	}
	return nil, fault, nil
}

// skipLine drops bytes up to the next CRLF.
func (in *input) skipLine(wait func() error) error {
	for skipped := 0; skipped < maxSkipped; {
		b := in.buffered()
		if end := crlf(b, 0); end >= 0 {
			in.used(end + 2)
			return nil
		}
		n := len(b)
		if n > 0 && b[n-1] == '\r' {
			n-- // its LF may follow
		}
		in.used(n)
		skipped += n
		if err := wait(); err != nil {
			return err
		}
		if err := in.read(); err != nil {
			return err
		}
	}
	return errFlood
}
