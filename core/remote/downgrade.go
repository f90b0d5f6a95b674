package remote

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// What stands in the way of a rewritten message.
var (
	errSigned  = errors.New("it is signed")
	errEncoded = errors.New("its encoding is not what it says")
	errOdd     = errors.New("its MIME structure is not clear")
)

// plan is how a message is rewritten: ranges of it that give way to a text, or to
// their own encoding.
type plan struct {
	edits []edit // in their order
}

type edit struct {
	from, to int64
	text     string
	encoding string // quoted-printable or base64, "" with text
}

// downgrade plans how a message becomes one for a host that lacks BINARYMIME,
// where the message is binary, and with seven also for one without 8BITMIME (RFC 6152 section 3, RFC 3030 section 3):
//
//   - A body part that can't go as it is gets a transfer encoding: text
//     quoted-printable, where most of it is ASCII and it has lines, else base64.
//   - A message without MIME fields becomes text of an unknown charset (RFC 1428).
//   - What is inside a message/rfc822 is done in the same way. Labels of
//     everything around are put right.
//   - Header sections stay as they are; where one can't go so, nothing can.
//
// It is an error where that would break a signature (multipart/signed), where a
// type allows no encoding (other message/ types), where something is encoded
// already and yet isn't clean, and where readers may differ over the structure.
// No plan at all means that the message can go as it is.
func downgrade(s *structure, binary, seven bool) (*plan, error) {
	var p plan
	for _, e := range s.entities {
		edits, err := e.downgrade(binary, seven)
		if err != nil {
			return nil, err
		}
		p.edits = append(p.edits, edits...)
	}
	if len(p.edits) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(p.edits, func(a, b edit) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	return &p, nil
}

func (e *entity) downgrade(binary, seven bool) ([]edit, error) {
	if binary && e.rawHead {
		return nil, errOdd // header sections can't be encoded
	}
	unfit := binary && e.binary || seven && e.eight > 0
	if !unfit {
		if e.label != "binary" && !(seven && e.label == "8bit") || e.signed() {
			return nil, nil
		}
		if e.unclear() {
			return nil, errOdd
		}
		label := "7bit"
		if !seven && (e.eight > 0 || !e.leaf()) {
			label = "8bit"
		}
		return []edit{e.relabel(label)}, nil
	}
	switch {
	case e.signed():
		return nil, errSigned
	case e.unclear():
		return nil, errOdd
	case !e.leaf(), strings.HasPrefix(e.media, "multipart/"): // before, between or behind the parts
		return nil, errOdd
	case !identity(e.label):
		return nil, errEncoded
	case strings.HasPrefix(e.media, "message/"):
		return nil, fmt.Errorf("a part of type %s can't be encoded", e.media)
	}
	encoding := "base64"
	if !e.binary && (e.media == "" || strings.HasPrefix(e.media, "text/")) && e.eight <= e.size/2 {
		encoding = "quoted-printable"
	}
	var add string
	if e.top && !e.version {
		add = "MIME-Version: 1.0\r\n"
	}
	if e.media == "" {
		if e.binary {
			return nil, errOdd // nobody said what it is
		}
		add += "Content-Type: text/plain; charset=unknown-8bit\r\n"
	}
	var edits []edit
	if add != "" {
		edits = append(edits, edit{from: e.headTo, to: e.headTo, text: add})
	}
	return append(edits, e.relabel(encoding), edit{from: e.bodyFrom, to: e.bodyTo, encoding: encoding}), nil
}

// unclear tells whether readers may differ over what e is.
func (e *entity) unclear() bool {
	for p := e; p != nil; p = p.parent {
		if p.odd {
			return true
		}
	}
	return false
}

// relabel puts the encoding into the header section.
func (e *entity) relabel(label string) edit {
	at := e.labelAt
	if at == [2]int64{} {
		at = [2]int64{e.headTo, e.headTo}
	}
	return edit{from: at[0], to: at[1], text: "Content-Transfer-Encoding: " + label + "\r\n"}
}

// render writes the rewritten message.
func (p *plan) render(body message.Body, w io.Writer) error {
	at := int64(0)
	for _, e := range p.edits {
		if err := copyBody(w, body, at, e.from); err != nil {
			return err
		}
		at = e.to
		var err error
		switch e.encoding {
		case "quoted-printable":
			q := quotedprintable.NewWriter(w)
			if err = copyBody(q, body, e.from, e.to); err == nil {
				err = q.Close()
			}
		case "base64":
			lines := &wrapped{w: w}
			b := base64.NewEncoder(base64.StdEncoding, lines)
			if err = copyBody(b, body, e.from, e.to); err == nil {
				err = errors.Join(b.Close(), lines.end(e.to == body.Size()))
			}
		default:
			_, err = io.WriteString(w, e.text)
		}
		if err != nil {
			return err
		}
	}
	return copyBody(w, body, at, body.Size())
}

// wrapped parts what is written into lines of 76 characters (RFC 2045 section 6.8).
type wrapped struct {
	w   io.Writer
	n   int
	buf bytes.Buffer
}

func (l *wrapped) Write(p []byte) (int, error) {
	l.buf.Reset()
	for rest := p; len(rest) > 0; {
		if l.n == 76 {
			l.buf.WriteString("\r\n")
			l.n = 0
		}
		k := min(76-l.n, len(rest))
		l.buf.Write(rest[:k])
		l.n += k
		rest = rest[k:]
	}
	if _, err := l.w.Write(l.buf.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// end ends the last line, where no delimiter does.
func (l *wrapped) end(last bool) error {
	if !last || l.n == 0 {
		return nil
	}
	_, err := io.WriteString(l.w, "\r\n")
	return err
}

// counter counts what is written.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
