// Package record is the flight recorder: it hears of everything that happens to
// a message and keeps it for those who ask later. It is the one place that
// writes the log lines, metrics and stories of mail.
//
//   - Stage, Connected, Disconnected, Refused and Verdict (observe.go) are told by
//     the mail path. A transaction's stages gather in memory until its verdict.
//   - What is complete goes into a bounded list (write.go) that one goroutine
//     encodes (encode.go) and writes, many stories to a page, into a store of its
//     own. Where that goroutine can't follow, stories are dropped and counted:
//     recording never holds up mail, and a story is no mail, so nothing is synced.
//   - A page stands under the time it was written, beside the hashes of the words
//     it can be found by (page.go). Expiry (expire.go) is thus the removal of a
//     range from the old end, by age and by size.
//   - Why (why.go) finds the stories that a Query (query.go) asks for and joins
//     them with what came later: delivery attempts, and answers of policies that
//     nobody waited for. Story (story.go) is the form for programs, Print
//     (print.go) the one for people.
//   - A store whose disk fails is opened again by itself (mend.go); mail goes on
//     without.
//   - The log's events stand in log.go, metrics in metrics.go, the lines for a
//     terminal in live.go.
package record

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/disk"
	"github.com/postern-mta/postern/hooks"
)

// Bounds of what is kept. Beyond them things are counted, not kept.
const (
	maxText       = 1 << 10  // bytes of one text
	maxRecipients = 1000     // of one story
	maxRuns       = 200      // stage runs of one transaction
	maxRcptRuns   = 150      // of those, at stage rcpt: the verdict's own stages still fit
	maxSession    = 32       // stage runs of one connection outside transactions
	maxRefusals   = 100      // negative replies of one transaction or connection
	maxEdits      = 100      // edits of one handler's answer
	maxMessage    = 64 << 10 // bytes of a message that are kept where Options.Bodies is set
	maxLoose      = 256      // transactions of unannounced sessions, a shard
)

const shardCount = 16

// damaged is added to the name of a store that can't be read any more: losing
// stories must not keep the daemon from starting.
const damaged = ".damaged"

// Options of Open.
type Options struct {
	Keep     time.Duration // how long stories are kept; 0: a week
	MaxSize  int64         // bytes on disk; 0: 1 GiB
	Bodies   bool          // keep the first 64 KiB of each message too
	Log      *slog.Logger  // nil: none
	ReadOnly bool          // for questions only, while no daemon runs
	Qmail    *QmailLog     // nil: none; else what happens to queued mail stands there, in qmail-send's lines
	Off      bool          // log and count alone: nothing is kept, and what is on disk is left alone

	files vfs.FS // for tests: nil is the disk
}

// Recorder records. A nil one records nothing. It is safe for concurrent use. Apart from Why, Flush and
// Close, its methods return at once; of a Recorder that is closed, or opened
// read-only, they do nothing but count and log.
type Recorder struct {
	dir     string
	o       Options
	log     *slog.Logger
	lock    io.Closer
	db      *disk.DB // changed under using and expiring by the writer; nil: it can't even be read at present
	mender  disk.Mender
	metrics *metrics
	live    atomic.Pointer[live]
	recent  recent

	seed        maphash.Seed
	shards      [shardCount]shard
	connections atomic.Int64

	list    list
	last    uint64    // key of the newest page; the writer's
	failing bool      // the last page was lost; the writer's
	retry   time.Time // when a failed store is opened again; the writer's
	grown   int64     // bytes since the writer looked at the disk
	over    bool      // the disk has more than it should, the writer found
	closing chan struct{}
	ended   chan struct{}  // the writer is gone
	owned   sync.WaitGroup // writer and sweeper
	closed  sync.Once

	expiring sync.Mutex
	stopping context.Context // ends with closing
	stop     context.CancelFunc

	using sync.RWMutex // held by questions
	shut  bool         // under using
}

var _ hooks.Observer = (*Recorder)(nil)

// Open opens the recorder's store in dir and starts its goroutines, which Close
// ends. A damaged store is renamed, with a log line, and a new one begun. With
// ReadOnly nothing is changed or started, and a dir that is not there
// is an error that wraps fs.ErrNotExist.
func Open(dir string, o Options) (*Recorder, error) {
	if o.Keep <= 0 {
		o.Keep = 7 * 24 * time.Hour
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 1 << 30
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.files == nil {
		o.files = vfs.Default
	}
	r := &Recorder{dir: dir, o: o, log: o.Log, seed: maphash.MakeSeed(), closing: make(chan struct{}), ended: make(chan struct{})}
	r.stopping, r.stop = context.WithCancel(context.Background())
	r.metrics = newMetrics(r)
	for i := range r.shards {
		r.shards[i].sessions = map[string]*session{}
	}
	r.list.wake, r.list.full = make(chan struct{}, 1), make(chan struct{}, 1)
	r.list.flush = make(chan chan struct{})
	if o.Off {
		r.o.ReadOnly, r.shut = true, true
		return r, nil
	}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("record: open %s: %w", dir, err)
	}
	if !o.ReadOnly {
		r.owned.Go(r.write)
		r.owned.Go(r.sweep)
	}
	return r, nil
}

func (r *Recorder) open() error {
	if r.o.ReadOnly {
		if _, err := os.Stat(r.dir); err != nil {
			return err
		}
	} else if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	lock, err := lockStore(r.dir, r.o)
	if err != nil {
		return err
	}
	db, err := disk.Open(r.dir, storeOptions(r.o))
	if err != nil && !r.o.ReadOnly && pebble.IsCorruptionError(err) {
		r.log.Error("recorder: the store is damaged and set aside", "dir", r.dir+damaged, "error", err)
		if err = errors.Join(lock.Close(), os.RemoveAll(r.dir+damaged), os.Rename(r.dir, r.dir+damaged), os.Mkdir(r.dir, 0o700)); err != nil {
			return err
		}
		if lock, err = lockStore(r.dir, r.o); err != nil {
			return err
		}
		db, err = disk.Open(r.dir, storeOptions(r.o))
	}
	if err != nil {
		err = errors.Join(err, lock.Close())
	}
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return err
	}
	if r.last, err = newestPage(db.DB); err != nil {
		return errors.Join(err, db.Close(), lock.Close())
	}
	r.db, r.lock = db, lock
	return nil
}

// ready tells whether questions can be answered. The caller holds r.using.
func (r *Recorder) ready() error {
	switch {
	case r.o.Off:
		return errOff
	case r.shut:
		return errClosed
	case r.db == nil:
		return errFailed
	}
	return nil
}

// errClosed answers questions to a recorder that is closed, errFailed to one
// whose store can't be read since it failed, errOff to one that records nothing.
var (
	errOff    = errors.New("the flight recorder is off: [recorder] enabled = false")
	errClosed = errors.New("record: closed")
	errFailed = errors.New("record: the store failed, see the log")
)

// Close writes what is still to be written, ends the recorder's goroutines and
// closes the store. Transactions under way are written as far as they got.
func (r *Recorder) Close() error {
	var err error
	r.closed.Do(func() {
		r.finishAll()
		close(r.closing)
		r.stop()
		r.owned.Wait()
		r.using.Lock()
		defer r.using.Unlock()
		r.shut = true
		if r.o.Off {
			return
		}
		if r.db != nil {
			err = r.db.Close()
			if failed := r.db.Failed(); failed != nil {
				if _, known := r.mender.Trouble(); !known {
					r.failed()
				}
				err = nil // what is lost was told, and no mail is
			}
		}
		err = errors.Join(err, r.lock.Close())
	})
	return err
}

// Trouble is why nothing is recorded at present, and when the store is opened again;
// ok is false where all is well.
func (r *Recorder) Trouble() (t disk.Trouble, ok bool) { return r.mender.Trouble() }

// Failures is how often the store failed since Open.
func (r *Recorder) Failures() int { return r.mender.Failures() }

// Connections is how many connections are open now.
func (r *Recorder) Connections() int { return int(r.connections.Load()) }
