package pebble

import (
	"maps"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2"

	"github.com/postern-mta/postern/core/queue"
)

// delta is what the journal says beyond Pebble's tables, for an engine that must not
// write it there.
type delta struct {
	values map[string][]byte // nil: the key is deleted
	keys   []string          // ascending
}

func (d *delta) add(payload []byte) error {
	var b pebble.Batch
	if err := b.SetRepr(append([]byte(nil), payload...)); err != nil {
		return err
	}
	for r := b.Reader(); ; {
		kind, key, value, ok, err := r.Next()
		if !ok || err != nil {
			return err
		}
		if kind == pebble.InternalKeyKindDelete {
			value = nil
		} else if value == nil {
			value = []byte{}
		}
		d.values[string(key)] = value
	}
}

func (d *delta) sort() { d.keys = slices.Sorted(maps.Keys(d.values)) }

// over is a cursor over the keys of d in a range, and those of base that d says
// nothing about.
func (d *delta) over(base queue.Cursor, from, to []byte) queue.Cursor {
	lo, hi := sort.SearchStrings(d.keys, string(from)), sort.SearchStrings(d.keys, string(to))
	return &merged{Cursor: base, delta: d, keys: d.keys[lo:max(lo, hi)]}
}

type merged struct {
	queue.Cursor // the base
	delta        *delta
	keys         []string // of the delta, that are still to come
	begun, more  bool     // the base stands at a key
	own          bool     // the merged cursor stands at the first of keys
}

func (m *merged) Next() bool {
	if m.own {
		m.keys = m.keys[1:]
	}
	if !m.begun || !m.own {
		m.begun, m.more = true, m.Cursor.Next()
	}
	for {
		if m.more && len(m.keys) > 0 && string(m.Cursor.Key()) == m.keys[0] {
			m.more = m.Cursor.Next() // the delta has a newer word on it
			continue
		}
		if !m.more && m.Cursor.Err() != nil {
			return false
		}
		if m.own = len(m.keys) > 0 && (!m.more || m.keys[0] < string(m.Cursor.Key())); !m.own {
			return m.more
		}
		if m.delta.values[m.keys[0]] != nil {
			return true
		}
		m.keys = m.keys[1:]
	}
}

func (m *merged) Key() []byte {
	if m.own {
		return []byte(m.keys[0])
	}
	return m.Cursor.Key()
}

func (m *merged) Value() ([]byte, error) {
	if m.own {
		return m.delta.values[m.keys[0]], nil
	}
	return m.Cursor.Value()
}
