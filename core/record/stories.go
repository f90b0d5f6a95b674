package record

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Stories walks the stories that were written from since to until, the oldest
// first; zero times are no bound. Later events, such as delivery attempts, are not
// joined. Meanwhile Close waits.
func (r *Recorder) Stories(ctx context.Context, since, until time.Time) iter.Seq2[Story, error] {
	return func(yield func(Story, error) bool) {
		if err := r.walk(ctx, since, until, func(s Story) bool { return yield(s, nil) }); err != nil {
			yield(Story{}, err)
		}
	}
}

func (r *Recorder) walk(ctx context.Context, since, until time.Time, yield func(Story) bool) error {
	return r.walkRecords(ctx, since, func(record []byte) bool {
		if len(record) == 0 || record[0] != storyRecord && record[0] != storyRecord-1 {
			return true
		}
		t, err := decode(record)
		s := &t.story
		if err != nil || s.Ended.Before(since) || !until.IsZero() && !s.Ended.Before(until) {
			return true
		}
		return yield(*s)
	})
}

// walkRecords gives f all that was written since a time, in the order of writing, until
// it wants no more.
func (r *Recorder) walkRecords(ctx context.Context, since time.Time, f func(record []byte) (more bool)) (err error) {
	r.Flush()
	r.using.RLock()
	defer r.using.RUnlock()
	if err := r.ready(); err != nil {
		return err
	}
	from := uint64(0)
	if !since.IsZero() {
		from = uint64(max(since.UnixNano(), 0))
	}
	it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: pageKey(pagePrefix, from), UpperBound: []byte{pagePrefix + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && ctx.Err() == nil; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		more := true
		records(value, func(record []byte) bool {
			more = f(record)
			return more
		})
		if !more {
			return nil
		}
	}
	return errors.Join(it.Error(), context.Cause(ctx))
}
