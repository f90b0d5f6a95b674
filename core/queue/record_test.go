package queue

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

func sample(recipients int) *Message {
	at := time.Date(2026, 11, 3, 10, 0, 0, 1, time.UTC)
	m := &Message{
		ID: "message01", Sender: message.Address{Local: "a", Domain: "b.example"}, Arrived: at, Size: 4711,
		Facts: []byte(`{"client":"192.0.2.1:25"}`), EnvID: "e", Ret: "FULL",
	}
	for i := range recipients {
		m.Recipients = append(m.Recipients, Recipient{
			Address: message.Address{Local: "r", Domain: "x.example"}, Next: at.Add(time.Duration(i)), Attempts: i,
			Unicode: []string{"", "bücher.example"}[i%2], State: State(i % 4), Held: i%5 == 1, Last: message.NewReply(450, "4.2.0", "full"),
		})
	}
	return m
}

// FuzzRecord: whatever is stored under a right checksum is read or refused, and
// what is read is written the same way again.
func FuzzRecord(f *testing.F) {
	key := recordKey("message01")
	for _, m := range []*Message{sample(1), sample(7), {ID: "message01", Place: Quarantined, Reason: "virus", Double: true}, {ID: "message01", Unicode: "ü.example", Binary: true, SMTPUTF8: true}} {
		f.Add(appendRecord(nil, key, m, headOf(m, flagFile))[sealLen:])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseHead(b)
		m, h, err := parseRecord("message01", b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("%v", err)
			}
			return
		}
		again, _, err := decodeRecord(key, appendRecord(nil, key, m, h))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v\n%+v, %v", m, again, err)
		}
	})
}

func TestEveryBitOfARecordIsGuarded(t *testing.T) {
	key := recordKey("message01")
	good := appendRecord(nil, key, sample(3), headOf(sample(3), 0))
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, _, err := decodeRecord(key, bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	for n := range good {
		if _, _, err := decodeRecord(key, good[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d bytes of it: %v", n, err)
		}
		if _, _, err := parseRecord("message01", good[sealLen:max(sealLen, n)]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d bytes of it, with a right checksum: %v", n, err)
		}
	}
	if _, _, err := decodeRecord(recordKey("message02"), good); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
}

// TestExtensions: what later versions of the record added is kept, and is not
// there where it was not said.
func TestExtensions(t *testing.T) {
	key := recordKey("message01")
	for i, change := range []func(m *Message){
		func(*Message) {},
		func(m *Message) { m.Binary = true },
		func(m *Message) { m.SMTPUTF8 = true },
		func(m *Message) { m.Unicode = "bücher.example" },
		func(m *Message) { m.Recipients[0].Unicode = "bücher.example" },
		func(m *Message) {
			m.Binary, m.SMTPUTF8, m.EightBit, m.Unicode, m.Recipients[1].Unicode = true, true, true, "ü.example", "ö.example"
			m.Signed = Span{From: 100, To: m.Size}
		},
	} {
		m := sample(2)
		m.Recipients[1].Unicode = ""
		change(m)
		got, h, err := decodeRecord(key, appendRecord(nil, key, m, headOf(m, flagFile)))
		if err != nil || !reflect.DeepEqual(got.Recipients, restored(m)) || got.Binary != m.Binary || got.SMTPUTF8 != m.SMTPUTF8 || got.EightBit != m.EightBit || got.Unicode != m.Unicode || got.Signed != m.Signed || h.flags&flagFile == 0 {
			t.Errorf("%d: %+v, %v", i, got, err)
		}
	}
	m := &Message{Sender: message.Address{Local: "a", Domain: "xn--bcher-kva.example"}, Unicode: "bücher.example"}
	if m.SenderFor(true).String() != "a@bücher.example" || m.SenderFor(false) != m.Sender {
		t.Errorf("%s, %s", m.SenderFor(true), m.SenderFor(false))
	}
	r := &Recipient{Address: message.Address{Local: "a", Domain: "b.example"}}
	if r.AddressFor(true) != r.Address || r.AddressFor(false) != r.Address {
		t.Errorf("%s, %s", r.AddressFor(true), r.AddressFor(false))
	}
}

// restored are the recipients with their times as they are read.
func restored(m *Message) []Recipient {
	list := append([]Recipient(nil), m.Recipients...)
	for i := range list {
		list[i].Next, list[i].Tried = timeOf(nanos(list[i].Next)), timeOf(nanos(list[i].Tried))
	}
	return list
}

func TestTimesThatDoNotFit(t *testing.T) {
	for _, c := range []struct{ in, out time.Time }{
		{time.Time{}, time.Time{}},
		{time.Unix(0, 0).UTC(), time.Unix(0, 0).UTC()},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, noDue-1).UTC()},
		{time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, zeroTime+1).UTC()},
	} {
		n := nanos(c.in)
		if got := timeOf(n); !got.Equal(c.out) || nanos(got) != n || n == noDue {
			t.Errorf("%v: %v", c.in, got)
		}
	}
}

func TestDueKeysSortByTime(t *testing.T) {
	last := []byte(nil)
	for _, at := range []int64{zeroTime, -1, 0, 1, 1 << 40, noDue - 1} {
		k := dueKey(at, "message01")
		if got, id, ok := parseDueKey(k); !ok || got != at || id != "message01" || bytes.Compare(last, k) >= 0 {
			t.Errorf("%d: %d %q %v", at, got, id, ok)
		}
		last = k
	}
}

func BenchmarkRecord(b *testing.B) {
	key, m := recordKey("message01"), sample(1)
	buf := appendRecord(nil, key, m, headOf(m, 0))
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		dst := make([]byte, 0, 1024)
		for b.Loop() {
			appendRecord(dst, key, m, headOf(m, 0))
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := decodeRecord(key, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
