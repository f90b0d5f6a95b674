package local

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

func newMaildir(t testing.TB) (*Maildir, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "var", "mail")
	d, err := New(Options{Dir: dir, Hostname: "mx.example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, dir
}

func jobFor(body message.Body, to ...message.Address) *send.Job {
	m := &queue.Message{ID: "0000000000000AB", Sender: message.Address{Local: "s", Domain: "client.example"}}
	j := &send.Job{Message: m, Body: body, NextHop: send.NextHop{Scheme: "local"}}
	for i, a := range to {
		m.Recipients = append(m.Recipients, queue.Recipient{Address: a})
		j.Recipients = append(j.Recipients, i)
	}
	return j
}

// files are the regular files below dir, by their slash paths.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDelivery(t *testing.T) {
	d, dir := newMaildir(t)
	long := strings.Repeat("x", block-3) // line ends on and across the borders of pieces
	for _, test := range []struct{ in, want string }{
		{"A: b\r\n\r\n.\r\n..x\r\n8 bit \xff\x00\r\n", "A: b\n\n.\n..x\n8 bit \xff\x00\n"},
		{"", ""},
		{"no end", "no end"},
		{"a\rb\r\r\n\nc\r", "a\rb\r\n\nc\r"},
		{long + "\r\n\r\n" + long + "\r\r\n" + long + "\r\n", long + "\n\n" + long + "\r\n" + long + "\n"},
	} {
		j := jobFor(message.Bytes(test.in), message.Address{Local: "box", Domain: "local.example"}, message.Address{Local: "Postmaster", Domain: "local.example"})
		for _, o := range d.Deliver(t.Context(), j) {
			if o.Result != send.Delivered || o.Reply.Code != 250 {
				t.Fatalf("%+v", o)
			}
		}
		for _, box := range []string{"box", "postmaster"} {
			list := files(t, filepath.Join(dir, "local.example", box))
			if len(list) != 1 || !strings.HasPrefix(list[0], "new/") || !strings.HasSuffix(list[0], ".mx.example") {
				t.Fatalf("files %q", list)
			}
			name := filepath.Join(dir, "local.example", box, list[0])
			got, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want := "Return-Path: <s@client.example>\nDelivered-To: " + strings.Replace(box, "p", "P", 1) + "@local.example\n" + test.want
			if string(got) != want {
				t.Errorf("got %.200q want %.200q", got, want)
			}
			os.Remove(name)
		}
	}
}

func TestNamesStayInside(t *testing.T) {
	d, dir := newMaildir(t)
	seen := map[string]string{}
	for _, l := range []string{
		"../../../escape", "..", ".", "a/b", "../anybody/new/x", "\\\x00x", "", "%2F", "a%2fb", ".hidden", "new", "tmp", "a b", "\n", "-x",
		strings.Repeat("x", 256), strings.Repeat("/", 256), strings.Repeat("/", 255) + "x", "grüße", "a@b",
	} {
		for _, o := range d.Deliver(t.Context(), jobFor(message.Bytes("x\r\n"), message.Address{Local: l, Domain: "localhost"})) {
			if o.Result != send.Delivered {
				t.Errorf("%q: %+v", l, o)
			}
		}
		name := mailbox(message.Address{Local: l, Domain: "localhost"})
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q share %q", l, other, name)
		}
		seen[name] = l
	}
	for _, domain := range []string{"..", "[IPv6:2001:db8::1]", "a/../../b", ""} {
		if o := d.Deliver(t.Context(), jobFor(message.Bytes("x\r\n"), message.Address{Local: "x", Domain: domain})); o[0].Result != send.Delivered {
			t.Errorf("%q: %+v", domain, o)
		}
	}
	for _, name := range files(t, dir) {
		if parts := strings.Split(name, "/"); len(parts) != 4 || parts[2] != "new" {
			t.Errorf("stray file %q", name)
		}
	}
	if list := files(t, filepath.Dir(filepath.Dir(dir))); slices.ContainsFunc(list, func(s string) bool { return !strings.HasPrefix(s, "var/mail/") }) {
		t.Errorf("files outside: %q", list)
	}
}

func FuzzElement(f *testing.F) {
	for _, s := range []string{"", ".", "..", "a/b", "\x00", "%2E", strings.Repeat("é", 120)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := element(s)
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\\\x00\n") || !filepath.IsLocal(name) {
			t.Fatalf("%q becomes %q", s, name)
		}
	})
}

// faulty fails the n-th call, and notes what was done.
type faulty struct {
	disk
	mu   sync.Mutex
	log  []string
	fail string // the operation that fails
	err  error
}

func (f *faulty) note(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	parts := strings.Split(name, "/")
	if len(parts) == 4 {
		parts[3] = "MSG"
	}
	op += " " + strings.Join(parts, "/")
	f.log = append(f.log, op)
	if op == f.fail {
		return f.err
	}
	return nil
}

func (f *faulty) Create(name string) (file, error) {
	if err := f.note("create", name); err != nil {
		return nil, err
	}
	inner, err := f.disk.Create(name)
	return &faultyFile{inner, f, name}, err
}

func (f *faulty) Rename(from, to string) error {
	return errors.Join(f.note("rename", to), f.disk.Rename(from, to))
}

func (f *faulty) Remove(name string) error {
	return errors.Join(f.note("remove", name), f.disk.Remove(name))
}

func (f *faulty) Mkdir(name string) error {
	return errors.Join(f.note("mkdir", name), f.disk.Mkdir(name))
}

func (f *faulty) SyncDir(name string) error {
	return errors.Join(f.note("syncdir", name), f.disk.SyncDir(name))
}

type faultyFile struct {
	file
	f    *faulty
	name string
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.f.note("write", f.name); err != nil {
		return 0, err
	}
	return f.file.Write(p)
}
func (f *faultyFile) Sync() error  { return errors.Join(f.f.note("sync", f.name), f.file.Sync()) }
func (f *faultyFile) Close() error { return errors.Join(f.f.note("close", f.name), f.file.Close()) }

func TestOrderOnTheDisk(t *testing.T) {
	d, _ := newMaildir(t)
	f := &faulty{disk: d.disk}
	d.disk = f
	to := message.Address{Local: "u", Domain: "d"}
	d.Deliver(t.Context(), jobFor(message.Bytes("x\r\n"), to))
	d.Deliver(t.Context(), jobFor(message.Bytes("x\r\n"), to))
	one := []string{"create d/u/tmp/MSG", "write d/u/tmp/MSG", "sync d/u/tmp/MSG", "close d/u/tmp/MSG", "rename d/u/new/MSG", "syncdir d/u/new"}
	want := slices.Concat([]string{"mkdir d", "mkdir d/u", "mkdir d/u/tmp", "mkdir d/u/new", "mkdir d/u/cur", "syncdir d/u", "syncdir d", "syncdir ."}, one, one)
	if !slices.Equal(f.log, want) {
		t.Errorf("done:\n%s\nwant:\n%s", strings.Join(f.log, "\n"), strings.Join(want, "\n"))
	}
}

// Whatever fails, the outcome is a deferral and nothing of the message stays.
func TestFaults(t *testing.T) {
	for _, op := range []string{"mkdir d/u/new", "syncdir d", "create d/u/tmp/MSG", "write d/u/tmp/MSG", "sync d/u/tmp/MSG", "close d/u/tmp/MSG", "rename d/u/new/MSG", "syncdir d/u/new"} {
		d, dir := newMaildir(t)
		f := &faulty{disk: d.disk, fail: op, err: syscall.ENOSPC}
		d.disk = f
		j := jobFor(message.Bytes("x\r\n"), message.Address{Local: "u", Domain: "d"})
		o := d.Deliver(t.Context(), j)[0]
		if o.Result != send.Deferred || o.Reply.Status() != "4.3.1" {
			t.Errorf("%s: %+v", op, o)
		}
		if list := files(t, dir); op != "rename d/u/new/MSG" && len(list) != 0 {
			t.Errorf("%s: left behind: %q", op, list)
		}
		f.fail = ""
		if o := d.Deliver(t.Context(), j)[0]; o.Result != send.Delivered {
			t.Errorf("after %s: %+v", op, o)
		}
	}
}

func TestMailboxRemovedMeanwhile(t *testing.T) {
	d, dir := newMaildir(t)
	j := jobFor(message.Bytes("x\r\n"), message.Address{Local: "u", Domain: "d"})
	d.Deliver(t.Context(), j)
	if err := os.RemoveAll(filepath.Join(dir, "d", "u")); err != nil {
		t.Fatal(err)
	}
	if o := d.Deliver(t.Context(), j)[0]; o.Result != send.Delivered || len(files(t, dir)) != 1 {
		t.Errorf("%+v", o)
	}
}

func TestStopping(t *testing.T) {
	d, dir := newMaildir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := d.Deliver(ctx, jobFor(message.Bytes("x\r\n"), message.Address{Local: "u", Domain: "d"}))[0]
	if o.Result != send.Deferred || len(files(t, dir)) != 0 {
		t.Errorf("%+v", o)
	}
}

func TestManyAtOnce(t *testing.T) {
	d, dir := newMaildir(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			d.Deliver(t.Context(), jobFor(message.Bytes("x\r\n"), message.Address{Local: "u", Domain: "d"}))
		})
	}
	all.Wait()
	if n := len(files(t, dir)); n != 50 {
		t.Errorf("%d files", n)
	}
}

func TestDiscard(t *testing.T) {
	o := Discard{}.Deliver(t.Context(), jobFor(nil, message.Address{Local: "u", Domain: "d"}))
	if o[0].Result != send.Delivered || o[0].Reply.String() != "250 2.0.0 Discarded" {
		t.Errorf("%+v", o)
	}
}

func BenchmarkCopyLF(b *testing.B) {
	body := message.Bytes(bytes.Repeat([]byte("some text in a line of a usual length, say so\r\n"), 10_000))
	b.SetBytes(body.Size())
	for b.Loop() {
		if err := copyLF(b.Context(), new(bytes.Buffer), nil, body); err != nil {
			b.Fatal(err)
		}
	}
}
