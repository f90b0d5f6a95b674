package queue_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
)

var birth = time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)

func open(tb testing.TB, dir string, o queue.Options) *queue.Queue {
	tb.Helper()
	q, err := queue.Open(dir, pebble.Open, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { q.Close() })
	return q
}

func mustClose(tb testing.TB, q *queue.Queue) {
	tb.Helper()
	if err := q.Close(); err != nil {
		tb.Fatal(err)
	}
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// envelope is a message to n recipients that is due at birth.
func envelope(id string, n int) *queue.Message {
	m := &queue.Message{ID: id, Sender: message.Address{Local: "a", Domain: "x.example"}, Arrived: birth, Facts: []byte(`{"helo":"h"}`)}
	for i := range n {
		m.Recipients = append(m.Recipients, queue.Recipient{
			Address: message.Address{Local: fmt.Sprint("r", i), Domain: "y.example"}, Next: birth,
		})
	}
	return m
}

const from = 5 // of the bytes written, what stands before is replaced by the head

// text is a body of size bytes whose first five are not stored.
func text(size int) []byte {
	b := []byte(strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", size/38+1))
	return b[:size]
}

// stored is what commit makes of text(size).
func stored(size int) []byte { return append([]byte("HEAD\r\n"), text(size)[from:]...) }

func write(tb testing.TB, d *queue.Draft, b []byte) error {
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

// add commits m with a body made of text(size), and lets its memory go.
func add(tb testing.TB, q *queue.Queue, m *queue.Message, size int) error {
	tb.Helper()
	d := q.Begin(m.ID)
	defer d.Abort()
	if err := write(tb, d, text(size)); err != nil {
		return err
	}
	body, err := d.Commit(tb.Context(), m, []byte("HEAD\r\n"), from)
	if err != nil {
		return err
	}
	message.Retain(body)()
	body.(message.Retainer).Release()
	return nil
}

func mustAdd(tb testing.TB, q *queue.Queue, m *queue.Message, size int) {
	tb.Helper()
	if err := add(tb, q, m, size); err != nil {
		tb.Fatal(err)
	}
}

func bodyOf(tb testing.TB, q *queue.Queue, id string) ([]byte, error) {
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

func due(tb testing.TB, q *queue.Queue, until time.Time) (ids []string) {
	tb.Helper()
	for e, err := range q.Due(until, 1<<30) {
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

func id(n int) string { return fmt.Sprintf("message%08d", n) }
