// Package local delivers to mailboxes on this host.
//
// Maildir is the Deliverer: a message for local@domain goes into
// <root>/<domain>/<local part>/new, as one file behind the fields Return-Path
// and Delivered-To, with the LF line ends that mail programs on Unix expect of a
// Maildir; nothing else of it is changed.
//
//   - A delivery is written to tmp, synced, renamed into new, and new is synced:
//     only then it is told as done. Whatever breaks before is a deferral, and the
//     file in tmp is removed. A mailbox that is new, or new to this process, is
//     synced up to the root before its first message (maildir.go).
//   - Names that come from an address never leave their folder: name.go makes one
//     path element out of any local part, and all access is through an os.Root.
//   - Discard is the Deliverer that throws away.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// Options of New.
type Options struct {
	Dir      string       // the root of all mailboxes; it is made where it is missing
	Hostname string       // in the names of files
	Log      *slog.Logger // nil: none
}

// Maildir delivers into Maildirs. It is safe for concurrent use.
type Maildir struct {
	writer
	root *os.Root
	log  *slog.Logger
	disk disk

	mu    sync.Mutex
	known map[string]struct{} // mailboxes whose folders are synced
}

// New opens the root of the mailboxes.
func New(o Options) (*Maildir, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := makeRoot(o.Dir); err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	return &Maildir{root: root, writer: writer{host: hostPart(o.Hostname)}, log: o.Log, disk: rootDisk{root}, known: map[string]struct{}{}}, nil
}

// Close releases the root. No delivery may be under way.
func (d *Maildir) Close() error { return d.root.Close() }

// Deliver implements send.Deliverer. Recipients get the message one after the
// other, each with an outcome of its own.
func (d *Maildir) Deliver(ctx context.Context, j *send.Job) []send.Outcome {
	list := make([]send.Outcome, 0, len(j.Recipients))
	for _, i := range j.Recipients {
		started := time.Now()
		o := send.Outcome{Recipient: i, Result: send.Delivered, Reply: message.NewReply(250, "2.0.0", "Delivered to the mailbox")}
		if err := d.deliver(ctx, j.Message, j.Message.Recipients[i].Address, j.Body); err != nil {
			o.Result, o.Reply = send.Deferred, replyOf(err)
			d.log.Warn("delivery to a mailbox failed", "id", j.Message.ID, "recipient", j.Message.Recipients[i].Address.String(), "error", err)
		}
		o.Duration = time.Since(started)
		list = append(list, o)
	}
	return list
}

func (d *Maildir) deliver(ctx context.Context, m *queue.Message, to message.Address, body message.Body) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.put(ctx, mailbox(to), trace(m.Sender, to), stored{body})
}

// replyOf is a failure as a recipient's outcome; nothing about this host's files
// is told to senders.
func replyOf(err error) message.Reply {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return message.NewReply(452, "4.3.1", "No space is left for the mailbox")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return message.NewReply(451, "4.3.2", "The mail system is stopping")
	}
	return message.NewReply(451, "4.3.0", "The mailbox can't be written now")
}

// Discard is the Deliverer of next hop discard.
type Discard struct{}

// Deliver implements send.Deliverer.
func (Discard) Deliver(_ context.Context, j *send.Job) []send.Outcome {
	list := make([]send.Outcome, 0, len(j.Recipients))
	for _, i := range j.Recipients {
		list = append(list, send.Outcome{Recipient: i, Result: send.Delivered, Reply: message.NewReply(250, "2.0.0", "Discarded")})
	}
	return list
}
