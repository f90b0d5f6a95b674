package intake

import (
	"errors"
	"fmt"
	"io"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Copy is the message that recipients get who have edits of their own: body, as it is
// stored, with its header section edited. Our Received field, which it begins with,
// stays on top and is not counted. utf8: SMTPUTF8 was said. Without edits it is body.
func Copy(body message.Body, edits []hooks.Edit, utf8 bool) (message.Body, error) {
	if len(edits) == 0 {
		return body, nil
	}
	b, n, err := readSection(body)
	if err != nil {
		return nil, err
	}
	ours := message.FieldLen(b[:n])
	end := ""
	if rest := b[ours:]; n > ours && !message.StartsHeader(rest) { // all body, and not to become a part of the section
		n, end = ours, "\r\n"
	}
	h := message.ParseHeader(b[ours:n])
	if utf8 {
		h.AllowUTF8()
	}
	for _, e := range edits {
		switch e.Kind {
		case hooks.AddRcptHeader:
			err = h.Prepend(e.Name, e.Value)
		case hooks.AppendRcptHeader:
			err = h.Append(e.Name, e.Value)
		case hooks.RemoveRcptHeader:
			h.Remove(e.Name, e.N)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e, err)
		}
	}
	return message.Edited{Head: append(append(b[:ours:ours], h.Bytes()...), end...), Rest: body, From: int64(n)}, nil
}

// SameCopy tells whether two edits of recipients' copies do the same.
func SameCopy(a, b hooks.Edit) bool {
	return a.Kind == b.Kind && a.Name == b.Name && a.Value == b.Value && a.N == b.N
}

// readSection reads a stored message as far as its header section goes, n bytes. It
// ends where no field is, too, in a message without an empty line.
func readSection(body message.Body) (b []byte, n int, err error) {
	for size := min(int64(16<<10), body.Size()); ; size = min(4*size, body.Size()) {
		b = make([]byte, size)
		if k, err := body.ReadAt(b, 0); int64(k) < size && err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		n, whole := message.HeaderLen(b)
		if whole || size == body.Size() {
			return b, n, nil
		}
	}
}
