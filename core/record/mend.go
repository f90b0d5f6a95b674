package record

import (
	"time"

	"github.com/postern-mta/postern/core/disk"
)

// This file opens a store that failed again. All of it is the writer's.

// failed notes that the store failed. Nothing is written until it is open again:
// what is told meanwhile is lost, and counted.
func (r *Recorder) failed() {
	now, pause := r.mender.Failed(r.db.Failed())
	r.retry = time.Now().Add(pause)
	r.log.Error("recorder: the store failed; nothing is recorded until it is open again", "error", now.Err, "next_try", pause)
}

// mendTime is when a failed store is to be opened again; nil: it works.
func (r *Recorder) mendTime() (due <-chan time.Time, stop func() bool) {
	if _, ok := r.mender.Trouble(); !ok {
		return nil, func() bool { return true }
	}
	t := time.NewTimer(time.Until(r.retry))
	return t.C, t.Stop
}

// mend tries it. Where the store can't be written yet, questions can be answered if it
// can be read.
func (r *Recorder) mend() {
	err := r.reopen()
	if err == nil {
		now := r.mender.Mended()
		r.failing = false
		r.log.Warn("recorder: the store is open again", "after", time.Since(now.Since).Round(time.Millisecond), "tries", now.Tries+1)
		return
	}
	now, pause := r.mender.Again(err)
	r.retry = time.Now().Add(pause)
	r.log.Error("recorder: the store can't be opened again yet", "error", err, "tries", now.Tries, "next_try", pause)
}

func (r *Recorder) reopen() (err error) {
	r.expiring.Lock()
	defer r.expiring.Unlock()
	r.using.Lock()
	defer r.using.Unlock()
	if r.db != nil {
		_ = r.db.Close() // with the failure that is known
	}
	if r.db, err = disk.Again(r.dir, storeOptions(r.o)); err != nil {
		return err
	}
	last, err := newestPage(r.db.DB)
	r.last = max(r.last, last)
	return err
}
