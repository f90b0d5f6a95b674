package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/sdktest"
)

// judge runs a message through both stages, in a chain of this process.
func judge(t *testing.T, settings map[string]any, text string) (hooks.Decision, *hooks.Transaction, uint64) {
	t.Helper()
	return judgeWithin(t, time.Minute, settings, text)
}

func judgeWithin(t *testing.T, limit time.Duration, settings map[string]any, text string) (hooks.Decision, *hooks.Transaction, uint64) {
	t.Helper()
	h, err := policy().Local(settings)
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	s := &hooks.Session{ID: "SESSION1", Helo: "client.example", Extended: true, Client: netip.MustParseAddrPort("192.0.2.7:4711")}
	tx := hooks.NewTransaction(s, "MESSAGE1")
	tx.Sender = message.Address{Local: "a", Domain: "example.org"}
	n, _ := message.HeaderLen([]byte(text))
	tx.Header, tx.Body = message.ParseHeader([]byte(text[:n])), message.Bytes(text)
	chain := hooks.NewChain([]hooks.Entry{{Handler: h, FailOpen: true, Timeout: limit}}, hooks.Options{})
	chain.Run(t.Context(), hooks.Headers, tx)
	d := chain.Run(t.Context(), hooks.Message, tx)
	return d, tx, chain.Counts()[0].Failures
}

const ham = "Subject: hello\nX-Spam-Status: No, score=-9\nx-spam-flag: NO\nX-SPAM-Flag: NO\nX-Other: x\n\nhow are you\n"

func names(tx *hooks.Transaction) (list []string) {
	for f := range tx.Header.Fields() {
		list = append(list, f.Name)
	}
	return list
}

func TestSpam(t *testing.T) {
	d := fake(t, reply("True ; 12.5 / 5.0", "GTUBE,MISSING_DATE"))
	verdict, tx, failed := judge(t, map[string]any{"address": d.address, "user": "mail", "subject": "[SPAM]"}, ham)
	if verdict.Verb != hooks.Pass || failed > 0 {
		t.Fatalf("%v, %d failures", verdict, failed)
	}
	if tx.Total() != 12.5 || tx.Scores[0].Name != "spamassassin" || tx.Scores[0].Why != "GTUBE,MISSING_DATE" {
		t.Errorf("scores %+v", tx.Scores)
	}
	r := tx.Results["spamassassin"]
	if r["points"] != 12.5 || r["required"] != 5.0 || r["spam"] != true || !slices.Equal(r["rules"].([]any), []any{"GTUBE", "MISSING_DATE"}) {
		t.Errorf("result %v", r)
	}
	for name, want := range map[string]string{
		"X-Spam-Status": "Yes, score=12.5 required=5.0 tests=GTUBE,MISSING_DATE", "X-Spam-Score": "12.5", "X-Spam-Level": "************",
		"X-Spam-Flag": "YES", "Subject": "[SPAM] hello", "X-Other": "x",
	} {
		if got, _ := tx.Header.Get(name); got != want || tx.Header.Count(name) != 1 {
			t.Errorf("%s: %q, %d times", name, got, tx.Header.Count(name))
		}
	}
	got := d.request(t)
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	if !strings.HasPrefix(head, "SYMBOLS SPAMC/1.5\r\nContent-length: ") || !strings.HasSuffix(head, "\r\nUser: mail") {
		t.Errorf("request %q", head)
	}
	if !strings.HasPrefix(body, "X-Envelope-From: <a@example.org>\r\nReceived: from client.example (unknown [192.0.2.7])\r\n\tby postern with ESMTP id MESSAGE1;\r\n\t") ||
		!strings.HasSuffix(body, "\r\nSubject: hello\r\nX-Spam-Status: No, score=-9\r\nx-spam-flag: NO\r\nX-SPAM-Flag: NO\r\nX-Other: x\r\n\r\nhow are you\r\n") {
		t.Errorf("message %q", body)
	}
}

func TestHam(t *testing.T) {
	d := fake(t, reply("False ; -1.9 / 5.0", ""))
	verdict, tx, _ := judge(t, map[string]any{"address": d.address, "subject": "[SPAM]"}, ham)
	if verdict.Verb != hooks.Pass || tx.Total() != -1.9 {
		t.Errorf("%v, total %v", verdict, tx.Total())
	}
	if got := names(tx); !slices.Equal(got, []string{"X-Spam-Status", "X-Spam-Score", "Subject", "X-Other"}) {
		t.Errorf("header %v", got)
	}
	if got, _ := tx.Header.Get("X-Spam-Status"); got != "No, score=-1.9 required=5.0 tests=none" {
		t.Errorf("status %q", got)
	}
}

func TestReject(t *testing.T) {
	d := fake(t, reply("True ; 1000 / 5.0", "GTUBE"))
	verdict, tx, _ := judge(t, map[string]any{"address": d.address, "reject": 15.0}, ham)
	if want := "554 5.7.1 Refused: SpamAssassin gives the message 1000 points, the limit is 15"; verdict.Reply.String() != want {
		t.Errorf("%v, want %s", verdict.Reply, want)
	}
	if tx.Results["spamassassin"]["points"] != 1000.0 {
		t.Errorf("results %v", tx.Results)
	}
}

func TestSettingsThatChangeLess(t *testing.T) {
	d := fake(t, reply("True ; 7 / 5", "A"))
	_, tx, _ := judge(t, map[string]any{"address": d.address, "header": false}, ham)
	if got := names(tx); !slices.Equal(got, []string{"Subject", "X-Other"}) {
		t.Errorf("header = false: %v", got)
	}
	_, tx, failed := judge(t, map[string]any{"address": "127.0.0.1:1", "max_size": "20"}, ham)
	if failed > 0 || tx.Results["spamassassin"]["skipped"] != "size" || tx.Total() != 0 || tx.Header.Count("X-Spam-Status") != 0 {
		t.Errorf("a large message: %d failures, %v, %v", failed, tx.Results, names(tx))
	}
	_, tx, _ = judge(t, map[string]any{"address": d.address, "header": false, "old_headers": "keep"}, ham)
	if got := names(tx); !slices.Equal(got, []string{"Subject", "X-Spam-Status", "x-spam-flag", "X-SPAM-Flag", "X-Other"}) {
		t.Errorf("kept: %v", got)
	}
	_, tx, _ = judge(t, map[string]any{"address": d.address, "header": false, "old_headers": "rename"}, ham)
	if got := names(tx); !slices.Equal(got, []string{"Subject", "X-Other", "X-Old-Spam-Status", "X-Old-Spam-flag", "X-Old-Spam-Flag"}) {
		t.Errorf("renamed: %v", got)
	}
	if got, _ := tx.Header.Get("X-Old-Spam-Status"); got != "No, score=-9" {
		t.Errorf("renamed: %q", got)
	}
	_, tx, _ = judge(t, map[string]any{"address": d.address, "subject": "[SPAM]"}, "From: x\n\nx\n")
	if got, _ := tx.Header.Get("Subject"); got != "[SPAM]" {
		t.Errorf("no subject: %q", got)
	}
	_, tx, _ = judge(t, map[string]any{"address": d.address, "subject": "[SPAM]"}, "Subject: [SPAM] again\n\nx\n")
	if got, _ := tx.Header.Get("Subject"); got != "[SPAM] again" {
		t.Errorf("marked twice: %q", got)
	}
}

func TestWrongSettings(t *testing.T) {
	for key, value := range map[string]any{
		"address": "https://localhost:783", "user": "a b", "old_headers": "burn", "user_of": "everybody", "connect_timeout": "soon", "max_size": "0", "reject": -1.0, "subject": "a\nb",
	} {
		_, err := policy().Local(map[string]any{key: value})
		if err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s = %v: %v", key, value, err)
		}
	}
}

// Whatever spamd does, the message passes, without points and without forged
// fields.
func TestFaults(t *testing.T) {
	for name, behave := range map[string]behaviour{
		"half a line":     {say: "SPAMD/1.1 0 E"},
		"half a header":   {say: "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1 / 5\r\n"},
		"half the rules":  {say: "SPAMD/1.1 0 EX_OK\r\nContent-length: 99\r\nSpam: True ; 1 / 5\r\n\r\nGTU"},
		"nothing":         {},
		"an error":        {say: "SPAMD/1.1 74 EX_IOERR\r\n\r\n"},
		"something else":  {say: "220 mx.example ESMTP\r\n"},
		"no verdict":      {say: "SPAMD/1.1 0 EX_OK\r\n\r\n"},
		"closes at once":  {deaf: true},
		"hangs":           {hang: true},
		"hangs half way":  {say: "SPAMD/1.1 0 EX_OK\r\n", hang: true},
		"an endless line": {say: strings.Repeat("x", 1<<20)},
		"endless headers": {say: "SPAMD/1.1 0 EX_OK\r\n" + strings.Repeat("A: b\r\n", 10000)},
		"endless rules":   {say: "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1 / 5\r\n\r\n" + strings.Repeat("ABCDEFGH,", 20000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := fake(t, behave)
			limit := time.Minute
			if behave.hang {
				limit = 50 * time.Millisecond
			}
			verdict, tx, failed := judgeWithin(t, limit, map[string]any{"address": d.address}, ham)
			if verdict.Verb != hooks.Pass || failed != 1 || len(tx.Scores) > 0 {
				t.Errorf("%v, %d failures, %v", verdict, failed, tx.Scores)
			}
			if got := names(tx); !slices.Equal(got, []string{"Subject", "X-Other"}) {
				t.Errorf("header %v", got)
			}
		})
	}
	t.Run("down", func(t *testing.T) {
		if verdict, _, failed := judge(t, map[string]any{"address": t.TempDir() + "/none.sock"}, ham); verdict.Verb != hooks.Pass || failed != 1 {
			t.Errorf("%v, %d failures", verdict, failed)
		}
	})
}

func TestFolded(t *testing.T) {
	long := folded(slices.Repeat([]string{"ABCDEFGHIJ"}, 12))
	for part := range strings.SplitSeq(long, " ") {
		if len(part) > 75 {
			t.Errorf("%q is long", part)
		}
	}
	if got := strings.ReplaceAll(long, " ", ""); strings.Count(got, ",") != 11 {
		t.Errorf("%q", got)
	}
}

// Whose preferences are asked for, and the next server where the first is down.
func TestUserAndFailover(t *testing.T) {
	d := fake(t, reply("False ; 1 / 5", ""))
	for _, c := range []struct {
		of, want string
		to       []string
	}{
		{"fixed", "mail", []string{"ann@example.net"}},
		{"recipient", "ann@example.net", []string{"ann@example.net"}},
		{"local-part", "ann", []string{"ann@example.net"}},
		{"local-part", "mail", []string{"ann@example.net", "bob@example.net"}},
	} {
		p := sdktest.New(t, policy(),
			map[string]any{"address": "127.0.0.1:1, unix:" + d.address, "user": "mail", "user_of": c.of})
		p.Ask(hooks.Message, sdktest.Mail(ham, c.to...)).Passes()
		if got := d.request(t); !strings.Contains(got, "\r\nUser: "+c.want+"\r\n") {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestLearn(t *testing.T) {
	for _, c := range []struct{ say, text, fails string }{
		{"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\nContent-length: 2\r\n\r\n\r\n", "", ""},
		{"SPAMD/1.1 0 EX_OK\r\nContent-length: 2\r\n\r\n\r\n", "known already", ""},
		{"SPAMD/1.1 69 Service Unavailable: TELL commands are not enabled\r\n", "", "TELL commands are not enabled"},
	} {
		d := fake(t, behaviour{say: c.say})
		p := sdktest.New(t, policy(), map[string]any{"address": d.address})
		text, err := p.Learn(&sdk.Lesson{Spam: true, Size: 5, Message: strings.NewReader("hello")})
		if text != c.text || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%q: %q, %v", c.say, text, err)
		}
		if got := d.request(t); got != "TELL SPAMC/1.5\r\nContent-length: 5\r\nMessage-class: spam\r\nSet: local\r\n\r\nhello" {
			t.Errorf("%q", got)
		}
	}
	p := sdktest.New(t, policy(), map[string]any{"max_size": "4"})
	if _, err := p.Learn(&sdk.Lesson{Size: 5, Message: strings.NewReader("hello")}); err == nil {
		t.Error("a large one is learned")
	}
}

func TestDocuments(t *testing.T) { sdktest.Page(t, policy(), "../../docs/policies/spamassassin.md") }
