package queue

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/postern-mta/postern/core/message"
)

func dropOf(n int) Drop {
	d := Drop{
		Sender: message.Address{Local: "a", Domain: "b.example"}, EightBit: n%2 == 1,
		Recipients: []message.Address{{Local: "c d", Domain: "e.example"}, {Local: "postmaster"}},
		Arrived:    time.Date(2026, 11, 3, 10, 0, n, 0, time.UTC),
	}
	if n == 2 {
		d.Double, d.Via, d.Trace, d.Client = true, "qmail-queue", "(qmail 7 invoked by uid 8)", netip.MustParseAddrPort("192.0.2.7:25")
	}
	return d
}

func mustDrop(t *testing.T, dir string, n int, body string) string {
	t.Helper()
	id, err := WriteDrop(dir, dropOf(n), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDropsAreTakenOnceAndInOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "drop")
	log := slog.New(slog.DiscardHandler)
	if err := TakeDrops(dir, log, nil); err != nil {
		t.Errorf("no directory: %v", err)
	}
	bodies := []string{"", "one\r\n", strings.Repeat("x", 300<<10)}
	var ids []string
	for n, b := range bodies {
		ids = append(ids, mustDrop(t, dir, n, b))
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", fi, err)
	}
	n := 0
	later := message.NewReply(451, "4.3.0", "later")
	err := TakeDrops(dir, log, func(m Drop, body io.Reader) error {
		b, err := io.ReadAll(body)
		want := dropOf(n)
		want.ID = ids[n]
		if err != nil || string(b) != bodies[n] || !reflect.DeepEqual(m, want) {
			t.Errorf("drop %d: %+v, %d bytes, %v", n, m, len(b), err)
		}
		if n++; n == 2 {
			return later
		}
		return nil
	})
	if got, ok := errors.AsType[message.Reply](err); !ok || got != later || n != 3 {
		t.Errorf("%d taken, %v", n, err)
	}
	var left []string
	if err := TakeDrops(dir, log, func(m Drop, _ io.Reader) error { left = append(left, m.ID); return nil }); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(left, ids[1:2]) {
		t.Errorf("the second time: %v", left)
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestDamagedDropsAreSetAside(t *testing.T) {
	dir := t.TempDir()
	for n := range 4 {
		id := mustDrop(t, dir, n, "body\r\n")
		path := filepath.Join(dir, id+dropSuffix)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch n {
		case 0:
			b[len(b)-1] ^= 1
		case 1:
			b = b[:len(b)-2]
		case 2:
			b[40] ^= 4
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "half-written.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n := 0
	err := TakeDrops(dir, slog.New(slog.NewTextHandler(&log, nil)), func(Drop, io.Reader) error { n++; return nil })
	if err != nil || n != 1 || strings.Count(log.String(), "set aside") != 3 {
		t.Errorf("%d taken, %v\n%s", n, err, log.String())
	}
	if names, _ := os.ReadDir(filepath.Join(dir, dropDamaged)); len(names) != 3 {
		t.Errorf("set aside: %v", names)
	}
}

func TestDropThatCannotBeWrittenLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	bad := errors.New("no more")
	for _, body := range []io.Reader{iotest.ErrReader(bad), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(bad))} {
		if _, err := WriteDrop(dir, dropOf(1), body); !errors.Is(err, bad) {
			t.Errorf("%v", err)
		}
	}
	if _, err := WriteDrop(dir, Drop{}, strings.NewReader("x")); err == nil {
		t.Error("nobody is to get it")
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteDrop(file, dropOf(1), strings.NewReader("x")); err == nil {
		t.Error("the directory is a file")
	}
	if _, err := WriteDrop(filepath.Join(file, "x"), dropOf(1), strings.NewReader("x")); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
}

func FuzzDrop(f *testing.F) {
	dir := f.TempDir()
	for n, b := range []string{"", "Subject: x\r\n\r\nbody\r\n"} {
		id, err := WriteDrop(dir, dropOf(n), strings.NewReader(b))
		if err != nil {
			f.Fatal(err)
		}
		file, err := os.ReadFile(filepath.Join(dir, id+dropSuffix))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Add([]byte(dropMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, body, err := parseDrop(bytes.NewReader(b), int64(len(b)))
		if err == nil && (len(m.Recipients) == 0 || body.Size() > int64(len(b))) {
			t.Fatalf("%+v, %d bytes", m, body.Size())
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
		if m, ok := parseEnvelope(b); ok {
			if again, ok := parseEnvelope(appendEnvelope(nil, m)); !ok || !reflect.DeepEqual(again, m) {
				t.Fatalf("%+v %+v", m, again)
			}
		}
	})
}
