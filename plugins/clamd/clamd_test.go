package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk/sdktest"
)

// behaviour is what a fake clamd does.
type behaviour struct {
	say   string
	hang  bool // keeps the connection open
	deaf  bool // closes without reading
	limit int  // bytes after which it answers and closes; 0: none
}

// fake starts a clamd on a unix socket, which ends with the test. What it read of
// messages comes by got.
func fake(t *testing.T, b behaviour) (address string, got chan string) {
	t.Helper()
	address, got = filepath.Join(t.TempDir(), "clamd"), make(chan string, 16)
	ln, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				if b.deaf {
					return
				}
				text, ok := read(conn, b.limit)
				if !ok {
					return
				}
				select {
				case got <- text:
				default:
				}
				if _, err := io.WriteString(conn, b.say); err == nil && b.hang {
					<-over
				}
			})
		}
	})
	t.Cleanup(func() {
		close(over)
		ln.Close()
		all.Wait()
	})
	return address, got
}

// read reads a command, and the message behind INSTREAM.
func read(conn io.Reader, limit int) (string, bool) {
	r := bufio.NewReader(conn)
	command, err := r.ReadString(0)
	if err != nil {
		return "", false
	}
	var text strings.Builder
	for command == "zINSTREAM\x00" {
		var n uint32
		if err := binary.Read(r, binary.BigEndian, &n); err != nil {
			return "", false
		}
		if n == 0 {
			return text.String(), true
		}
		if _, err := io.CopyN(&text, r, int64(n)); err != nil {
			return "", false
		}
		if limit > 0 && text.Len() > limit {
			return text.String(), true
		}
	}
	return command, true
}

const mail = "X-Virus-Status: Clean, says the forger\nSubject: x\n\nhello\n"

func TestVerdicts(t *testing.T) {
	const found = "stream: Win.Test.EICAR_HDB-1 FOUND\x00"
	for _, c := range []struct {
		say      string
		settings map[string]any
		verb     hooks.Verb
		text     string
		status   string
	}{
		{"stream: OK\x00", nil, hooks.Pass, "", "Clean"},
		{"stream: OK\x00", map[string]any{"header": false}, hooks.Pass, "", ""},
		{found, nil, hooks.Reject, "Refused: the message holds Win.Test.EICAR_HDB-1", ""},
		{found, map[string]any{"on_found": "quarantine"}, hooks.Quarantine, "", ""},
		{found, map[string]any{"on_found": "discard"}, hooks.Discard, "", ""},
		{found, map[string]any{"on_found": "pass"}, hooks.Pass, "", "Infected (Win.Test.EICAR_HDB-1)"},
		{found, map[string]any{"exclude": []any{"win.*"}}, hooks.Pass, "", "Infected (Win.Test.EICAR_HDB-1)"},
		{found, map[string]any{"exclude": []any{"/eicar/"}}, hooks.Pass, "", "Infected (Win.Test.EICAR_HDB-1)"},
		{found, map[string]any{"exclude": []any{"*", "!*EICAR*"}}, hooks.Reject, "holds", ""},
		{found, map[string]any{"exclude": []any{"Win"}}, hooks.Reject, "holds", ""},
		{"stream: a\r\nb\xff FOUND\x00", nil, hooks.Reject, "holds a??b?", ""},
		{"INSTREAM size limit exceeded. ERROR\x00", nil, hooks.Pass, "", ""},
		{"INSTREAM size limit exceeded. ERROR\x00", map[string]any{"on_large": "reject"}, hooks.Reject, "too long", ""},
		{"INSTREAM size limit exceeded. ERROR\x00", map[string]any{"on_large": "defer"}, hooks.Defer, "too long", ""},
		{"INSTREAM size limit exceeded. ERROR\x00", map[string]any{"on_large": "quarantine"}, hooks.Quarantine, "", ""},
	} {
		address, got := fake(t, behaviour{say: c.say})
		settings := map[string]any{"address": "127.0.0.1:1," + address, "points": 3.0}
		for k, v := range c.settings {
			settings[k] = v
		}
		p, tx := sdktest.New(t, policy(), settings), sdktest.Mail(mail)
		p.Ask(hooks.Headers, tx).Passes()
		a := p.Ask(hooks.Message, tx)
		if a.Verb != c.verb || !strings.Contains(a.Reply.Text, c.text) {
			t.Errorf("%q with %v: %s", c.say, c.settings, a)
		}
		if status, _ := a.Tx.Header.Get("X-Virus-Status"); status != c.status {
			t.Errorf("%q with %v: X-Virus-Status %q", c.say, c.settings, status)
		}
		if text := <-got; text != strings.ReplaceAll(mail, "\n", "\r\n") {
			t.Errorf("it was shown %q", text)
		}
		if strings.HasPrefix(c.status, "Infected") != (a.Tx.Total() == 3) {
			t.Errorf("%q with %v: %v points", c.say, c.settings, a.Tx.Total())
		}
	}
}

// Over max_size nobody is asked; a clamd that has enough may say so early.
func TestLarge(t *testing.T) {
	p := sdktest.New(t, policy(), map[string]any{"address": "127.0.0.1:1", "max_size": "20"})
	if a := p.Ask(hooks.Message, sdktest.Mail(mail)); a.Verb != hooks.Pass || a.Tx.Results["clamd"]["skipped"] != "size" {
		t.Errorf("%s, %v", a, a.Tx.Results)
	}
	address, _ := fake(t, behaviour{say: "INSTREAM size limit exceeded. ERROR\x00", limit: 100})
	p = sdktest.New(t, policy(), map[string]any{"address": address})
	if a := p.Ask(hooks.Message, sdktest.Mail(mail+strings.Repeat("0123456789abcdef\n", 1<<17))); a.Verb != hooks.Pass || a.Tx.Results["clamd"]["skipped"] != "size" {
		t.Errorf("%s, %v", a, a.Tx.Results)
	}
}

// Whatever clamd does, no message is clean because of it.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		behaviour
		says string
	}{
		"nothing":        {behaviour{}, "cut off"},
		"half a line":    {behaviour{say: "stream: OK"}, "cut off"},
		"an error":       {behaviour{say: "stream: Can't allocate memory ERROR\x00"}, "allocate memory"},
		"something else": {behaviour{say: "220 mx.example ESMTP\r\n\x00"}, "220 mx"},
		"no name":        {behaviour{say: "stream:  FOUND\x00"}, "FOUND"},
		"an endless one": {behaviour{say: strings.Repeat("x", 1<<16)}, "too long"},
		"closes early":   {behaviour{deaf: true}, "clamd at"},
		"hangs":          {behaviour{hang: true}, "no verdict within 50ms"},
		"hangs half way": {behaviour{say: "stream", hang: true}, "no verdict within 50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := fake(t, c.behaviour)
			settings := map[string]any{"address": address}
			if c.hang {
				settings["scan_timeout"] = "50ms"
			}
			sdktest.New(t, policy(), settings).Fails(hooks.Message, sdktest.Mail(mail), c.says)
		})
	}
	t.Run("down", func(t *testing.T) {
		sdktest.New(t, policy(), map[string]any{"address": t.TempDir() + "/none"}).Fails(hooks.Message, sdktest.Mail(mail), "no such file")
	})
	t.Run("the second helps", func(t *testing.T) {
		bad, _ := fake(t, behaviour{say: "stream: Can't allocate memory ERROR\x00"})
		good, got := fake(t, behaviour{say: "stream: OK\x00"})
		sdktest.New(t, policy(), map[string]any{"address": bad + ", " + good}).Ask(hooks.Message, sdktest.Mail(mail)).Passes().Field("X-Virus-Status", "Clean")
		if text := <-got; !strings.HasSuffix(text, "hello\r\n") || !strings.HasPrefix(text, "X-Virus") {
			t.Errorf("it was shown %q", text)
		}
	})
}

func TestHealthy(t *testing.T) {
	address, _ := fake(t, behaviour{say: "PONG\x00"})
	c := &clamd{Address: address, MaxSize: 1}
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	c.Address += ",127.0.0.1:1"
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Healthy(t.Context()); err == nil {
		t.Error("one of two is down, and it is healthy")
	}
}

func TestWrongSettings(t *testing.T) {
	for key, value := range map[string]any{
		"address": "https://x:1", "max_size": "0", "on_found": "burn", "exclude[0]": []any{"/(/"}, "exclude[1]": []any{"x", "!"},
	} {
		name, _, _ := strings.Cut(key, "[")
		if _, err := policy().Local(map[string]any{name: value}); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s = %v: %v", key, value, err)
		}
	}
}

func TestDocuments(t *testing.T) { sdktest.Page(t, policy(), "../../docs/policies/clamd.md") }

func FuzzReadVerdict(f *testing.F) {
	f.Add([]byte("stream: OK\x00"))
	f.Add([]byte("stream: Eicar-Test-Signature FOUND\x00"))
	f.Add([]byte("INSTREAM size limit exceeded. ERROR\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := readReply(strings.NewReader(string(text)))
		if err != nil {
			return
		}
		v, err := readVerdict(line)
		if err != nil && v != (verdict{}) || len(v.found) > maxName || strings.ContainsAny(v.found, "\r\n\x00") {
			t.Errorf("%+v, %v", v, err)
		}
		if err == nil && v == (verdict{}) && line != "stream: OK" {
			t.Errorf("%q is clean", line)
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("PUA.*", "pua.win")
	f.Add("/^x/", "y")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		n, problems := readNames([]string{pattern})
		if len(problems) == 0 && len(n.in)+len(n.out) != 1 {
			t.Errorf("%q", pattern)
		}
		n.exclude(name)
	})
}
