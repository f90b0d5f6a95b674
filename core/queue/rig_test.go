package queue_test

import (
	"io"
	"log/slog"
	"testing"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/queue/queuetest"
)

func open(tb testing.TB, dir string, o queue.Options) *queue.Queue {
	tb.Helper()
	q, err := queue.Open(dir, pebble.Open, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { q.Close() })
	return q
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// What tests of the queue share.
var (
	birth     = queuetest.Birth
	mustClose = queuetest.MustClose
	envelope  = queuetest.Envelope
	text      = queuetest.Text
	stored    = queuetest.Stored
	write     = queuetest.Write
	add       = queuetest.Add
	mustAdd   = queuetest.MustAdd
	bodyOf    = queuetest.BodyOf
	due       = queuetest.Due
	id        = queuetest.ID
)

const from = queuetest.From
