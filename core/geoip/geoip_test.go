package geoip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A writer of small databases, by the specification of the format.

func size(kind, n int) []byte {
	head := byte(kind << 5)
	var more []byte
	if kind > 7 {
		head, more = 0, []byte{byte(kind - 7)}
	}
	if n < 29 {
		return append([]byte{head | byte(n)}, more...)
	}
	return append(append([]byte{head | 29}, more...), byte(n-29))
}

func encode(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case string:
		b.Write(size(2, len(v)))
		b.WriteString(v)
	case float64:
		b.Write(size(3, 8))
		_ = binary.Write(b, binary.BigEndian, math.Float64bits(v))
	case uint32:
		b.Write(size(6, 4))
		_ = binary.Write(b, binary.BigEndian, v)
	case bool:
		n := 0
		if v {
			n = 1
		}
		b.Write(size(14, n))
	case []any:
		b.Write(size(11, len(v)))
		for _, item := range v {
			encode(b, item)
		}
	case map[string]any:
		b.Write(size(7, len(v)))
		var names []string
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			encode(b, name)
			encode(b, v[name])
		}
	default:
		panic(fmt.Sprintf("%T", v))
	}
}

// database is a file about networks of one family.
func database(version int, networks map[string]map[string]any) []byte {
	const none = math.MaxUint32
	nodes := [][2]uint32{{none, none}}
	var data bytes.Buffer
	leaves := map[[2]int]int{} // node and side: offset of the record
	var names []string
	for name := range networks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p := netip.MustParsePrefix(name)
		raw := p.Addr().AsSlice()
		at := 0
		for i := range p.Bits() {
			side := raw[i/8] >> (7 - i%8) & 1
			if i == p.Bits()-1 {
				leaves[[2]int{at, int(side)}] = data.Len()
				encode(&data, networks[name])
				break
			}
			if nodes[at][side] == none {
				nodes[at][side] = uint32(len(nodes))
				nodes = append(nodes, [2]uint32{none, none})
			}
			at = int(nodes[at][side])
		}
	}
	var out bytes.Buffer
	for i, node := range nodes {
		for side, to := range node {
			if offset, ok := leaves[[2]int{i, side}]; ok {
				to = uint32(len(nodes) + 16 + offset)
			} else if to == none {
				to = uint32(len(nodes))
			}
			out.Write([]byte{byte(to >> 16), byte(to >> 8), byte(to)})
		}
	}
	out.Write(make([]byte, 16))
	out.Write(data.Bytes())
	out.WriteString("\xab\xcd\xefMaxMind.com")
	encode(&out, map[string]any{
		"node_count": uint32(len(nodes)), "record_size": uint32(24), "ip_version": uint32(version), "database_type": "Test", "languages": []any{"en"},
		"binary_format_major_version": uint32(2), "binary_format_minor_version": uint32(0), "build_epoch": uint32(1), "description": map[string]any{},
	})
	return out.Bytes()
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLookup(t *testing.T) {
	country := write(t, "country.mmdb", database(6, map[string]map[string]any{
		"2001:db8::/32":      {"country": map[string]any{"iso_code": "SE", "eu": true}, "subdivisions": []any{map[string]any{"iso_code": "AB"}}},
		"::192.0.2.0/120":    {"country": map[string]any{"iso_code": "DE"}, "location": map[string]any{"latitude": 52.5}},
		"::198.51.100.0/120": {"registered_country": map[string]any{"iso_code": "US"}},
	}))
	asn := write(t, "asn.mmdb", database(4, map[string]map[string]any{
		"192.0.2.0/24": {"autonomous_system_number": uint32(64496), "autonomous_system_organization": "Example", "country": "not this one"},
	}))
	db, err := Open([]string{country, asn}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"192.0.2.7":    "map[autonomous_system_number:64496 autonomous_system_organization:Example country:map[iso_code:DE] location:map[latitude:52.5]]",
		"198.51.100.1": "map[registered_country:map[iso_code:US]]",
		"2001:db8::1":  "map[country:map[eu:true iso_code:SE] subdivisions:[map[iso_code:AB]]]",
		"203.0.113.1":  "map[]",
		"2001:db9::1":  "map[]",
	} {
		got, err := db.Lookup(netip.MustParseAddr(addr))
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", addr, got, err, want)
		}
		if want == "map[]" && got != nil {
			t.Errorf("%s: an empty record where none is known", addr)
		}
	}
}

// A reload takes over what has not changed.
func TestReload(t *testing.T) {
	record := func(code string) []byte {
		return database(4, map[string]map[string]any{"192.0.2.0/24": {"code": code}})
	}
	a, b := write(t, "a.mmdb", record("a")), write(t, "b.mmdb", record("b"))
	old, err := Open([]string{a, b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b, record("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(b, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	db, err := Open([]string{b, a}, old)
	if err != nil {
		t.Fatal(err)
	}
	if db.files[1].reader != old.files[0].reader || db.files[0].reader == old.files[1].reader {
		t.Error("what changed was kept, or what did not was read again")
	}
	if got, _ := db.Lookup(netip.MustParseAddr("192.0.2.1")); got["code"] != "new" {
		t.Errorf("got %v", got)
	}
	if got, _ := old.Lookup(netip.MustParseAddr("192.0.2.1")); got["code"] != "a" {
		t.Errorf("got %v of the old ones", got)
	}
}

func TestBadFiles(t *testing.T) {
	for name, path := range map[string]string{
		"missing": filepath.Join(t.TempDir(), "none.mmdb"), "folder": t.TempDir(),
		"empty": write(t, "empty.mmdb", nil), "garbage": write(t, "garbage.mmdb", bytes.Repeat([]byte("x"), 1000)),
	} {
		if _, err := Open([]string{path}, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Whatever a file holds, reading it ends without harm.
func FuzzLookup(f *testing.F) {
	good := database(4, map[string]map[string]any{"192.0.2.0/24": {"a": "b", "c": []any{1.5, true, uint32(7)}}})
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "x.mmdb")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open([]string{path}, nil)
		if err != nil {
			return
		}
		_, _ = db.Lookup(netip.MustParseAddr("192.0.2.1"))
		_, _ = db.Lookup(netip.MustParseAddr("2001:db8::1"))
	})
}

func BenchmarkLookup(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.mmdb")
	if err := os.WriteFile(path, database(4, map[string]map[string]any{"192.0.2.0/24": {"country": map[string]any{"iso_code": "DE"}}}), 0o600); err != nil {
		b.Fatal(err)
	}
	db, err := Open([]string{path}, nil)
	if err != nil {
		b.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := db.Lookup(addr); err != nil {
			b.Fatal(err)
		}
	}
}
