package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// This file is what is done about a store of which parts can't be read: a new one is
// made of the rest, and takes its place. The old one is kept beside it, for a person.
// A crash leaves the old store in its place, or the new one whole; between the two
// renamings, the next opening does the second.

// ErrUnreadable is the engine's error where a part of its files is damaged: more than
// one message may be lost, and others can't be written any more.
var ErrUnreadable = fmt.Errorf("a part of the store can't be read: %w", ErrDamaged)

func (q *Queue) storeDir() string { return filepath.Join(q.dir, "db") }
func (q *Queue) newDir() string   { return filepath.Join(q.dir, "db.new") }

// openStore is openHandle, and where parts can't be read, or were met in use (why),
// a rebuilding before.
func (q *Queue) openStore(existing bool, refused map[string]struct{}, why error) (*handle, error) {
	if q.o.ReadOnly {
		return q.openHandle(existing, refused)
	}
	if err := q.takePlace(); err != nil {
		return nil, err
	}
	if !errors.Is(why, ErrUnreadable) {
		h, err := q.openHandle(existing, refused)
		if !errors.Is(err, ErrUnreadable) {
			return h, err
		}
		why = err
	}
	if err := q.rebuild(why); err != nil {
		return nil, fmt.Errorf("%w; making a new store of the rest: %w", why, err)
	}
	return q.openHandle(true, refused)
}

// takePlace ends a rebuilding that came as far as the first renaming.
func (q *Queue) takePlace() error {
	if _, err := os.Stat(q.storeDir()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(q.newDir()); err != nil {
		return nil // there was none
	}
	return errors.Join(os.Rename(q.newDir(), q.storeDir()), syncDir(q.dir))
}

// rebuild makes a store of all that can be read, and puts it in the place of the old.
func (q *Queue) rebuild(why error) error {
	q.log.Error("queue: a part of the store can't be read; a new one is made of the rest", "error", why)
	if err := os.RemoveAll(q.newDir()); err != nil {
		return err
	}
	from, err := q.open(q.storeDir(), EngineOptions{Log: q.log, ReadOnly: true, Existing: true})
	if err != nil {
		return err
	}
	to, err := q.open(q.newDir(), EngineOptions{Log: q.log, NoSync: q.o.NoSync})
	if err != nil {
		return errors.Join(err, from.Close())
	}
	r := rescue{from: from, to: to, ids: map[string]found{}}
	for name, nameErr := range q.disk.Names() { // else files of what is lost would be orphans
		if err = errors.Join(err, nameErr); nameErr == nil && message.ValidID(name) {
			r.ids[name] = found{}
		}
	}
	if err == nil {
		err = r.run()
	}
	if err := errors.Join(err, to.Close(), from.Close()); err != nil {
		return err
	}
	aside := fmt.Sprintf("%s.damaged-%s", q.storeDir(), time.Now().UTC().Format("20060102T150405.000"))
	if err := errors.Join(os.Rename(q.storeDir(), aside), q.takePlace()); err != nil {
		return err
	}
	q.log.Error("queue: the store was made anew of what could be read; the old one is kept", "at", aside, "messages", len(r.ids), "damaged", r.lost)
	return nil
}

// found is which parts of a message were read.
type found struct{ record, body bool }

// rescue copies a store, but for what can't be read of it and for the due index,
// which the opening makes of the records.
type rescue struct {
	from, to Engine
	ids      map[string]found
	writes   []Write
	bytes    int
	lost     int // messages with a part that can't be read
}

// rescueBatch is how much is committed at once, in bytes.
const rescueBatch = 4 << 20

func (r *rescue) run() error {
	steps := []func() error{
		func() error {
			return r.sweep(bodyRange, func(id string, value []byte) error {
				r.ids[id] = found{body: true}
				return r.put(bodyKey(id), value)
			})
		},
		func() error {
			return r.sweep(recordRange, func(id string, value []byte) error {
				r.ids[id] = found{record: true, body: r.ids[id].body}
				return r.put(recordKey(id), value)
			})
		},
		func() error {
			return r.sweep(dueRange, func(key string, _ []byte) error {
				if _, id, ok := parseDueKey(append([]byte{dueRange}, key...)); ok {
					r.ids[id] = found{r.ids[id].record, r.ids[id].body} // known at least
				}
				return nil
			})
		},
		func() error {
			return r.sweep(damagedRange, func(key string, value []byte) error {
				return r.put(damagedKey([]byte(key)), value)
			})
		},
		r.missing,
		func() error { return r.put(formatKey, formatValue()) },
		r.flush,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *rescue) put(key, value []byte) error {
	r.writes = append(r.writes, put(key, append([]byte(nil), value...)))
	if r.bytes += len(key) + len(value); r.bytes < rescueBatch {
		return nil
	}
	return r.flush()
}

func (r *rescue) flush() error {
	if len(r.writes) == 0 {
		return nil
	}
	err := r.to.Commit(r.writes)
	r.writes, r.bytes = r.writes[:0], 0
	return err
}

// missing looks one by one for what the sweeps did not come upon of the messages that
// are known: it may be in the way of what can't be read. What is not found is put as
// nothing, which is damage, so that the message is set aside.
func (r *rescue) missing() error {
	for id, has := range r.ids {
		lost := false
		if !has.record {
			value, err := r.get(recordKey(id))
			if errors.Is(err, ErrNotFound) && !has.body {
				delete(r.ids, id) // an entry of the index that nobody owns
				continue
			}
			lost = err != nil
			if err := r.put(recordKey(id), value); err != nil {
				return err
			}
		}
		if !has.body {
			value, err := r.get(bodyKey(id))
			lost = lost || err != nil
			if err := r.put(bodyKey(id), value); err != nil {
				return err
			}
		}
		if lost {
			r.lost++
		}
	}
	return nil
}

func (r *rescue) get(key []byte) ([]byte, error) {
	v, done, err := r.from.Get(key)
	if err != nil {
		return nil, err
	}
	defer done()
	return append([]byte(nil), v...), nil
}

// sweep visits what can be read of a range, each key without its kind.
func (r *rescue) sweep(kind byte, visit func(key string, value []byte) error) error {
	from, to := []byte{kind}, []byte{kind + 1}
	for {
		last, err := r.walk(from, to, visit)
		if !errors.Is(err, ErrUnreadable) {
			return err
		}
		if last == nil {
			last = from
		}
		if from = r.behind(last, to); from == nil {
			return nil
		}
	}
}

// walk visits as far as it can; last is the last key that it saw.
func (r *rescue) walk(from, to []byte, visit func(string, []byte) error) (last []byte, err error) {
	c, err := r.from.Range(from, to)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for c.Next() {
		last = append(last[:0], c.Key()...)
		v, err := c.Value()
		if errors.Is(err, ErrUnreadable) {
			continue // it alone; found missing later
		}
		if err == nil {
			err = visit(string(last[1:]), v)
		}
		if err != nil {
			return last, err
		}
	}
	return last, c.Err()
}

// searchLen is more than the length of any key, in bytes.
const searchLen = 1 + 1 + 9 + maxID

// behind is the first key behind from, about, at which reading is possible again: the
// next ones are tried at growing distances, and then those between. It is nil where
// there is none before to.
func (r *rescue) behind(from, to []byte) []byte {
	number := func(key []byte) *big.Int {
		b := make([]byte, searchLen)
		copy(b, key)
		return new(big.Int).SetBytes(b)
	}
	key := func(n *big.Int) []byte { return n.FillBytes(make([]byte, searchLen)) }
	end := number(to)
	bad, step := number(from), big.NewInt(1)
	good := new(big.Int)
	for {
		if good.Add(bad, step).Cmp(end) >= 0 {
			good.Set(end)
			break
		}
		if r.readable(key(good), to) {
			break
		}
		bad.Set(good)
		step.Lsh(step, 1)
	}
	for one := big.NewInt(1); new(big.Int).Sub(good, bad).Cmp(one) > 0; {
		middle := new(big.Int).Add(good, bad)
		middle.Rsh(middle, 1)
		if r.readable(key(middle), to) {
			good = middle
		} else {
			bad = middle
		}
	}
	if good.Cmp(end) >= 0 {
		return nil
	}
	return key(good)
}

func (r *rescue) readable(from, to []byte) bool {
	c, err := r.from.Range(from, to)
	if err != nil {
		return false
	}
	defer c.Close()
	c.Next()
	return c.Err() == nil
}
