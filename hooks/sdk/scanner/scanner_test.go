package scanner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Server
	}{
		{"127.0.0.1:783", Server{Network: "tcp", Address: "127.0.0.1:783"}},
		{" [::1]:783 ", Server{Network: "tcp", Address: "[::1]:783"}},
		{"spamd.example:783", Server{Network: "tcp", Address: "spamd.example:783"}},
		{"inet:spamd.example:783", Server{Network: "tcp", Address: "spamd.example:783"}},
		{"http://rspamd.example:11333/", Server{Network: "tcp", Address: "rspamd.example:11333"}},
		{"https://rspamd.example:443", Server{Network: "tcp", Address: "rspamd.example:443", TLS: true}},
		{"/run/spamd.sock", Server{Network: "unix", Address: "/run/spamd.sock"}},
		{"unix:/run/spamd.sock", Server{Network: "unix", Address: "/run/spamd.sock"}},
		{"unix:///run/spamd.sock", Server{Network: "unix", Address: "/run/spamd.sock"}},
		{"unix:run/spamd.sock", Server{}},
		{"localhost", Server{}},
		{":783", Server{}},
		{"", Server{}},
		{"x:0", Server{}},
		{"x:smtp", Server{}},
		{"x:99999", Server{}},
		{"http://x:1/path", Server{}},
		{"ftp://x:1", Server{}},
	} {
		got, err := Parse(c.in)
		if c.want == (Server{}) {
			if err == nil {
				t.Errorf("%q is %+v", c.in, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v", c.in, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q read again: %+v, %v", got, again, err)
		}
	}
	if list, err := ParseList("a:1, unix:/b"); err != nil || len(list) != 2 || list[1].Network != "unix" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := ParseList("a:1,"); err == nil {
		t.Error("an empty address is one")
	}
}

// Where a server fails, the next one sees the message from its start.
func TestAsk(t *testing.T) {
	g := &Group{Name: "x", Servers: []Server{{"tcp", "a:1", false}, {"tcp", "b:1", false}, {"tcp", "c:1", false}}}
	text := strings.Repeat("0123456789", 1000)
	var asked []string
	ask := func(good string, read int64) error {
		asked = nil
		return g.Ask(t.Context(), NewMessage(iotest.OneByteReader(strings.NewReader(text))), func(_ context.Context, s Server, r io.Reader) error {
			asked = append(asked, s.Address)
			if s.Address != good {
				_, _ = io.CopyN(io.Discard, r, read)
				return errors.New("is away")
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != text {
				t.Errorf("it read %d bytes, %v", len(got), err)
			}
			return nil
		})
	}
	if err := ask("b:1", 500); err != nil || !slices.Equal(asked, []string{"a:1", "b:1"}) {
		t.Errorf("%v, %v", asked, err)
	}
	if err := ask("c:1", 0); err != nil || !slices.Equal(asked, []string{"b:1", "c:1"}) {
		t.Errorf("a rests, and yet %v, %v", asked, err)
	}
	if err := ask("", 20000); !slices.Equal(asked, []string{"c:1", "a:1", "b:1"}) || err == nil || !strings.Contains(err.Error(), "x at a:1: is away") {
		t.Errorf("%v, %v", asked, err)
	}
}

// Of a long message of which much was read, no second server can see all.
func TestAskLong(t *testing.T) {
	g := &Group{Servers: []Server{{"tcp", "a:1", false}, {"tcp", "b:1", false}}}
	text := bytes.Repeat([]byte("x"), kept+1)
	n := 0
	err := g.Ask(t.Context(), NewMessage(bytes.NewReader(text)), func(_ context.Context, _ Server, r io.Reader) error {
		n++
		got, err := io.ReadAll(r)
		if len(got) != len(text) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		return errors.New("is away")
	})
	if n != 1 || err == nil {
		t.Errorf("%d were asked, %v", n, err)
	}
	gone := errors.New("the disk is gone")
	n = 0
	err = g.Ask(t.Context(), NewMessage(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(gone))), func(_ context.Context, _ Server, r io.Reader) error {
		n++
		_, err := io.ReadAll(r)
		return err
	})
	if n != 1 || !errors.Is(err, gone) {
		t.Errorf("a message that can't be read: %d were asked, %v", n, err)
	}
}

// A server that hangs leaves time for the next one, and rests for a while.
func TestAskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{Name: "x", Servers: []Server{{"tcp", "a:1", false}, {"tcp", "b:1", false}}, Scan: time.Second}
		var asked []string
		ask := func(ctx context.Context) error {
			asked = nil
			return g.Ask(ctx, NewMessage(strings.NewReader("m")), func(ctx context.Context, s Server, _ io.Reader) error {
				asked = append(asked, s.Address)
				if s.Address == "a:1" {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
		}
		from := time.Now()
		if err := ask(t.Context()); err != nil || time.Since(from) != time.Second || len(asked) != 2 {
			t.Errorf("%v, %v", asked, err)
		}
		if err := ask(t.Context()); err != nil || !slices.Equal(asked, []string{"b:1"}) {
			t.Errorf("%v, %v", asked, err)
		}
		time.Sleep(rest)
		g.Servers = g.Servers[:1]
		if err := ask(t.Context()); err == nil || err.Error() != "x at a:1: no verdict within 1s" {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// The context's end ends what waits for a connection.
func TestDial(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g := &Group{Connect: time.Minute, Servers: []Server{{Network: "unix", Address: path}}}
	ctx, cancel := context.WithCancel(t.Context())
	c, err := g.Dial(ctx, g.Servers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it read something")
	}
	if err := g.Each(t.Context(), func(ctx context.Context, s Server) error {
		_, err := g.Dial(ctx, Server{Network: "unix", Address: s.Address + "x"})
		return err
	}); err == nil {
		t.Error("nobody is there, and all is well")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("unix:/a,127.0.0.1:1")
	f.Add("https://[::1]:1/")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseList(text)
		if err != nil {
			return
		}
		for _, s := range list {
			if again, err := Parse(s.String()); err != nil || again != s {
				t.Errorf("%+v read again: %+v, %v", s, again, err)
			}
		}
	})
}
