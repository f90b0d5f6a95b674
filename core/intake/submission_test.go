package intake

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// TestSubmissionCompletes: RFC 6409 sections 8.2 and 8.3: Date and Message-ID are
// added where they are missing, to submitted mail alone, and nothing else.
func TestSubmissionCompletes(t *testing.T) {
	w := open(t, nil)
	const id, date = "Message-ID: <ID@mx.example.net>\r\n", "Date: NOW\r\n"
	for text, want := range map[string]string{
		"Subject: x\r\n\r\nbody\r\n":                             "Subject: x\r\n" + id + date + "\r\nbody\r\n",
		"subject: x\r\nDATE: then\r\n\r\nbody\r\n":               "subject: x\r\nDATE: then\r\n" + id + "\r\nbody\r\n",
		"Message-Id: <a@b>\r\n\r\n":                              "Message-Id: <a@b>\r\n" + date + "\r\n",
		"Date: then\r\nMessage-ID: <a@b>\r\nX:y\r\n\r\nbody\r\n": "Date: then\r\nMessage-ID: <a@b>\r\nX:y\r\n\r\nbody\r\n",
		"Subject: no empty line\r\n":                             "Subject: no empty line\r\n" + id + date,
		"\r\nbody behind an empty line\r\n":                      id + date + "\r\nbody behind an empty line\r\n",
		"no header section at all\r\n":                           id + date + "\r\nno header section at all\r\n",
		"":                                                       id + date,
	} {
		for _, protocol := range []string{"submission", "smtp"} {
			if protocol == "smtp" {
				want = text
			}
			tx := transaction("a@example.net")
			tx.Session.Protocol = protocol
			if r := w.take(t, chain(), tx, text, 7); r.Reply.Code != 250 {
				t.Fatal(r.Reply)
			}
			got := body(t, w.text, tx.ID)
			if got != want {
				t.Errorf("%s of %q:\n%q, want\n%q", protocol, text, got, want)
			}
		}
	}
}

// body is a stored message without our Received field, with id and date made
// comparable.
func body(t *testing.T, text, id string) string {
	t.Helper()
	i := strings.Index(text, "\r\n\t")
	j := strings.Index(text, fmt.Sprintf("id %s;\r\n\t", id))
	if i < 0 || j < 0 {
		t.Fatalf("no Received in %q", text)
	}
	_, rest, _ := strings.Cut(text[j+len(id)+7:], "\r\n")
	rest = strings.ReplaceAll(rest, id, "ID")
	if _, at, found := strings.Cut(rest, "Date: "); found && !strings.HasPrefix(at, "then") {
		line, _, _ := strings.Cut(at, "\r\n")
		rest = strings.Replace(rest, line, "NOW", 1)
	}
	return rest
}

// TestEditsOfHeaderless: fields that a policy adds to a message without a header
// section don't make its first lines fields.
func TestEditsOfHeaderless(t *testing.T) {
	w := open(t, nil)
	add := chain(at{hooks.Message, func(*hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.AddHeader, Name: "X-Seen", Value: "yes"}}}
	}})
	for text, want := range map[string]string{
		"just text\r\n":     "X-Seen: yes\r\n\r\njust text\r\n",
		"\r\njust text\r\n": "X-Seen: yes\r\n\r\njust text\r\n",
		"A: b\r\n\r\ntext":  "X-Seen: yes\r\nA: b\r\n\r\ntext",
	} {
		tx := transaction("a@example.net")
		if r := w.take(t, add, tx, text, 3); r.Reply.Code != 250 {
			t.Fatal(r.Reply)
		}
		if got := body(t, w.text, tx.ID); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
