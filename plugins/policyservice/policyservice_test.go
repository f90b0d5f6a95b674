package main

import (
	"bufio"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk/sdktest"
)

// fake is a policy server that answers what say makes of a request. Each connection
// serves most requests (0: any number).
type fake struct {
	address string
	mu      sync.Mutex
	got     []string
	conns   int
}

func serve(t *testing.T, most int, say func(request string) string) *fake {
	t.Helper()
	f := &fake{address: filepath.Join(t.TempDir(), "policy")}
	ln, err := net.Listen("unix", f.address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns++
			open = append(open, c)
			f.mu.Unlock()
			all.Go(func() { f.serve(c, most, say) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.mu.Lock()
		for _, c := range open {
			c.Close()
		}
		f.mu.Unlock()
		all.Wait()
	})
	return f
}

func (f *fake) serve(c net.Conn, most int, say func(string) string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for n := 0; most == 0 || n < most; n++ {
		var b strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\n" {
				break
			}
			b.WriteString(line)
		}
		f.mu.Lock()
		f.got = append(f.got, b.String())
		f.mu.Unlock()
		answer := say(b.String())
		if answer == "hang" {
			_, _ = r.ReadByte()
			return
		}
		if _, err := c.Write([]byte(answer)); err != nil {
			return
		}
	}
}

func says(action string) func(string) string {
	return func(string) string { return "action=" + action + "\n\n" }
}

func TestActions(t *testing.T) {
	for _, c := range []struct {
		action string
		at     hooks.Stage
		verb   hooks.Verb
		reply  string
	}{
		{"DUNNO", hooks.Rcpt, hooks.Pass, ""},
		{"dunno", hooks.Rcpt, hooks.Pass, ""},
		{"OK", hooks.Rcpt, hooks.Pass, ""},
		{"12345", hooks.Rcpt, hooks.Pass, ""},
		{"REJECT", hooks.Rcpt, hooks.Reject, ""},
		{"reject 5.7.26 Go away", hooks.Rcpt, hooks.Reject, "5.7.26 Go away"},
		{"REJECT 4.7.1 odd", hooks.Rcpt, hooks.Reject, "4.7.1 odd"},
		{"550 5.1.1 No such user", hooks.Rcpt, hooks.Reject, "550 5.1.1 No such user"},
		{"450 4.2.1 Later", hooks.Data, hooks.Defer, "450 4.2.1 Later"},
		{"DEFER", hooks.Data, hooks.Defer, ""},
		{"DEFER_IF_PERMIT Greylisted for 300 seconds", hooks.Rcpt, hooks.Defer, "Greylisted for 300 seconds"},
		{"DEFER_IF_REJECT x", hooks.Rcpt, hooks.Pass, ""},
		{"WARN odd", hooks.Rcpt, hooks.Pass, ""},
		{"DISCARD", hooks.Data, hooks.Discard, ""},
		{"QUARANTINE", hooks.Message, hooks.Quarantine, ""},
		{"PREPEND X-Greylist: delayed", hooks.Message, hooks.Pass, ""},
	} {
		f := serve(t, 0, says(c.action))
		p := sdktest.New(t, policy(), map[string]any{"address": "127.0.0.1:1, unix:" + f.address, "at": []any{"rcpt", "data", "message"}})
		tx := sdktest.Mail("Subject: x\n\nx\n")
		if c.at == hooks.Rcpt {
			tx = sdktest.Rcpt("b@example.net")
		}
		a := p.Ask(c.at, tx)
		if a.Verb != c.verb || !strings.Contains(a.Reply.String(), c.reply) {
			t.Errorf("%s: %s", c.action, a)
		}
		if strings.HasPrefix(c.action, "PREPEND") {
			a.Field("X-Greylist", "delayed")
		}
	}
}

// What is asked for before the message is there is done when it is.
func TestLater(t *testing.T) {
	for action, check := range map[string]func(a *sdktest.Answer, fields []string){
		"HOLD for a look": func(a *sdktest.Answer, _ []string) { a.Decides(hooks.Hold) },
		"DISCARD":         func(a *sdktest.Answer, _ []string) { a.Decides(hooks.Discard) },
		"QUARANTINE":      func(a *sdktest.Answer, _ []string) { a.Decides(hooks.Quarantine) },
		"PREPEND X-Greylist: delayed 5 s": func(a *sdktest.Answer, fields []string) {
			if a.Passes(); !slices.Contains(fields, "X-Greylist") {
				t.Errorf("%q", fields)
			}
		},
		"BCC <c@example.net>": func(a *sdktest.Answer, _ []string) {
			if a.Passes(); len(a.Tx.Recipients) != 2 {
				t.Errorf("%v", a.Tx.Recipients)
			}
		},
		"REDIRECT c@example.net": func(a *sdktest.Answer, _ []string) {
			if a.Passes(); len(a.Tx.Recipients) != 1 || a.Tx.Recipients[0].Address.String() != "c@example.net" {
				t.Errorf("%v", a.Tx.Recipients)
			}
		},
		"FILTER smtp:[192.0.2.7]:10025": func(a *sdktest.Answer, _ []string) {
			if a.Passes(); a.Tx.Route != "smtp://192.0.2.7:10025" {
				t.Errorf("%q", a.Tx.Route)
			}
		},
	} {
		f := serve(t, 0, says(action))
		p := sdktest.New(t, policy(), map[string]any{"address": f.address})
		tx := sdktest.Rcpt("b@example.net")
		p.Ask(hooks.Rcpt, tx).Passes()
		p.Ask(hooks.Rcpt, tx).Passes() // a second recipient asks for the same
		whole := sdktest.Mail("Subject: x\n\nx\n")
		whole.Notes = tx.Notes
		p.Ask(hooks.Message, whole).Passes()
		var fields []string
		for one := range whole.Header.Fields() {
			fields = append(fields, one.Name)
		}
		check(p.Ask(hooks.Queue, whole), fields)
	}
}

// A recipient that is refused anyway is not put off; OK may take one of ours.
func TestRecipients(t *testing.T) {
	f := serve(t, 0, says("DEFER_IF_PERMIT x"))
	p := sdktest.New(t, policy(), map[string]any{"address": f.address})
	tx := sdktest.Rcpt("b@foreign.example")
	tx.Current.Ours = false
	p.Ask(hooks.Rcpt, tx).Passes()
	f = serve(t, 0, says("OK"))
	p = sdktest.New(t, policy(), map[string]any{"address": f.address, "on_ok": "accept"})
	p.Ask(hooks.Rcpt, tx).Passes()
	p.Ask(hooks.Rcpt, sdktest.Rcpt("b@example.net")).Accepts()
}

// What the server is told, by connections that serve many requests.
func TestAttributes(t *testing.T) {
	f := serve(t, 0, says("DUNNO"))
	p := sdktest.New(t, policy(), map[string]any{"address": f.address, "context": "mine", "at": []any{"rcpt", "message"}})
	tx := sdktest.Rcpt("b@example.net")
	tx.Session.Helo = "evil\nsasl_username=root"
	tx.Session.TLS = &hooks.TLSFact{Version: "TLSv1.3", Cipher: "X"}
	p.Ask(hooks.Rcpt, tx).Passes()
	p.Ask(hooks.Data, sdktest.Mail("x: y\n\n")).Passes()
	p.Ask(hooks.Message, sdktest.Mail("x: y\n\n", "b@example.net", "c@example.net")).Passes()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.got) != 2 || f.conns != 1 {
		t.Fatalf("%d requests by %d connections", len(f.got), f.conns)
	}
	for _, want := range []string{
		"request=smtpd_access_policy\n", "protocol_state=RCPT\n", "protocol_name=ESMTP\n", "client_address=192.0.2.1\n", "client_name=unknown\n",
		"helo_name=evil sasl_username=root\n", "sender=a@client.example\n", "recipient=b@example.net\n", "recipient_count=0\n", "policy_context=mine\n",
		"encryption_protocol=TLSv1.3\n", "\nsasl_username=\n", "server_port=25\n", "instance=SESSION0001.MESSAGE0001\n",
	} {
		if !strings.Contains(f.got[0], want) {
			t.Errorf("it lacks %q: %q", want, f.got[0])
		}
	}
	for _, want := range []string{"protocol_state=END-OF-MESSAGE\n", "\nrecipient=\n", "recipient_count=2\n", "size=8\n"} {
		if !strings.Contains(f.got[1], want) {
			t.Errorf("it lacks %q: %q", want, f.got[1])
		}
	}
}

// A server that closed a connection between two requests is asked anew.
func TestClosedBetween(t *testing.T) {
	f := serve(t, 1, says("REJECT"))
	p := sdktest.New(t, policy(), map[string]any{"address": f.address})
	for range 5 {
		p.Ask(hooks.Rcpt, sdktest.Rcpt("b@example.net")).Rejects("", "")
	}
}

func TestFaults(t *testing.T) {
	for answer, says := range map[string]string{
		"":                                  "EOF",
		"action=DUNNO":                      "EOF",
		"action=DUNNO\n":                    "EOF",
		"\n":                                "no action",
		"nonsense\n\n":                      "makes no sense",
		"action=reject_unknown_client\n\n":  "is unknown here",
		"action=REDIRECT nobody\n\n":        "can't be done",
		"action=PREPEND nothing\n\n":        "can't be done",
		"action=FILTER uucp:x\n\n":          "can't be done",
		strings.Repeat("x", maxLine*2):      "too long",
		strings.Repeat("a=b\n", maxLines*2): "too many lines",
		"hang":                              "no verdict within 50ms",
	} {
		f := serve(t, 1, func(string) string { return answer })
		settings := map[string]any{"address": f.address}
		if answer == "hang" {
			settings["scan_timeout"] = "50ms"
		}
		sdktest.New(t, policy(), settings).Fails(hooks.Rcpt, sdktest.Rcpt("b@example.net"), says)
	}
	sdktest.New(t, policy(), map[string]any{"address": t.TempDir() + "/none"}).Fails(hooks.Rcpt, sdktest.Rcpt("b@example.net"), "no such file")
}

func TestWrongSettings(t *testing.T) {
	for key, value := range map[string]any{"address": "https://x:1", "at": []any{}, "context": "a\nb", "on_ok": "maybe"} {
		settings := map[string]any{"address": "x:1"}
		settings[key] = value
		if _, err := policy().Local(settings); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s = %v: %v", key, value, err)
		}
	}
	if _, err := policy().Local(nil); err == nil {
		t.Error("it asks nobody")
	}
}

func TestDocuments(t *testing.T) { sdktest.Page(t, policy(), "../../docs/policies/policyservice.md") }

func FuzzReadAction(f *testing.F) {
	f.Add("action=DUNNO\n\n")
	f.Add("action=PREPEND X: y\n\n")
	f.Add("a=b\r\naction = 450 x\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		action, err := readAction(bufio.NewReaderSize(strings.NewReader(text), maxLine))
		if err != nil {
			return
		}
		if strings.ContainsAny(action, "\r\n\x00") {
			t.Errorf("%q", action)
		}
	})
}

func FuzzRoute(f *testing.F) {
	f.Add("smtp:[192.0.2.7]:10025")
	f.Add("lmtp:host")
	f.Fuzz(func(t *testing.T, text string) {
		if hop, err := route(text); err == nil && !strings.HasPrefix(hop, "smtp://") && !strings.HasPrefix(hop, "lmtp://") {
			t.Errorf("%q is %q", text, hop)
		}
	})
}
