package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// file is what a test packs.
type file struct {
	name    string
	content []byte
}

func zipped(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Name = name
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func list(t *testing.T, b []byte, name string, l Limits) *Listing {
	t.Helper()
	got, err := List(t.Context(), bytes.NewReader(b), name, l)
	if err != nil || got == nil {
		t.Fatalf("%v, %v", got, err)
	}
	return got
}

func names(l *Listing) string {
	var out []string
	for _, e := range l.Entries {
		out = append(out, fmt.Sprintf("%d:%s", e.Depth, e.Name))
	}
	return strings.Join(out, " ")
}

func TestList(t *testing.T) {
	exe := file{"setup.exe", []byte("MZ program")}
	inner := zipped(t, file{"dir/", nil}, exe)
	for _, c := range []struct {
		what   string
		b      []byte
		name   string
		format string
		want   string
	}{
		{"zip", zipped(t, file{"a.txt", []byte("hello")}, exe), "x.zip", "zip", "1:a.txt 1:setup.exe"},
		{"zip in zip", zipped(t, file{"inner.dat", inner}, file{"b.txt", nil}), "x.zip", "zip", "1:inner.dat 2:setup.exe 1:b.txt"},
		{"tar", tarred(t, file{"inner.zip", inner}), "x.tar", "tar", "1:inner.zip 2:setup.exe"},
		{"tar.gz", gzipped(t, "", tarred(t, exe)), "x.tar.gz", "gzip", "1:x.tar 2:setup.exe"},
		{"tgz", gzipped(t, "", tarred(t, exe)), "x.tgz", "gzip", "1:x.tar 2:setup.exe"},
		{"gzip with a name", gzipped(t, "setup.exe", exe.content), "x.gz", "gzip", "1:setup.exe"},
		{"program before zip, in zip", zipped(t, file{"a.zip", inner}), "", "zip", "1:a.zip 2:setup.exe"},
		{"empty zip", zipped(t), "x.zip", "zip", ""},
	} {
		got := list(t, c.b, c.name, Limits{})
		if got.Format != c.format || names(got) != c.want || got.Fault != "" || got.Truncated != "" || got.Encrypted {
			t.Errorf("%s: %s in %+v", c.what, names(got), got)
		}
	}
	if got, err := List(t.Context(), strings.NewReader("just a text"), "a.zip", Limits{}); got != nil || err != nil {
		t.Errorf("a text: %+v, %v", got, err)
	}
	if got, err := List(t.Context(), strings.NewReader(""), "a.zip", Limits{}); got != nil || err != nil {
		t.Errorf("nothing: %+v, %v", got, err)
	}
}

func TestFormatsThatAreNotRead(t *testing.T) {
	got := list(t, []byte("\xfd7zXZ\x00rest"), "x.xz", Limits{})
	if got.Format != "xz" || !slices.Equal(got.Unread, []string{"xz"}) {
		t.Errorf("%+v", got)
	}
	got = list(t, zipped(t, file{"a", []byte("MSCF...")}, file{"b", []byte("MSCF...")}), "x.zip", Limits{})
	if got.Format != "zip" || !slices.Equal(got.Unread, []string{"cab"}) || got.Entries[0].Format != "cab" {
		t.Errorf("%+v", got)
	}
}

func TestBounds(t *testing.T) {
	deep := []byte("MZ")
	for i := range 8 {
		deep = zipped(t, file{fmt.Sprintf("level%d.zip", i), deep})
	}
	if got := list(t, deep, "x.zip", Limits{Depth: 3}); got.Truncated != ByDepth || len(got.Entries) != 3 {
		t.Errorf("depth: %s %+v", names(got), got)
	}
	var many []file
	for i := range 50 {
		many = append(many, file{fmt.Sprintf("%d", i), nil})
	}
	if got := list(t, zipped(t, many...), "x.zip", Limits{Entries: 10}); got.Truncated != ByEntries || len(got.Entries) != 10 {
		t.Errorf("entries: %+v", got)
	}
	bomb := gzipped(t, "", make([]byte, 32<<20))
	if got := list(t, zipped(t, file{"a.gz", bomb}, file{"b", nil}), "x.zip", Limits{}); got.Truncated != "" || len(got.Entries) != 3 {
		t.Errorf("a bomb that nobody unpacks whole: %+v", got)
	}
	if got := list(t, zipped(t, file{"a.zip", zipped(t, file{"zeros", tarred(t, file{"z", make([]byte, 8<<20)})})}), "x.zip", Limits{Ratio: 20}); got.Truncated != ByRatio {
		t.Errorf("ratio: %+v", got)
	}
	if got := list(t, gzipped(t, "", tarred(t, file{"a", bytes.Repeat([]byte("x7"), 400000)}, file{"b", nil})), "x.tgz", Limits{Size: 1 << 19}); got.Truncated != BySize {
		t.Errorf("size: %+v", got)
	}
}

func TestFaults(t *testing.T) {
	b := zipped(t, file{"a.txt", []byte("hello")})
	if got := list(t, b[:len(b)-30], "x.zip", Limits{}); got.Fault == "" {
		t.Errorf("cut: %+v", got)
	}
	lying := bytes.Replace(b, []byte("a.txt"), []byte("a.exe"), 1) // in the entry's own header
	if got := list(t, lying, "x.zip", Limits{}); !strings.Contains(got.Fault, "another name") || names(got) != "1:a.txt" {
		t.Errorf("two names: %+v", got)
	}
	secret := bytes.Clone(b)
	i := bytes.Index(secret, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint16(secret[i+8:], 1)
	if got := list(t, secret, "x.zip", Limits{}); !got.Encrypted || !got.Entries[0].Encrypted {
		t.Errorf("encrypted: %+v", got)
	}
	odd := bytes.Clone(b)
	binary.LittleEndian.PutUint16(odd[i+10:], 99)
	if got := list(t, odd, "x.zip", Limits{}); !strings.Contains(got.Fault, "(99)") || names(got) != "1:a.txt" {
		t.Errorf("method: %+v", got)
	}
	if got := list(t, append([]byte("\x1f\x8b"), "nonsense"...), "x.gz", Limits{}); got.Fault == "" {
		t.Errorf("gzip: %+v", got)
	}
	sfx := append([]byte("PK\x03\x04 a program of some size "), b...)
	if got := list(t, sfx, "x", Limits{}); got.Fault != "" || names(got) != "1:a.txt" {
		t.Errorf("behind something: %+v", got)
	}
}

func TestLargeZipIsSpooled(t *testing.T) {
	noise := make([]byte, 3<<20)
	x := uint32(1)
	for i := range noise {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	got := list(t, zipped(t, file{"noise", noise}, file{"last.exe", nil}), "x.zip", Limits{})
	if names(got) != "1:noise 1:last.exe" || got.Fault != "" {
		t.Errorf("%+v", got)
	}
}

func TestReadingFails(t *testing.T) {
	broken := errors.New("broken")
	if _, err := List(t.Context(), iotest.ErrReader(broken), "", Limits{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	b := zipped(t, file{"a", make([]byte, 4096)}, file{"b", nil})
	if _, err := List(t.Context(), io.MultiReader(bytes.NewReader(b[:100]), iotest.ErrReader(broken)), "", Limits{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := List(ctx, bytes.NewReader(b), "", Limits{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzList: whatever comes, the bounds hold and nothing panics.
func FuzzList(f *testing.F) {
	inner := zipped(f, file{"setup.exe", []byte("MZ")})
	for _, b := range [][]byte{
		inner, zipped(f, file{"a.zip", inner}), tarred(f, file{"a.zip", inner}), gzipped(f, "x", tarred(f, file{"b", inner})), []byte("BZh9"), nil,
	} {
		f.Add(b)
	}
	l := Limits{Depth: 3, Entries: 20, Size: 1 << 20, Ratio: 50}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := List(t.Context(), bytes.NewReader(b), "x.tgz", l)
		if err != nil {
			t.Fatal(err)
		}
		if (got == nil) != (Kind(b[:min(len(b), headSize)]) == "") {
			t.Fatalf("%+v", got)
		}
		if got == nil {
			return
		}
		if len(got.Entries) > l.Entries {
			t.Fatalf("%d entries", len(got.Entries))
		}
		for _, e := range got.Entries {
			if e.Depth < 1 || e.Depth > l.Depth {
				t.Fatalf("%+v", e)
			}
		}
	})
}
