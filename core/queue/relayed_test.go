package queue

import "testing"

// How far a delivery got is kept, and is settled like the rest of its outcome.
func TestRelayedIsKept(t *testing.T) {
	key := recordKey("message01")
	m := sample(2)
	m.Recipients[1].Relayed = true
	got, _, err := decodeRecord(key, appendRecord(nil, key, m, headOf(m, 0)))
	if err != nil || got.Recipients[0].Relayed || !got.Recipients[1].Relayed || got.Recipients[1].Held != m.Recipients[1].Held {
		t.Errorf("%+v, %v", got, err)
	}
}
