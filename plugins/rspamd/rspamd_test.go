package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/sdktest"
)

// asked is a request that the fake rspamd got.
type asked struct {
	method, path string
	header       http.Header
	body         string
}

// fake is a rspamd that answers everything so.
func fake(t *testing.T, status int, reply string) (address string, got chan asked) {
	t.Helper()
	got = make(chan asked, 16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		got <- asked{r.Method, r.URL.Path, r.Header, string(body)}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, reply)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), got
}

// spam is a reply with an action.
func spam(action, more string) string {
	return fmt.Sprintf(`{"is_skipped":false,"score":7.5,"required_score":15.0,"action":%q,"symbols":{"A":{"name":"A","score":5.0},"B":{"name":"B","score":-0.5,"options":["x"]},"C":{"name":"C","score":3}},"messages":{}%s}`, action, more)
}

const mail = "From: a@client.example\nX-Spam: No\nReceived: x\nReceived: y\nSubject: an offer\n\nbuy\n"

func TestActions(t *testing.T) {
	for _, c := range []struct {
		action, more string
		settings     map[string]any
		verb         hooks.Verb
		says         string
	}{
		{"no action", "", nil, hooks.Pass, ""},
		{"greylist", "", nil, hooks.Pass, ""},
		{"greylist", "", map[string]any{"on_greylist": "defer"}, hooks.Defer, "4.7.1 Deferred"},
		{"add header", "", nil, hooks.Pass, ""},
		{"rewrite subject", "", nil, hooks.Pass, ""},
		{"soft reject", "", nil, hooks.Defer, "4.7.1 Deferred"},
		{"soft reject", `,"messages":{"smtp_message":"Try again later\r\n250 ok"}`, nil, hooks.Defer, "4.7.1 Try again later  250 ok"},
		{"soft reject", "", map[string]any{"on_soft_reject": "pass"}, hooks.Pass, ""},
		{"reject", "", nil, hooks.Reject, "5.7.1 Refused: rspamd takes"},
		{"reject", `,"messages":{"smtp_message":"Gtube pattern"}`, nil, hooks.Reject, "5.7.1 Gtube pattern"},
		{"reject", `,"milter":{"reject":"quarantine"}`, nil, hooks.Quarantine, ""},
		{"reject", `,"milter":{"reject":"discard"}`, nil, hooks.Discard, ""},
		{"reject", `,"milter":{"no_action":true}`, nil, hooks.Pass, ""},
		{"reject", "", map[string]any{"on_reject": "quarantine"}, hooks.Quarantine, ""},
		{"reject", "", map[string]any{"on_reject": "pass"}, hooks.Pass, ""},
		{"quarantine", "", nil, hooks.Quarantine, ""},
		{"quarantine", "", map[string]any{"on_quarantine": "reject"}, hooks.Reject, "5.7.1 Refused"},
		{"discard", "", nil, hooks.Discard, ""},
		{"discard", "", map[string]any{"on_discard": "quarantine"}, hooks.Quarantine, ""},
		{"an action of their own", "", nil, hooks.Pass, ""},
	} {
		t.Run(c.action, func(t *testing.T) {
			address, _ := fake(t, 200, spam(c.action, c.more))
			settings := map[string]any{"address": address}
			for k, v := range c.settings {
				settings[k] = v
			}
			a := sdktest.New(t, policy(), settings).Ask(hooks.Message, sdktest.Mail(mail))
			if a.Verb != c.verb || !strings.Contains(a.Reply.String(), c.says) {
				t.Errorf("%+v: %s", c, a)
			}
			if r := a.Tx.Results["rspamd"]; r["action"] != c.action || r["score"] != 7.5 || r["symbols"].(map[string]any)["A"] != 5.0 {
				t.Errorf("result %v", r)
			}
			if a.Tx.Total() != 7.5 || a.Tx.Scores[0].Why != "A(5), C(3), B(-0.5)" {
				t.Errorf("scores %v", a.Tx.Scores)
			}
		})
	}
}

// What rspamd is told, and what it marks.
func TestMessage(t *testing.T) {
	address, got := fake(t, 200, spam("add header", ""))
	p := sdktest.New(t, policy(), map[string]any{"address": "http://127.0.0.1:1, http://" + address, "password": "secret", "settings_id": "mine"})
	tx := sdktest.Mail(mail, "b@example.net")
	tx.Session.TLS = &hooks.TLSFact{Version: "TLSv1.3", Cipher: "X"}
	tx.Session.Helo = "evil\r\nUser: root"
	p.Ask(hooks.Headers, tx).Passes()
	p.Ask(hooks.Message, tx).Passes().Field("X-Spam", "Yes").Field("X-Rspamd-Score", "7.50 / 15.00").Field("X-Rspamd-Action", "add header").
		Field("X-Rspamd-Symbols", "A(5.00) B(-0.50) C(3.00)")
	if tx.Header.Count("X-Spam") != 1 {
		t.Error("a forged field is left")
	}
	q := <-got
	if q.method != "POST" || q.path != "/checkv2" || q.body != strings.ReplaceAll(mail, "\n", "\r\n") {
		t.Errorf("%s %s %q", q.method, q.path, q.body)
	}
	for name, want := range map[string]string{
		"Ip": "192.0.2.1", "Helo": "evil  User: root", "From": "<a@client.example>", "Rcpt": "<b@example.net>", "Deliver-To": "b@example.net",
		"Queue-Id": "MESSAGE0001", "Password": "secret", "Settings-Id": "mine", "Tls-Version": "TLSv1.3", "User": "", "Content-Length": fmt.Sprint(len(q.body)),
	} {
		if got := q.header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	p.Ask(hooks.Message, sdktest.Mail(mail, "b@example.net", "c@example.net"))
	if q := <-got; q.header.Get("Deliver-To") != "" || len(q.header.Values("Rcpt")) != 2 {
		t.Errorf("two recipients: %v", q.header)
	}
}

func TestEdits(t *testing.T) {
	address, _ := fake(t, 200, spam("rewrite subject", `,"subject":"[bad] an offer","dkim-signature":["a=1;\r\n\tb=2","second"],"milter":{
		"remove_headers":{"received":-1,"x-none":0,"X-Spam":0},
		"add_headers":{"X-One":"1","X-Top":{"value":"top","order":0},"X-Many":[{"value":"a"},"b"]},
		"change_from":"<new@example.org>","add_rcpt":["c@example.net"],"del_rcpt":["<B@example.net>"]}`))
	a := sdktest.New(t, policy(), map[string]any{"address": address, "add_headers": "never"}).Ask(hooks.Message, sdktest.Mail(mail, "b@example.net", "d@example.net"))
	a.Passes()
	var list []string
	for f := range a.Tx.Header.Fields() {
		list = append(list, f.Name+":"+strings.TrimSpace(f.Value()))
	}
	want := []string{
		"DKIM-Signature:a=1; b=2", "DKIM-Signature:second", "X-Top:top", "From:a@client.example", "Received:x", "Subject:[bad] an offer",
		"X-Many:a", "X-Many:b", "X-One:1",
	}
	if !slices.Equal(list, want) {
		t.Errorf("%q", list)
	}
	if a.Tx.Sender.String() != "new@example.org" || len(a.Tx.Recipients) != 2 || a.Tx.Recipients[1].Address.String() != "c@example.net" {
		t.Errorf("from %s to %v", a.Tx.Sender, a.Tx.Recipients)
	}
	a = sdktest.New(t, policy(), map[string]any{"address": address, "edits": false, "score": false, "subject": ""}).Ask(hooks.Message, sdktest.Mail(mail, "b@example.net"))
	if a.Tx.Sender.String() != "a@client.example" || a.Tx.Header.Count("X-One") != 0 || a.Tx.Total() != 0 {
		t.Errorf("without edits and score: %v", a.Edits)
	}
	address, _ = fake(t, 200, spam("rewrite subject", ""))
	sdktest.New(t, policy(), map[string]any{"address": address}).Ask(hooks.Message, sdktest.Mail(mail)).Field("Subject", "*** SPAM *** an offer")
}

func TestSkipped(t *testing.T) {
	refused, _ := fake(t, 200, `{"is_skipped":true,"score":15.0,"required_score":15.0,"action":"reject","symbols":{},"messages":{"smtp_message":"Gtube pattern"}}`)
	sdktest.New(t, policy(), map[string]any{"address": refused}).Ask(hooks.Message, sdktest.Mail(mail)).Rejects("5.7.1", "Gtube pattern")
	address, got := fake(t, 200, `{"is_skipped":true,"action":"no action","symbols":{},"messages":[]}`)
	p := sdktest.New(t, policy(), map[string]any{"address": address, "max_size": int64(len(mail) + 20)})
	if a := p.Ask(hooks.Message, sdktest.Mail(mail)); a.Verb != hooks.Pass || a.Tx.Results["rspamd"]["skipped"] != "rspamd" {
		t.Errorf("%v", a.Tx.Results)
	}
	<-got
	if a := p.Ask(hooks.Message, sdktest.Mail(mail+strings.Repeat("x", 100))); a.Verb != hooks.Pass || a.Tx.Results["rspamd"]["skipped"] != "size" || len(got) > 0 {
		t.Errorf("%v", a.Tx.Results)
	}
}

// Whatever rspamd does, it is a failure of the policy and no verdict.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		reply  string
		says   string
	}{
		"nothing":            {200, "", "makes no sense"},
		"half":               {200, `{"action":"reject","score":1`, "makes no sense"},
		"no score":           {200, `{"action":"reject"}`, "no verdict"},
		"skipped":            {200, `{"is_skipped":true,"action":"reject"}`, "no verdict"},
		"no action":          {200, `{"score":1}`, "no verdict"},
		"an endless score":   {200, `{"score":1e300,"action":"reject"}`, "out of range"},
		"an odd symbol":      {200, `{"score":1,"action":"x","symbols":{"a b":{"score":1}}}`, "names the symbol"},
		"a wrong password":   {403, `{"error":"Unauthorized"}`, `403 "Unauthorized"`},
		"an error":           {500, "x", "500"},
		"too much":           {200, strings.Repeat(" ", maxReply+1), "too long"},
		"a field that is no": {200, spam("reject", `,"milter":{"add_headers":{"a b":"x"}}`), "wants the field"},
		"a value that is no": {200, spam("reject", `,"milter":{"add_headers":{"X":7}}`), "its value is none"},
		"a long value":       {200, spam("reject", `,"milter":{"add_headers":{"X":"`+strings.Repeat("x", maxValue+1)+`"}}`), "added"},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := fake(t, c.status, c.reply)
			sdktest.New(t, policy(), map[string]any{"address": address}).Fails(hooks.Message, sdktest.Mail(mail), c.says)
		})
	}
	t.Run("down", func(t *testing.T) {
		sdktest.New(t, policy(), map[string]any{"address": "unix:" + t.TempDir() + "/none"}).Fails(hooks.Message, sdktest.Mail(mail), "no such file")
	})
	t.Run("hangs", func(t *testing.T) {
		over := make(chan bool)
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
		defer s.Close()
		defer close(over)
		sdktest.New(t, policy(), map[string]any{"address": s.Listener.Addr().String(), "scan_timeout": "50ms"}).Fails(hooks.Message, sdktest.Mail(mail), "no verdict within 50ms")
	})
	t.Run("closes early", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
		}))
		defer s.Close()
		sdktest.New(t, policy(), map[string]any{"address": s.Listener.Addr().String()}).Fails(hooks.Message, sdktest.Mail(mail), "rspamd at")
	})
}

func TestLearn(t *testing.T) {
	for _, c := range []struct {
		status      int
		reply, text string
		fails       string
	}{
		{200, `{"success":true}`, "", ""},
		{208, `{"error":"<x> has been already learned as spam, ignore it"}`, "known already", ""},
		{204, "", "rspamd does not learn it: ", ""},
		{403, `{"error":"Unauthorized"}`, "", "Unauthorized"},
	} {
		address, got := fake(t, c.status, c.reply)
		p := sdktest.New(t, policy(), map[string]any{"controller": address, "controller_password": "q1"})
		for _, is := range []bool{true, false} {
			text, err := p.Learn(&sdk.Lesson{
				Spam: is, ID: "M1", Recipients: []message.Address{{Local: "b", Domain: "example.net"}},
				Size: int64(len(mail)), Message: strings.NewReader(mail),
			})
			if text != c.text || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%+v: %q, %v", c, text, err)
			}
			path := map[bool]string{true: "/learnspam", false: "/learnham"}[is]
			if q := <-got; q.path != path || q.body != mail || q.header.Get("Password") != "q1" || q.header.Get("Deliver-To") != "b@example.net" {
				t.Errorf("%+v", q)
			}
		}
	}
	p := sdktest.New(t, policy(), map[string]any{"controller": ""})
	if _, err := p.Learn(&sdk.Lesson{Message: strings.NewReader("")}); err == nil {
		t.Error("nobody is there to learn")
	}
}

func TestHealthy(t *testing.T) {
	address, _ := fake(t, 200, "pong\r\n")
	s := &rspamd{Address: address, MaxSize: 1}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	s.Address += ",127.0.0.1:1"
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("one of two is down: %v", err)
	}
}

func TestWrongSettings(t *testing.T) {
	for key, value := range map[string]any{
		"address": "localhost", "controller": "x", "max_size": "0", "settings_id": "a\nb", "on_reject": "burn", "scan_timeout": "x",
	} {
		if _, err := policy().Local(map[string]any{key: value}); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s = %v: %v", key, value, err)
		}
	}
}

func TestDocuments(t *testing.T) {
	sdktest.Page(t, policy(), "../../docs/policies/rspamd.md")
}

// The order of maps makes the coverage of an input vary, and what Go's fuzzer spends a minute
// each on is to make such inputs smaller: run it with -fuzzminimizetime 10x.
func FuzzReadVerdict(f *testing.F) {
	f.Add([]byte(spam("reject", `,"subject":"x","dkim-signature":"a","milter":{"add_headers":{"A":"b"},"remove_headers":{"C":1},"spam_header":{"X":"y"}}`)))
	f.Add([]byte(spam("add header", `,"dkim-signature":["a","b"],"milter":{"add_headers":{"A":[{"value":"x","order":1}]},"spam_header":"Maybe"}`)))
	f.Add([]byte(`{"action":"no action","is_skipped":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := readVerdict(text)
		if err != nil {
			return
		}
		h := message.ParseHeader([]byte("Subject: x\r\n\r\n"))
		for _, one := range slices.Concat(v.Milter.Add, v.Milter.SpamHeader) {
			if err := h.Prepend(one.name, one.value); err != nil {
				t.Errorf("%+v: %v", one, err)
			}
		}
		for _, one := range v.DKIM {
			if err := h.Prepend("DKIM-Signature", unfolded(one)); err != nil {
				t.Errorf("%q: %v", one, err)
			}
		}
		if s := v.message() + v.short(maxNames) + v.Action; strings.ContainsAny(s, "\r\n\x00") {
			t.Errorf("%q", s)
		}
		if again, err := readVerdict(text); err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("read again: %+v, %v", again, err)
		}
	})
}
