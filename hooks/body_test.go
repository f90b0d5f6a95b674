package hooks

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
)

func TestBodyEdits(t *testing.T) {
	tx := newTx(t)
	edits := []Edit{
		{Kind: ReplaceHeader, Name: "Subject", Value: "Grüße"},
		{Kind: ReplaceBody, Name: "text/plain", Value: "new text"},
		{Kind: AddFooter, Any: map[string]any{"text": "bye"}},
	}
	if err := apply(Message, tx, edits); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(message.NewReader(tx.Body))
	want := "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nReceived: y\r\n\r\nnew text\r\n\r\nbye\r\n"
	if err != nil || string(got) != want || tx.Content != int64(strings.Index(want, "new")) {
		t.Errorf("%q %v, content at %d", got, err, tx.Content)
	}
	if s := edits[2].String(); s != "body:footer in the text" {
		t.Errorf("the story says %q", s)
	}
	if s := edits[1].String(); s != "body:replace text/plain 8 bytes" {
		t.Errorf("the story says %q", s)
	}
	for range maxBodyEdits {
		if err = apply(Message, tx, edits[2:]); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrBody) {
		t.Errorf("footers without end: %v", err)
	}
}

// A body that should have been changed and could not be is never passed on, even
// where the policy's failures are.
func TestFailedBodyEditDefers(t *testing.T) {
	broken := Edit{Kind: ReplaceBody, Value: "a\x00"}
	for _, e := range []Edit{broken, {Kind: AddFooter, Any: "x"}, {Kind: AddFooter, Any: map[string]any{"texts": "x"}}, {Kind: AddFooter, Any: map[string]any{"top": true}}} {
		p := says("p", Decision{Edits: []Edit{{Kind: AddHeader, Name: "X-A", Value: "1"}, e}}, Message)
		c := NewChain([]Entry{{Handler: p, FailOpen: true}}, Options{})
		tx := newTx(t)
		if d := c.Run(t.Context(), Message, tx); d.Verb != Defer || d.Reply.Code != 451 {
			t.Errorf("%s: %+v", e, d)
		}
		if tx.Header.Count("X-A") != 0 || tx.Content != 0 {
			t.Errorf("%s left something", e)
		}
	}
}
