package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

const evil = "<script>alert(1)</script>\x1b]0;owned\x07\u202e"

var now = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

// rig is a daemon's worth of parts around a Server.
type rig struct {
	q        *queue.Queue
	r        *record.Recorder
	s        *Server
	socket   string
	client   *Client
	reload   error
	injected []string
	drops    int
	ready    error
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	g := &rig{socket: filepath.Join(dir, "run", "s")}
	var err error
	if g.q, err = queue.Open(filepath.Join(dir, "queue"), pebble.Open, queue.Options{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	if g.r, err = record.Open(filepath.Join(dir, "record"), record.Options{}); err != nil {
		t.Fatal(err)
	}
	g.s = New(Options{
		Record: g.r, Queue: g.q,
		Status: func() Status {
			return Status{
				Version: "1.2.3", Started: now, Generation: 4, Listeners: []Listener{{"mx", "smtp", "127.0.0.1:2525"}},
				Policies: Policies([]hooks.Count{{Name: "greylist", Calls: 9, Failures: 1, Verbs: [8]uint64{hooks.Pass: 7, hooks.Defer: 2}}}),
			}
		},
		Ready:  func() error { return g.ready },
		Reload: func(context.Context) error { return g.reload },
		Acts: map[string]Act{
			"delete": func(ctx context.Context, id string, _ *Order) error { return g.q.Remove(ctx, id) },
			"retry":  func(context.Context, string, *Order) error { return errors.New("not today") },
		},
		Inject: func(_ context.Context, d queue.Drop, body io.Reader) message.Reply {
			sender, to := d.Sender, d.Recipients
			if sender.Local == "refused" {
				return message.NewReply(550, "5.7.1", "No")
			}
			b, err := io.ReadAll(body)
			if err != nil {
				return message.ReplyOf(err)
			}
			g.injected = append(g.injected, fmt.Sprintf("%s %v %s", sender, to, b))
			return message.NewReply(250, "2.0.0", "Ok: queued as X")
		},
		TakeDrops: func(context.Context) { g.drops++ },
		Plugins: func(context.Context) []Plugin {
			return []Plugin{{Name: "checker", Path: "/p", State: "running", Stages: []string{"rcpt"}}}
		},
	})
	ln, err := ListenControl(g.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.s.ServeControl(ctx, ln) }()
	if g.client, err = Dial(g.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.client.Close()
		cancel()
		if err := errors.Join(<-ended, g.r.Close(), g.q.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(g.socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket stays behind: %v", err)
		}
	})
	return g
}

func (g *rig) put(t *testing.T, id, sender string, to ...queue.Recipient) {
	t.Helper()
	from, err := message.ParseAddress(sender)
	if err != nil {
		t.Fatal(err)
	}
	d := g.q.Begin(id)
	fmt.Fprintf(d, "Subject: %s\r\n\r\nhello\r\n", id)
	m := &queue.Message{ID: id, Sender: from, Arrived: now, Recipients: to, Facts: []byte(`{"helo":"x"}`)}
	body, err := d.Commit(t.Context(), m, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := body.(message.Retainer); ok {
		r.Release()
	}
}

func rcpt(to string, attempts int, last string) queue.Recipient {
	a, err := message.ParseAddress(to)
	if err != nil {
		panic(err)
	}
	r := queue.Recipient{Address: a, Attempts: attempts, Next: now.Add(time.Hour)}
	if last != "" {
		r.State, r.Last, r.Tried = queue.Deferred, message.NewReply(451, "4.3.0", last), now.Add(time.Duration(attempts)*time.Minute)
	}
	return r
}

func collect[T any](t *testing.T, seq iter.Seq2[T, error]) (list []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}
