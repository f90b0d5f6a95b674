package lua

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func testOptions(t testing.TB) (Options, *clock) {
	c := newClock()
	memory := store.Memory(c.now)
	t.Cleanup(func() { _ = memory.Close() })
	return Options{Library: Library{
		Store: memory, Hostname: "mx.example.net", Now: c.now, Log: slog.New(slog.DiscardHandler), Ours: func(d string) bool { return d == "example.net" },
		DNS: &dns.Zone{
			A:    map[string][]string{"mx.example.org": {"192.0.2.1"}, "2.0.0.127.bl.example": {"127.0.0.2"}, "bad.example.dbl.example": {"127.0.1.2"}},
			TXT:  map[string][]string{"2.0.0.127.bl.example": {"listed for a test"}, "t.example": {"one", "two"}, "example.org": {"v=spf1 mx -all exp=why.example.org"}, "why.example.org": {"%{i} is not ours"}, "_dmarc.example.org": {"v=DMARC1; p=reject"}, "s1._domainkey.example.org": {testKey}},
			MX:   map[string][]string{"example.org": {"10 mx.example.org"}},
			PTR:  map[string][]string{"192.0.2.1": {"mx.example.org"}, "192.0.2.2": {"liar.example.org"}},
			Fail: map[string]dns.Kind{"slow.example": dns.Timeout, "2.0.0.127.dead.example": dns.Failure},
		},
	}}, c
}

// load makes a policy of a script, which must be right.
func load(t testing.TB, o Options, source string, settings map[string]any) *Policy {
	t.Helper()
	s, problems := Compile("test.lua", []byte(source), o)
	if Failed(problems) {
		t.Fatalf("Compile: %v", problems)
	}
	p, problems := s.Instance(settings)
	if Failed(problems) {
		t.Fatalf("Instance: %v", problems)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

const testMessage = "From: A <a@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus dem Casino\r\nX-Two: 1\r\nX-Two: 2\r\n\r\nHello world, order 4711\r\n"

// testSignature is a signature of testMessage, by the private key of RFC 8032 section
// 7.1, test 1, whose public key is in testKey.
const (
	testSignature = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=s1; c=relaxed/relaxed; h=from:subject; bh=fm3FJd7bPg/LoIiXRez5RqNZl3/PZ1nlEVvJOvBWC4w=;\r\n b=NdPuvoszwENaIEtBh7V+NuMNCoFMo6VHxL4k8LH+MBfAX0Ob0KzA5q+fA3Wwv3Eucf55z0dRxGrubKvolp3pBg==\r\n"
	testSeal      = "ARC-Seal: i=1; a=ed25519-sha256; t=1795867200; cv=none; d=example.org; s=s1;\r\n\tb=\r\n\tt7vEGk5n87GJKXVUW5A0yh9C/0H59iCvYrcoMiyZtnvjrZnFX6KCU4yNE5Id/aCmgx4mm3r2WE7\r\n\tWGi+WDyU/Dw==\r\nARC-Message-Signature: i=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n\td=example.org; s=s1; t=1795867200; h=from:subject;\r\n\tbh=fm3FJd7bPg/LoIiXRez5RqNZl3/PZ1nlEVvJOvBWC4w=; b=\r\n\tKjHQMQvKk0i5dZ587RmIGPGS5YDoXKGmO8o6rWDKIW8xIgixiC2L8gNKyA62u1bdjWfG+j+h+Pe\r\n\thRUh7b5VpAw==\r\nARC-Authentication-Results: i=1; mx.example.org;\r\n\tspf=pass\r\n"
	testKey       = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
)

func testTransaction() *hooks.Transaction {
	s := &hooks.Session{
		ID: "session0001", Listener: "mx", Protocol: "smtp", Helo: "client.example.org", Extended: true,
		Client: netip.MustParseAddrPort("192.0.2.1:4321"), Local: netip.MustParseAddrPort("192.0.2.99:25"),
		TLS: &hooks.TLSFact{Version: "TLSv1.3", Cipher: "X"}, Env: map[string]string{"WORLD": "1"},
		Reverse: func(context.Context) string { return "mx.example.org" },
		Early:   func(_ context.Context, wait time.Duration) bool { return wait >= time.Second },
	}
	tx := hooks.NewTransaction(s, "message0001")
	tx.Sender = message.Address{Local: "a", Domain: "example.org"}
	tx.Params = []hooks.Param{{Key: "SIZE", Value: "123"}, {Key: "SMTPUTF8"}}
	tx.Size = int64(len(testMessage))
	r := &hooks.Recipient{Address: message.Address{Local: "b", Domain: "example.net"}, Ours: true, Notes: map[string]any{"x": "y"}}
	tx.Recipients = []*hooks.Recipient{r, {Address: message.Address{Local: "c", Domain: "example.net"}, Ours: true}}
	n, _ := message.HeaderLen([]byte(testMessage))
	tx.Header = message.ParseHeader([]byte(testMessage)[:n])
	tx.Body = message.Bytes(testMessage)
	tx.Original = message.Bytes(testSeal + testSignature + testMessage)
	return tx
}

// at1 makes the first recipient the one in question.
func at1(tx *hooks.Transaction) *hooks.Transaction {
	tx.Current = tx.Recipients[0]
	return tx
}

// body runs Lua statements in a handler and returns what was decided.
func body(t testing.TB, at hooks.Stage, statements string) (hooks.Decision, error) {
	t.Helper()
	o, _ := testOptions(t)
	parameters := "tx, rcpt, try"
	if at.Row().Scope == hooks.OfConnection && at != hooks.Deny {
		parameters = "conn"
	}
	p := load(t, o, fmt.Sprintf("local p = policy { about = 'x' }\nfunction p.%s(%s)\n%s\nend\nreturn p\n", at, parameters, statements), nil)
	tx := testTransaction()
	if at.Row().Scope == hooks.OfRecipient {
		at1(tx)
	}
	switch at {
	case hooks.DSN:
		tx.Notice = &hooks.Notice{Kind: "bounce", To: tx.Sender}
	case hooks.Helo:
		tx.Capabilities = []string{"PIPELINING", "SIZE 1000"}
	}
	return p.Handle(t.Context(), at, tx)
}

func TestDecisions(t *testing.T) {
	reject := func(code int, enhanced, text string) hooks.Decision {
		return hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(code, enhanced, text)}
	}
	postpone := func(code int, enhanced, text string) hooks.Decision {
		return hooks.Decision{Verb: hooks.Defer, Reply: message.NewReply(code, enhanced, text)}
	}
	for _, c := range []struct {
		source string
		want   hooks.Decision
	}{
		{`return`, hooks.Decision{}},
		{`return nil`, hooks.Decision{}},
		{`return pass()`, hooks.Decision{}},
		{`return accept()`, hooks.Decision{Verb: hooks.Accept}},
		{`return reject()`, reject(0, "", "")},
		{`return reject(571)`, reject(571, "", "")},
		{`return reject("5.7.1")`, reject(0, "5.7.1", "")},
		{`return reject("no 100% way")`, reject(0, "", "no 100% way")},
		{`return reject(554, "5.7.0", "no %s for %d", "way", 3)`, reject(554, "5.7.0", "no way for 3")},
		{`return reject("5.7.1", "Refused: %s", rcpt.address)`, reject(0, "5.7.1", "Refused: b@example.net")},
		{`return reject("5.7.1", "%s %s", tx.sender, tx.conn.ip)`, reject(0, "5.7.1", "a@example.org 192.0.2.1")},
		{`return reject("a\r\nb\0c")`, reject(0, "", "a  b c")},
		{`return reject{ text = "x", code = 553, enhanced = "5.1.8" }`, reject(553, "5.1.8", "x")},
		{`return reject{ text = "x", disconnect = true }`, hooks.Decision{Verb: hooks.Reject, Reply: message.Reply{Text: "x"}, Disconnect: true}},
		{`return defer("4.7.1", "Try in %D", 300)`, postpone(0, "4.7.1", "Try in 5m")},
		{`return defer("4.7.1", "%D %D %D %D", 5400, 2, 86400, 0)`, postpone(0, "4.7.1", "1h30m 2s 1d 0s")},
		{`return defer(452, "x")`, postpone(452, "", "x")},
		{`return discard("spam")`, hooks.Decision{Verb: hooks.Discard, Reason: "spam"}},
		{`return discard("spam %d", 5)`, hooks.Decision{Verb: hooks.Discard, Reason: "spam 5"}},
		{`return disconnect("bye")`, hooks.Decision{Verb: hooks.Drop, Reply: message.Reply{Text: "bye"}}},
	} {
		got, err := body(t, hooks.Rcpt, c.source)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
		} else if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %+v, want %+v", c.source, got, c.want)
		}
	}
	for _, c := range []struct {
		at     hooks.Stage
		source string
		want   hooks.Decision
	}{
		{hooks.Message, `return quarantine("virus")`, hooks.Decision{Verb: hooks.Quarantine, Reason: "virus"}},
		{hooks.Auth, `return accept{ user = "jane" }`, hooks.Decision{Verb: hooks.Accept, User: "jane"}},
		{hooks.Command, `return accept{ text = "Me", code = 252 }`, hooks.Decision{Verb: hooks.Accept, Reply: message.Reply{Code: 252, Text: "Me"}}},
		{hooks.Queue, `return hold("later")`, hooks.Decision{Verb: hooks.Hold, Reason: "later"}},
		{hooks.Deferred, `return defer{ after = "15m" }`, hooks.Decision{Verb: hooks.Defer, After: 15 * time.Minute}},
		{hooks.Deferred, `return defer{ after = 90, text = "x" }`, hooks.Decision{Verb: hooks.Defer, After: 90 * time.Second, Reply: message.Reply{Text: "x"}}},
	} {
		got, err := body(t, c.at, c.source)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.source, got, err, c.want)
		}
	}
}

// TestFailures: what a script does wrong is an error with file and line, never a verdict.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		at           hooks.Stage
		source, want string
	}{
		{hooks.Rcpt, `return "no"`, "test.lua:2: rcpt returned a string, which is no decision"},
		{hooks.Rcpt, `return true`, "which is no decision"},
		{hooks.Rcpt, `return tx`, "rcpt returned tx, which is no decision"},
		{hooks.Rcpt, `return quarantine("x")`, "test.lua:2: quarantine is no decision of stage rcpt"},
		{hooks.Rcpt, `return reject(450)`, "test.lua:3: reject with the code 450: it takes 500 to 599"},
		{hooks.Rcpt, `return reject("4.7.1", "x")`, "must begin with 5"},
		{hooks.Rcpt, `return defer{ txt = "x" }`, `no key "txt"; did you mean "text"?`},
		{hooks.Rcpt, `return accept{ user = "x" }`, "test.lua:3: accept{ user = … } belongs to stage auth"},
		{hooks.Auth, `return accept{ user = "" }`, "user must be a name of one line"},
		{hooks.Auth, `return accept{ usr = "x" }`, `accept{ } has no key "usr"; did you mean "user"?`},
		{hooks.Command, `return accept{ code = 354 }`, "code must be a number from 200 to 299"},
		{hooks.Command, `return accept("x")`, "accept() takes nothing, or a table"},
		{hooks.Rcpt, `return pass("x")`, "pass() takes nothing"},
		{hooks.Rcpt, "local x = nil\nreturn x.y", "test.lua:4:"},
		{hooks.Rcpt, `error("mine")`, "test.lua:3: mine"},
		{hooks.Rcpt, `error({})`, "error of type table"},
		{hooks.Rcpt, `return tx.sendr`, `test.lua:3: tx has no member "sendr"; did you mean "sender"?`},
		{hooks.Deny, `return tx.conn.params`, "conn has no member \"params\": deny is given the connection where no message is under way"},
		{hooks.Rcpt, `return tx.conn.hello`, `conn has no member "hello"; did you mean "helo"?`},
		{hooks.Rcpt, `tx.sender = "x"`, "test.lua:3: tx.sender: \"x\": the address needs a domain"},
		{hooks.Rcpt, `tx.sendr = "x"`, "test.lua:3: tx.sendr can't be set"},
		{hooks.Delivered, `tx:pardon()`, "test.lua:3: pardon is not possible at stage delivered"},
		{hooks.Headers, `tx:each_rcpt(function() end)`, "tx:each_rcpt is possible where recipients are judged one by one"},
		{hooks.Message, `return tx:each_rcpt(function(r) return hold("x") end)`, "test.lua:3: hold is no decision on a single recipient (b@example.net)"},
		{hooks.Message, `return tx:each_rcpt(function(r) return true end)`, "returned a boolean for b@example.net, which is no decision"},
		{hooks.Message, `return tx:each_rcpt(function(r) return tx:each_rcpt(function() return reject() end) end)`, "is no decision on a single recipient"},
		{hooks.Delivered, `rcpt.headers:prepend("a", "b")`, "rcpt.headers:prepend is not possible at stage delivered"},
		{hooks.Connect, `conn.capabilities:add("X")`, "conn.capabilities is there at stage helo"},
		{hooks.DSN, `rcpt.to = ""`, "test.lua:3: notice.to: \"\": "},
		{hooks.DSN, `rcpt.kind = "delay"`, "notice.kind can't be set; notice.to can"},
		{hooks.Connect, `conn.notes.x = print`, "is no plain value"},
		{hooks.Message, `tx.headers:prepend("X", "a\r\nB: c")`, "test.lua:3: headers:prepend \"X\": a field value must not hold CR, LF or NUL"},
		{hooks.Message, `tx.headers:prepend("X Y", "a")`, "a field name is"},
		{hooks.Rcpt, `rcpt:replace("nonsense")`, "test.lua:3:"},
		{hooks.Rcpt, `tx.recipients:remove("z@example.net")`, "z@example.net is no recipient"},
		{hooks.Delivered, `tx:tag("x")`, "tag is not possible at stage delivered"},
		{hooks.Rcpt, `tx.received = "x"`, "received is not possible at stage rcpt"},
		{hooks.Delivered, `try.tls = "x"`, "plan is not possible at stage delivered"},
		{hooks.Route, `try.sorce = "x"`, `"sorce" can't be set; did you mean "source"?`},
		{hooks.Rcpt, `string.format("%d")`, "more % than there are values"},
		{hooks.Rcpt, `return reject("%s", "a") .. nil`, "attempt to concatenate"},
	} {
		_, err := body(t, c.at, c.source)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s at %s: got %v, want %q", c.source, c.at, err, c.want)
		}
	}
}

// TestLookupsAreNotCounted: a wait of 10 s is no Lua time.
func TestLookupsAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := testOptions(t)
		p := load(t, o, `local p = policy {}
function p.connect(conn)
  local x = 0
  for i = 1, 5000 do x = x + i end
  if conn:early("10s") then return reject() end
  for i = 1, 5000 do x = x + i end
  return accept()
end
return p`, nil)
		tx := testTransaction()
		tx.Session.Early = func(ctx context.Context, wait time.Duration) bool {
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			<-ctx.Done()
			return false
		}
		if d, err := p.Handle(t.Context(), hooks.Connect, tx); err != nil || d.Verb != hooks.Accept {
			t.Fatalf("got %v, %v", d, err)
		}
	})
}

func TestContextEnds(t *testing.T) {
	o, _ := testOptions(t)
	o.LuaTime = time.Hour
	p := load(t, o, "local p = policy {}\nfunction p.connect() while true do end end\nreturn p", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Handle(ctx, hooks.Connect, testTransaction()); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Fatalf("got %v", err)
	}
}

var message4xx = message.NewReply(450, "4.2.0", "later")
