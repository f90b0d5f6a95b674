package cdb

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func write(t testing.TB, records [][2]string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "test.cdb")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := NewWriter(f)
	for _, r := range records {
		w.Add(r[0], r[1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func open(t testing.TB, name string) *Reader {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sample(n int) (list [][2]string) {
	for i := range n {
		list = append(list, [2]string{fmt.Sprint("key", i%(n/2+1)), fmt.Sprint("value\x00", i)})
	}
	return append(list, [2]string{"", "empty key"}, [2]string{"empty value", ""})
}

func TestWhatIsWrittenIsFound(t *testing.T) {
	for _, n := range []int{0, 1, 700} {
		list := sample(n)
		c := open(t, write(t, list))
		first := map[string]string{}
		for _, r := range list {
			if _, ok := first[r[0]]; !ok {
				first[r[0]] = r[1]
			}
		}
		for k, want := range first {
			if v, ok, err := c.Find(k); v != want || !ok || err != nil {
				t.Fatalf("%d records: %q = %q %v %v, want %q", n, k, v, ok, err, want)
			}
		}
		if _, ok, err := c.Find("not there"); ok || err != nil {
			t.Error(ok, err)
		}
		i := 0
		err := c.All(func(k, v string) bool {
			if list[i] != [2]string{k, v} {
				t.Errorf("record %d is %q %q", i, k, v)
			}
			i++
			return true
		})
		if err != nil || i != len(list) {
			t.Errorf("%d records of %d, %v", i, len(list), err)
		}
	}
}

// Another make's program writes the same bytes.
func TestSameAsTinycdb(t *testing.T) {
	program, err := exec.LookPath("cdb")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("tinycdb is not here")
	}
	list := sample(300)
	var input strings.Builder
	for _, r := range list {
		fmt.Fprintf(&input, "+%d,%d:%s->%s\n", len(r[0]), len(r[1]), r[0], r[1])
	}
	name := filepath.Join(t.TempDir(), "theirs.cdb")
	cmd := exec.CommandContext(t.Context(), program, "-c", name)
	cmd.Stdin = strings.NewReader(input.String() + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	theirs := open(t, name)
	for _, r := range list {
		if _, ok, err := theirs.Find(r[0]); !ok || err != nil {
			t.Errorf("%q: %v %v", r[0], ok, err)
		}
	}
	ours, err := exec.CommandContext(t.Context(), program, "-d", write(t, list)).Output()
	if err != nil || string(ours) != input.String()+"\n" {
		t.Errorf("%v; it reads ours as %.200q", err, ours)
	}
}

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}
func (f *full) Seek(int64, int) (int64, error) { return 0, nil }

func TestFullDisk(t *testing.T) {
	for _, room := range []int{0, 4000} {
		w := NewWriter(&full{room})
		for _, r := range sample(500) {
			w.Add(r[0], r[1])
		}
		if err := w.Close(); err == nil || err.Error() != "no space left" {
			t.Errorf("%d bytes of room: %v", room, err)
		}
	}
}

// No bytes make a reader crash, or walk for ever.
func FuzzReader(f *testing.F) {
	b, err := os.ReadFile(write(f, sample(20)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, "key3")
	f.Add(make([]byte, headLength), "")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		c, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_, _, _ = c.Find(key)
		n := 0
		_ = c.All(func(string, string) bool { n++; return n < 10000 })
	})
}
