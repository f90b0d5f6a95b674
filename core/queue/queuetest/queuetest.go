// Package queuetest has the messages that tests of the queue and of its engines put into
// one, and looks at what came of them. Its functions end the test where they can't do what
// they are asked to; Write, Add and BodyOf give the queue's own errors back.
package queuetest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// Birth is when the messages of tests arrive.
var Birth = time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)

// MustClose closes a queue that must close.
func MustClose(tb testing.TB, q *queue.Queue) {
	tb.Helper()
	if err := q.Close(); err != nil {
		tb.Fatal(err)
	}
}

// Envelope is a message to n recipients that is due at Birth.
func Envelope(id string, n int) *queue.Message {
	m := &queue.Message{ID: id, Sender: message.Address{Local: "a", Domain: "x.example"}, Arrived: Birth, Facts: []byte(`{"helo":"h"}`)}
	for i := range n {
		m.Recipients = append(m.Recipients, queue.Recipient{
			Address: message.Address{Local: fmt.Sprint("r", i), Domain: "y.example"}, Next: Birth,
		})
	}
	return m
}

// From is how many of the bytes written the head replaces.
const From = 5

// Text is a body of size bytes whose first five are not stored.
func Text(size int) []byte {
	b := []byte(strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", size/38+1))
	return b[:size]
}

// Stored is what commit makes of Text(size).
func Stored(size int) []byte { return append([]byte("HEAD\r\n"), Text(size)[From:]...) }

// Write gives a draft its bytes, in pieces.
func Write(tb testing.TB, d *queue.Draft, b []byte) error {
	tb.Helper()
	for len(b) > 0 {
		n := min(len(b), 10_000)
		if _, err := d.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Add commits m with a body made of Text(size), and lets its memory go.
func Add(tb testing.TB, q *queue.Queue, m *queue.Message, size int) error {
	tb.Helper()
	d := q.Begin(m.ID)
	defer d.Abort()
	if err := Write(tb, d, Text(size)); err != nil {
		return err
	}
	body, err := d.Commit(tb.Context(), m, []byte("HEAD\r\n"), From)
	if err != nil {
		return err
	}
	message.Retain(body)()
	body.(message.Retainer).Release()
	return nil
}

// MustAdd is Add for what must be taken.
func MustAdd(tb testing.TB, q *queue.Queue, m *queue.Message, size int) {
	tb.Helper()
	if err := Add(tb, q, m, size); err != nil {
		tb.Fatal(err)
	}
}

// BodyOf is the stored text of a message.
func BodyOf(tb testing.TB, q *queue.Queue, id string) ([]byte, error) {
	tb.Helper()
	b, c, err := q.Body(id)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out bytes.Buffer
	if _, err := io.Copy(&out, message.NewReader(b)); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes(), nil
}

// Due are the ids of what is due until then, the soonest first.
func Due(tb testing.TB, q *queue.Queue, until time.Time) (ids []string) {
	tb.Helper()
	for e, err := range q.Due(until, 1<<30) {
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// ID is the n-th id.
func ID(n int) string { return fmt.Sprintf("message%08d", n) }
