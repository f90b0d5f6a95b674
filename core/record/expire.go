package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// sweepEvery is how often the old end is looked at, looseFor how long a session
// that nobody announced is waited for.
const (
	sweepEvery = time.Minute
	looseFor   = 10 * time.Minute
)

// sweep is the sweeper: it removes what is too old, too much or forgotten.
func (r *Recorder) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		r.dropQuiet(time.Now().Add(-looseFor))
		if err := r.expire(r.stopping, time.Now()); err != nil && r.stopping.Err() == nil {
			r.log.Error("recorder: expiry", "error", err)
		}
		select {
		case <-r.closing:
			return
		case <-tick.C:
		}
	}
}

// expire removes pages written before now minus Keep, and then the oldest until
// the store takes seven tenths of MaxSize, where it takes more than eight: the rest
// is for what a removal needs while it lasts.
func (r *Recorder) expire(ctx context.Context, now time.Time) error {
	r.expiring.Lock()
	defer r.expiring.Unlock()
	if _, ok := r.mender.Trouble(); ok {
		return nil
	}
	first, last, err := r.span()
	if err != nil || first == 0 {
		return err
	}
	cut := uint64(max(now.Add(-r.o.Keep).UnixNano(), 0))
	limit := uint64(r.o.MaxSize)
	if size, _, _ := r.disk(); size > limit/10*8 {
		byMass, err := r.cutFor(first, last, size-limit/10*7)
		if err != nil {
			return err
		}
		cut = max(cut, byMass)
	}
	if cut <= first {
		return nil
	}
	return r.removeBefore(ctx, cut)
}

// disk is how many bytes the store takes on disk, how many more are removed and
// still held by somebody's question, and how many are being deleted.
func (r *Recorder) disk() (used, held, going uint64) {
	m := r.db.Metrics()
	held, going = m.Table.Local.ZombieSize, m.Table.Local.ObsoleteSize
	all := m.DiskSpaceUsage()
	return all - min(held+going, all), held, going
}

// bound is called by the writer with the bytes that it is about to write. Where
// much has come in since it last looked, it makes room; room tells whether there
// is some.
func (r *Recorder) bound(n int) (room bool) {
	if r.grown += int64(n); r.grown < r.o.MaxSize/64 {
		return !r.over
	}
	r.grown = 0
	if err := r.expire(r.stopping, time.Now()); err != nil && r.stopping.Err() == nil {
		r.log.Error("recorder: expiry", "error", err)
	}
	used, held, _ := r.disk()
	r.over = used+held > uint64(r.o.MaxSize)/8*9
	return !r.over
}

// span is the numbers of the oldest and the newest page, 0 where there is none.
func (r *Recorder) span() (first, last uint64, err error) {
	it, err := pages(r.db.DB, indexPrefix)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.First() {
		first, _ = pageNumber(it.Key())
	}
	if it.Last() {
		last, _ = pageNumber(it.Key())
	}
	return first, last, it.Error()
}

// usage is about how many bytes on disk the pages from first to before last take.
func (r *Recorder) usage(first, last uint64) (uint64, error) {
	a, err := r.db.EstimateDiskUsage(pageKey(pagePrefix, first), pageKey(pagePrefix, last))
	if err != nil {
		return 0, fmt.Errorf("estimating the size: %w", err)
	}
	b, err := r.db.EstimateDiskUsage(pageKey(indexPrefix, first), pageKey(indexPrefix, last))
	return a + b, err
}

// cutFor finds the moment before which about excess bytes were written.
func (r *Recorder) cutFor(first, last, excess uint64) (uint64, error) {
	low, high := first, last+1
	for high-low > uint64(time.Millisecond) {
		middle := low + (high-low)/2
		size, err := r.usage(0, middle)
		if err != nil {
			return 0, err
		}
		if size >= excess {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}

// removeBefore removes the pages before cut and gives their room back.
func (r *Recorder) removeBefore(ctx context.Context, cut uint64) error {
	for _, prefix := range []byte{indexPrefix, pagePrefix} {
		if err := r.db.DeleteRange(pageKey(prefix, 0), pageKey(prefix, cut), pebble.NoSync); err != nil {
			return err
		}
	}
	if err := r.db.Flush(); err != nil {
		return err
	}
	for _, prefix := range []byte{indexPrefix, pagePrefix} {
		if err := r.db.Compact(ctx, pageKey(prefix, 0), pageKey(prefix, cut), false); err != nil {
			return err
		}
	}
	for range deleteTries { // deleted in the background
		if _, _, going := r.disk(); going == 0 || ctx.Err() != nil {
			break
		}
		time.Sleep(deletePause)
	}
	return nil
}

// How long a removal waits for its files to be gone.
const (
	deleteTries = 100
	deletePause = time.Millisecond
)
