package smtpd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// stain leaves everything that a policy can leave in what is about "first", at
// every stage, and refuses it where its name says so.
type stain struct{}

func (stain) Name() string { return "stain" }
func (stain) Stages() []hooks.Stage {
	return []hooks.Stage{hooks.Helo, hooks.Auth, hooks.Command, hooks.Mail, hooks.Rcpt, hooks.Data, hooks.Headers, hooks.Message, hooks.Queue, hooks.Deny}
}

func (stain) Handle(_ context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	first := strings.HasPrefix(tx.Sender.Local, "first")
	switch {
	case at == hooks.Auth && tx.Login.Password == "policy":
		return hooks.Decision{Verb: hooks.Reject}, nil
	case at == hooks.Command && tx.Command.Argument == "refuse":
		return hooks.Decision{Verb: hooks.Reject}, nil
	case at == hooks.Command && tx.Command.Verb == "RSET" && strings.HasPrefix(tx.Session.Helo, "refuse"):
		return hooks.Decision{Verb: hooks.Defer}, nil
	case at == hooks.Helo && strings.HasPrefix(tx.Session.Helo, "lost"):
		return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.RemoveCapability, Value: "DSN"}, {Kind: hooks.RemoveCapability, Value: "PRDR"}}}, nil
	case at == hooks.Auth || at == hooks.Command:
		return hooks.Decision{}, nil
	}
	if !first && !strings.HasPrefix(tx.Session.Helo, "first") {
		return hooks.Decision{}, nil
	}
	d := hooks.Decision{Edits: []hooks.Edit{
		{Kind: hooks.AddScore, Name: "STAIN", Number: 50, Value: at.String()},
		{Kind: hooks.AddTag, Value: "stained"},
		{Kind: hooks.SetResult, Name: "stain", Any: map[string]any{"at": at.String()}},
		{Kind: hooks.SkipPolicy, Value: "watch"},
	}}
	switch {
	case at == hooks.Helo:
		d.Edits = append(d.Edits, hooks.Edit{Kind: hooks.SetConnNote, Name: "stain", Any: true})
	case at != hooks.Deny && first:
		d.Edits = append(
			d.Edits, hooks.Edit{Kind: hooks.SetNote, Name: "stain", Any: true},
			hooks.Edit{Kind: hooks.SetRoute, Value: "smtp://stain.example"}, hooks.Edit{Kind: hooks.SetPriority, N: 9},
		)
		for _, r := range tx.Recipients {
			to := r.Address.String()
			d.Edits = append(
				d.Edits, hooks.Edit{Kind: hooks.SetRcptNote, Rcpt: to, Name: "stain", Any: true}, hooks.Edit{Kind: hooks.AddRcptHeader, Rcpt: to, Name: "X-Stain", Value: "first"},
			)
		}
		if at == hooks.Queue {
			d.Edits = append(d.Edits, hooks.Edit{Kind: hooks.SetReceived, Value: "stained"})
		}
		if strings.HasPrefix(tx.Sender.Local, "first-each") && at.Row().Each {
			verb, _ := hooks.ParseVerb(strings.TrimPrefix(tx.Sender.Local, "first-each-"))
			d.Each = map[int]hooks.Decision{0: {Verb: verb}}
		}
	}
	if tx.Sender.Local == "first-"+at.String() {
		d.Verb = hooks.Reject
	}
	return d, nil
}

// watch is asked about everything that is not skipped, and tells what it sees.
type watch struct{ seen *[]string }

func (watch) Name() string { return "watch" }
func (watch) Stages() []hooks.Stage {
	return []hooks.Stage{hooks.Mail, hooks.Rcpt, hooks.Data, hooks.Headers, hooks.Message}
}

func (w watch) Handle(_ context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	if tx.Sender.Local == "second" {
		said := fmt.Sprintf("%s notes=%v params=%v size=%d", at, tx.Notes, tx.Params, tx.Size)
		if at == hooks.Message {
			said = at.String() // its size is known by now
		}
		*w.seen = append(*w.seen, fmt.Sprintf("%s conn=%v total=%g tags=%v results=%v route=%q priority=%d refused=%v", said, tx.Session.Notes, tx.Total(), tx.Tags, tx.Results, tx.Route, tx.Priority, tx.Refusal != nil))
	}
	return hooks.Decision{}, nil
}

// clean is what watch sees of a message that is alone in the world.
var clean = []string{
	"mail notes=map[] params=[] size=0 conn=map[] total=0 tags=[] results=map[] route=\"\" priority=0 refused=false",
	"rcpt notes=map[] params=[] size=0 conn=map[] total=0 tags=[] results=map[] route=\"\" priority=0 refused=false",
	"data notes=map[] params=[] size=0 conn=map[] total=0 tags=[] results=map[] route=\"\" priority=0 refused=false",
	"headers notes=map[] params=[] size=0 conn=map[] total=0 tags=[] results=map[] route=\"\" priority=0 refused=false",
	"message conn=map[] total=0 tags=[] results=map[] route=\"\" priority=0 refused=false",
}

// TestStateNeverLeaks: whatever ends a transaction, the next one is as if it
// were the session's first: its envelope and text in the queue, the notes, scores,
// tags, results, routes and skipped policies that policies see (checklist 7 and
// 37). The first message says and leaves all that can be said and left.
func TestStateNeverLeaks(t *testing.T) {
	const (
		open = "MAIL FROM:<first@client.example.org> SIZE=99 BODY=8BITMIME RET=FULL ENVID=first\n< 250\nRCPT TO:<first@example.net> NOTIFY=NEVER ORCPT=rfc822;first@x\n< 250\n"
		wide = "MAIL FROM:<first@client.example.org> BODY=BINARYMIME SMTPUTF8\n< 250\nRCPT TO:<först@example.net>\n< 250\n"
	)
	at := func(stage string) string { return strings.Replace(open, "<first@", "<first-"+stage+"@", 1) }
	for name, before := range map[string]string{
		"an accepted message":                 open + "DATA\n< 354\nX: y\n\nfirst text\n.\n< 250\n",
		"an accepted BDAT":                    wide + ">BDAT 6 LAST\\r\\n\\r\\nfirs\n< 250\n",
		"BDAT refused by a policy at data":    at("data") + ">BDAT 5\\r\\nfirst\n< 554 5.7.1\n>BDAT 5 LAST\\r\\nfirst\n< 503\n",
		"BDAT refused for its bytes":          open + ">BDAT 6\\r\\nfirst\\n\n< 554 5.6.11\n>BDAT 5 LAST\\r\\nfirst\n< 503\n",
		"BDAT LAST refused for its bytes":     open + ">BDAT 5\\r\\nfirst\n< 250\n>BDAT 1 LAST\\r\\n\\r\n< 554 5.6.11\n",
		"BDAT refused for its size":           open + ">BDAT 1048577\\r\\n" + strings.Repeat("x", 1<<20+1) + "\n< 552 5.3.4\n",
		"BDAT LAST refused at message":        at("message") + ">BDAT 10 LAST\\r\\nX: y\\r\\n\\r\\nz\\n\n< 554\n",
		"BDAT refused at headers":             at("headers") + ">BDAT 8\\r\\nX: y\\r\\n\\r\\n\n< 554 5.7.1\n>BDAT 2 LAST\\r\\n\\r\\n\n< 503\n",
		"BDAT out of order, then RSET":        "MAIL FROM:<first@client.example.org>\n< 250\n>BDAT 5\\r\\nfirst\n< 503\nRSET\n< 250\n",
		"DATA refused at data":                at("data") + "DATA\n< 554 5.7.1\n",
		"end of data refused at headers":      at("headers") + "DATA\n< 354\nX: y\n\nfirst\n.\n< 554 5.7.1\n",
		"end of data refused at message":      at("message") + "DATA\n< 354\nX: y\n\nfirst\n.\n< 554 5.7.1\n",
		"end of data refused at queue":        at("queue") + "DATA\n< 354\nX: y\n\nfirst\n.\n< 554 5.7.1\n",
		"end of data refused for its bytes":   open + "DATA\n< 354\nfirst\\ntext\n.\n< 554 5.6.11\n",
		"end of data refused for its size":    open + "DATA\n< 354\n" + strings.Repeat("x", 1<<20+1) + "\n.\n< 552 5.3.4\n",
		"MAIL refused by a policy":            "MAIL FROM:<first-mail@client.example.org> RET=FULL\n< 550\n",
		"MAIL refused for a parameter":        "MAIL FROM:<first@client.example.org> RET=FULL SIZE=x\n< 501\n",
		"RCPT refused, then RSET":             strings.Replace(at("rcpt"), "NOTIFY=NEVER ORCPT=rfc822;first@x\n< 250", "\n< 550", 1) + "RSET\n< 250\n",
		"VRFY in a transaction, then RSET":    open + "VRFY first@example.net\n< 252\nVRFY föö SMTPUTF8\n< 252\nRSET\n< 250\n",
		"VRFY between chunks, then RSET":      open + ">BDAT 5\\r\\nfirst\n< 250\nVRFY x\n< 252\nRSET\n< 250\n",
		"RSET":                                open + "RSET\n< 250\n",
		"RSET between chunks":                 wide + ">BDAT 5\\r\\nfirst\n< 250\nRSET\n< 250\n",
		"a second EHLO":                       open + "EHLO again.example\n< 250\n",
		"a second EHLO between chunks":        wide + ">BDAT 5\\r\\nfirst\n< 250\nEHLO again.example\n< 250\n",
		"a HELO":                              open + "HELO again.example\n< 250\nEHLO client.example.org\n< 250\n",
		"STARTTLS":                            open + "TLS\n",
		"STARTTLS after an EHLO that stained": "EHLO first.example\n< 250\n" + open + "TLS\n",
		"AUTH, refused in a transaction":      "TLS\n" + open + "AUTH PLAIN " + b64("\x00anna\x00secret") + "\n< 503\nRSET\n< 250\n",
		"a failed AUTH":                       "TLS\n" + open + "RSET\n< 250\nAUTH PLAIN " + b64("\x00anna\x00wrong") + "\n< 535\n",
		"a cancelled AUTH":                    "TLS\n" + open + "RSET\n< 250\nAUTH LOGIN " + b64("anna") + "\n< 334\n*\n< 501\n",
		"AUTH":                                "TLS\n" + open + "RSET\n< 250\nAUTH PLAIN " + b64("\x00anna\x00secret") + "\n< 235\n",
		"XCLIENT":                             open + "RSET\n< 250\nXCLIENT ADDR=192.0.2.7\n< 220\nEHLO client.example.org\n< 250\n",
		"XFORWARD":                            "XFORWARD NAME=first.example ADDR=192.0.2.1\n< 250\n" + open + "RSET\n< 250\n",
		"a command that a policy refuses":     open + "FROB refuse\n< 502\nNOOP refuse\n< 502\nRSET\n< 250\n",
		"RSET that a policy defers":           "EHLO refuse.example\n< 250\n" + open + ">BDAT 5\\r\\nfirst\n< 250\nRSET\n< 450\n",
		"AUTH that a policy refuses":          "TLS\n" + open + "RSET\n< 250\nAUTH PLAIN " + b64("\x00anna\x00policy") + "\n< 535\n",
		"a recipient refused by itself":       at("each-reject") + "DATA\n< 354\nX: y\n\nfirst\n.\n< 554 5.7.1\n",
		"a recipient refused, by PRDR":        strings.Replace(at("each-reject"), " SIZE=99", " PRDR", 1) + "DATA\n< 354\nX: y\n\nfirst\n.\n< 353\n< 554 5.7.1 <first@\n< 554 5.7.1\n",
		"a recipient discarded by itself":     at("each-discard") + ">BDAT 8 LAST\\r\\nX: y\\r\\n\\r\\n\n< 250\n",
		"a recipient in quarantine by itself": at("each-quarantine") + "DATA\n< 354\nX: y\n\nfirst\n.\n< 250\n",
		"EHLO that lost extensions":           "EHLO lost.example\n< 250\nMAIL FROM:<first@client.example.org> RET=FULL\n< 555\nMAIL FROM:<first@client.example.org> PRDR\n< 555\nEHLO client.example.org\n< 250\n" + open + "RSET\n< 250\n",
		"an unknown command, then RSET":       open + "FROB first\n< 500\nRSET\n< 250\n",
		"a line too long, then RSET":          open + "RCPT TO:<" + strings.Repeat("x", 3000) + "@example.net>\n< 500\nRSET\n< 250\n",
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			w := newWhole(t, Limits{Recipients: 1}, hooks.Entry{Handler: stain{}}, hooks.Entry{Handler: watch{&seen}})
			c := w.dial()
			c.say("EHLO client.example.org", "250")
			for part := range strings.SplitAfterSeq(before, "TLS\n") {
				if clear := strings.TrimSuffix(part, "TLS\n"); clear != "" {
					play(t, c, clear)
				}
				if strings.HasSuffix(part, "TLS\n") {
					c.secure()
					c.say("EHLO client.example.org", "250")
				}
			}
			play(t, c, "RCPT TO:<x@example.net>\n< 503 5.5.1\nDATA\n< 503 5.5.1\n>BDAT 5\\r\\nfirst\n< 503 5.5.1")
			c.say("MAIL FROM:<second@client.example.org>", "250")
			c.say("RCPT TO:<second@example.net>", "250")
			c.say("DATA", "354")
			c.send("second text\r\n.\r\n")
			c.want("250 2.0.0 Ok: queued as")
			w.second(seen)
		})
	}
}

// second checks what came of the second message.
func (w *whole) second(seen []string) {
	w.t.Helper()
	if !slices.Equal(seen, clean) {
		w.t.Errorf("policies saw\n%s", strings.Join(seen, "\n"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m, text := w.mails[len(w.mails)-1], w.texts[len(w.texts)-1]
	if i := strings.Index(text, "00\r\n"); text[i+4:] != "second text\r\n" || strings.Contains(text, "stained") {
		w.t.Errorf("text %q", text)
	}
	if m.Sender.String() != "second@client.example.org" || m.EightBit || m.Binary || m.SMTPUTF8 || m.Ret != "" || m.EnvID != "" {
		w.t.Errorf("envelope %+v", m)
	}
	want := queue.Recipient{Address: message.Address{Local: "second", Domain: "example.net"}}
	if len(m.Recipients) != 1 || m.Recipients[0].Address != want.Address || m.Recipients[0].Original != "" || m.Recipients[0].Notify != "" || m.Recipients[0].Route != "" {
		w.t.Errorf("recipients %+v", m.Recipients)
	}
	var facts hooks.Facts
	if err := json.Unmarshal(m.Facts, &facts); err != nil || facts.Total() != 0 || len(facts.Tags)+len(facts.Results)+len(facts.Notes)+len(facts.Rcpts)+facts.Priority != 0 {
		w.t.Errorf("facts %s, %v", m.Facts, err)
	}
}

// TestHeloMarksDoNotPileUp: what stage helo leaves is that of the last EHLO,
// however often it is said, in the clear and in TLS; what stage connect left
// stays.
func TestHeloMarksDoNotPileUp(t *testing.T) {
	r := withTLS(t, newRig(t, Limits{}))
	score := func(name string, points float64) []hooks.Edit {
		return []hooks.Edit{
			{Kind: hooks.AddScore, Name: name, Number: points},
			{Kind: hooks.AddTag, Value: name},
			{Kind: hooks.SetResult, Name: name, Any: map[string]any{"x": "y"}},
			{Kind: hooks.SkipPolicy, Value: name},
		}
	}
	r.on(hooks.Connect, hooks.Decision{Edits: score("connect", 1)})
	r.policy(hooks.Helo, func(tx *hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: score(tx.Session.Helo, 10)}
	})
	r.on(hooks.TLS, hooks.Decision{Edits: score("tls", 100)})
	r.start()
	c := r.greeted()
	marks := func(total float64, tags ...string) {
		t.Helper()
		c.begin()
		c.say("DATA", "354")
		c.send(".\r\n")
		c.want("250")
		all := r.door.all()
		tx := all[len(all)-1].tx
		if tx.Total() != total || !slices.Equal(tx.Tags, tags) || len(tx.Results) != len(tags) || len(tx.Skipped) != len(tags) {
			t.Errorf("total %g of %v, tags %v, results %v, skipped %v; want %g of %v", tx.Total(), tx.Scores, tx.Tags, tx.Results, tx.Skipped, total, tags)
		}
	}
	marks(11, "connect", "client.example.org")
	for range 5 {
		c.say("EHLO other.example", "250")
	}
	marks(11, "connect", "other.example")
	c.secure()
	c.say("EHLO third.example", "250")
	c.say("EHLO fourth.example", "250")
	marks(111, "connect", "tls", "fourth.example")
	c.say("EHLO", "501")
	marks(111, "connect", "tls", "fourth.example")
}

// TestDenyMarksStayWithTheMessage: what stage deny leaves about a message is not
// the session's; before any message it is.
func TestDenyMarksStayWithTheMessage(t *testing.T) {
	r := newRig(t, Limits{}).on(hooks.Deny, hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.AddScore, Name: "denied", Number: 1}}}).start()
	c := r.greeted()
	var totals []float64
	for _, wrong := range []int{2, 0, 1} {
		c.say("MAIL FROM:<s@client.example.org>", "250")
		for range wrong {
			c.say("RCPT TO:<x@elsewhere.example>", "550")
		}
		c.say("RCPT TO:<t@example.net>", "250")
		c.say("DATA", "354")
		c.send(".\r\n")
		c.want("250")
		all := r.door.all()
		totals = append(totals, all[len(all)-1].tx.Total())
	}
	c.say("FROB", "500")
	c.begin()
	c.say("DATA", "354")
	all := r.door.all()
	if totals = append(totals, all[len(all)-1].tx.Total()); !slices.Equal(totals, []float64{2, 0, 1, 1}) {
		t.Errorf("scores %v", totals)
	}
}
