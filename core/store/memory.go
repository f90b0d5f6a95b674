package store

import (
	"encoding/binary"
	"sync"
	"time"
)

// purgeEvery is how many writes pass between two looks for expired records.
const purgeEvery = 4096

// Memory returns an empty Store that forgets everything with the process, for
// tests and dry runs of policies. It has no goroutines. A nil now is time.Now.
func Memory(now func() time.Time) *Embedded {
	if now == nil {
		now = time.Now
	}
	return newEmbedded(&mapTable{records: map[string][]byte{}, now: now}, now)
}

type mapTable struct {
	now func() time.Time

	mu      sync.RWMutex // guards the rest
	records map[string][]byte
	writes  int
}

func (t *mapTable) load(dst, key []byte) ([]byte, bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	record, found := t.records[string(key)]
	return append(dst, record...), found, nil
}

func (t *mapTable) save(key, record []byte, _ int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writes++; t.writes%purgeEvery == 0 {
		t.purge(uint64(t.now().UnixNano()))
	}
	t.records[string(key)] = append([]byte(nil), record...)
	return nil
}

func (t *mapTable) purge(now uint64) {
	for key, record := range t.records {
		if expires := binary.BigEndian.Uint64(record); expires != 0 && expires <= now {
			delete(t.records, key)
		}
	}
}

func (t *mapTable) drop(key []byte, _ int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.records, string(key))
	return nil
}

func (t *mapTable) close() error { return nil }
