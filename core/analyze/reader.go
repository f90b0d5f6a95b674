package analyze

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Format is a kind of log.
type Format uint8

// The formats.
const (
	Qmail   Format = iota // qmail-send's lines behind a time stamp; our own format "qmail" too
	Text                  // our format "text"
	JSON                  // our format "json"
	Matched               // the lines of matchup
	formats
)

// String is the format's name.
func (f Format) String() string {
	return [...]string{"qmail", "text", "json", "matchup"}[min(f, Matched)]
}

// Counts is how a Reader fared.
type Counts struct {
	Lines      int64          // that were not empty
	Understood int64          // of them
	Formats    [formats]int64 // of Understood
	Bytes      int64
	Unstamped  int64 // lines of qmail-send without a time stamp, which are not understood
	Forgotten  int64 // messages and deliveries that were not over, beyond MaxOpen
}

// Reader reads logs into a Sink. It is not safe for concurrent use.
type Reader struct {
	match  *Matcher
	counts Counts
	fields fields
	own    ownLine
	// Other is given lines that qmailanalog's matchup passes on: warnings and
	// alerts, and with "? " in front what it does not know; nil: nobody is.
	Other func(line []byte) error
	// Progress is told after each line how many bytes were read; nil: nobody is.
	Progress func(bytes int64)
	rest     []byte // a last line without its end
	carry    bool   // the state so far; rest is kept
}

// NewReader makes one that reads into m.
func NewReader(m *Matcher) *Reader { return &Reader{match: m} }

// Counts is how it fared so far.
func (r *Reader) Counts() Counts {
	c := r.counts
	c.Forgotten = r.match.forgotten
	return c
}

// Read reads a whole log. Lines longer than 64 KiB are not understood. An error is
// that of the reader or of a Sink; what a log holds is none.
func (r *Reader) Read(in io.Reader) error {
	b := bufio.NewReaderSize(in, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		r.counts.Bytes += int64(len(line))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			r.counts.Lines++
			for errors.Is(err, bufio.ErrBufferFull) {
				line, err = b.ReadSlice('\n')
				r.counts.Bytes += int64(len(line))
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if err != nil {
				return nil
			}
			continue
		case errors.Is(err, io.EOF):
			if len(line) == 0 {
				return r.endRest()
			}
			if r.carry {
				r.rest = append(r.rest, line...)
				return nil
			}
			return r.line(r.joined(line))
		case err != nil:
			return err
		}
		if err := r.line(r.joined(line[:len(line)-1])); err != nil {
			return err
		}
		if r.Progress != nil {
			r.Progress(r.counts.Bytes)
		}
	}
}

// joined puts what was kept of an unfinished line in front of its end.
func (r *Reader) joined(line []byte) []byte {
	if len(r.rest) == 0 {
		return line
	}
	line = append(r.rest, line...)
	r.rest = nil
	return line
}

func (r *Reader) endRest() error {
	if r.carry || len(r.rest) == 0 {
		return nil
	}
	return r.line(r.joined(nil))
}

func (r *Reader) line(line []byte) error {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	r.counts.Lines++
	format, known, err := Qmail, false, error(nil)
	switch {
	case line[0] == '{':
		format = JSON
		known, err = r.jsonLine(line)
	case bytes.HasPrefix(line, []byte("time=")):
		format = Text
		known, err = r.textLine(line)
	case len(line) > 1 && line[1] == ' ' && (line[0] == 'm' || line[0] == 'd' || line[0] == '?'):
		format = Matched
		known, err = r.mdLine(line)
	default:
		known, err = r.qmailLine(line)
	}
	if known {
		r.counts.Understood++
		r.counts.Formats[format]++
	}
	return err
}

// Nothing is the error of a log of which no line was understood; nil where there was
// one, or no line at all.
func (c Counts) Nothing() error {
	switch {
	case c.Understood > 0 || c.Lines == 0:
		return nil
	case c.Unstamped > 0:
		return fmt.Errorf("0 of %d lines understood: %d of them are qmail-send's, but no time stamp stands in front; log through `multilog t` or splogger, "+
			"or give lines like `901967408.113926 new msg 19287`", c.Lines, c.Unstamped)
	}
	return fmt.Errorf("0 of %d lines understood: expected qmail-send's lines behind a TAI64N label or fractional Unix seconds (`@4000000038c3eeb027f41c7c new msg 19287`), "+
		"Postern's log as text (`time=… msg=delivered …`) or JSON, or lines of matchup (`m …`, `d …`)", c.Lines)
}
