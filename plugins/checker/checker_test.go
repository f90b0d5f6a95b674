package main

import (
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
)

// judge runs a message through the policy, in a chain of this process.
func judge(t *testing.T, settings map[string]any, text string) (hooks.Decision, *hooks.Transaction) {
	t.Helper()
	h, err := sdk.Policy{Name: "checker", Handler: &checker{}, Access: sdk.Whole()}.Local(settings)
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	tx := hooks.NewTransaction(&hooks.Session{ID: "SESSION1"}, "MESSAGE1")
	n, _ := message.HeaderLen([]byte(text))
	tx.Header, tx.Body = message.ParseHeader([]byte(text[:n])), message.Bytes(text)
	chain := hooks.NewChain([]hooks.Entry{{Handler: h}}, hooks.Options{})
	d := chain.Run(t.Context(), hooks.Message, tx)
	if failed := chain.Counts()[0].Failures; failed > 0 {
		t.Fatalf("it failed")
	}
	return d, tx
}

func mixed(parts ...string) string {
	return "Subject: parts\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" + strings.Join(parts, "\n--b\n") + "\n--b--\n"
}

func TestAttachments(t *testing.T) {
	text := "Content-Type: text/plain\n\nhello"
	nested := "Content-Type: multipart/alternative; boundary=c\n\n--c\n\nx\n--c\nContent-Disposition: attachment; filename=deep.VBS\n\nx\n--c--\n"
	for _, c := range []struct {
		name, mail, refused string
	}{
		{"plain", "Subject: x\n\nname=evil.exe\n", ""},
		{"no type", "Subject: x\n\n", ""},
		{"empty", "", ""},
		{"harmless", mixed(text, "Content-Disposition: attachment; filename=\"a.pdf\"\n\nx"), ""},
		{"by disposition", mixed(text, "Content-Disposition: attachment; filename=\"Invoice.PDF.exe\"\n\nx"), ".exe"},
		{"by type", mixed(text, "Content-Type: application/octet-stream; name=run.scr\n\nx"), ".scr"},
		{"trailing dots", mixed("Content-Disposition: attachment; filename=\"a.exe. .\"\n\nx"), ".exe"},
		{"encoded", mixed("Content-Disposition: attachment; filename=\"=?utf-8?q?a=2Eexe?=\"\n\nx"), ".exe"},
		{"rfc 2231", mixed("Content-Disposition: attachment; filename*=utf-8''%61%2Ecmd\n\nx"), ".cmd"},
		{"nested", mixed(text, nested), ".vbs"},
		{"no parts", "Content-Type: multipart/mixed; boundary=b\n\nnothing\n", ""},
		{"broken type", "Content-Type: ;;;\n\nx\n", ""},
		{"the message itself", "Content-Type: application/x-thing; name=a.lnk\n\nx\n", ".lnk"},
	} {
		d, tx := judge(t, nil, c.mail)
		want := ""
		if c.refused != "" {
			want = "554 5.7.1 Refused: attachments like " + c.refused + " are not accepted here"
		}
		if got := d.Reply; c.refused == "" && d.Verb != hooks.Pass || want != "" && got.String() != want {
			t.Errorf("%s: %v %v", c.name, d.Verb, got)
		}
		if tx.Results["checker"]["found"] != c.refused {
			t.Errorf("%s: result %v", c.name, tx.Results)
		}
	}
}

func TestActions(t *testing.T) {
	mail := "Subject: =?utf-8?q?The_C=41SINO?=\nX-Checker: forged\n\nx\n"
	words := []any{"Casino"}
	if d, _ := judge(t, map[string]any{"words": words, "action": "quarantine"}, mail); d.Verb != hooks.Quarantine || d.Reason != "the subject holds the word casino" {
		t.Errorf("quarantine: %+v", d)
	}
	d, tx := judge(t, map[string]any{"words": words, "action": "tag"}, mail)
	if value, _ := tx.Header.Get("X-Checker"); d.Verb != hooks.Pass || !tx.Tagged("checker") || value != "the subject holds the word casino" || tx.Header.Count("X-Checker") != 1 {
		t.Errorf("tag: %+v, %q", d, value)
	}
	if d, _ := judge(t, map[string]any{"words": []any{"lottery"}, "extensions": []any{".PDF"}}, mixed("Content-Disposition: attachment; filename=a.pdf\n\nx")); d.Verb != hooks.Reject {
		t.Errorf("own extensions: %+v", d)
	}
}

// Depth and number of parts are bounded.
func TestBounds(t *testing.T) {
	deep := "Content-Disposition: attachment; filename=a.exe\n\nx"
	for i := range 40 {
		b := "b" + strings.Repeat("x", i)
		deep = "Content-Type: multipart/mixed; boundary=" + b + "\n\n--" + b + "\n" + deep + "\n--" + b + "--\n"
	}
	if d, _ := judge(t, nil, deep); d.Verb != hooks.Pass {
		t.Errorf("deep: %+v", d)
	}
	many := make([]string, 5000)
	for i := range many {
		many[i] = "Content-Type: text/plain\n\nx"
	}
	if _, tx := judge(t, nil, mixed(many...)); tx.Results["checker"]["parts"] != maxParts {
		t.Errorf("many: %v", tx.Results)
	}
}
