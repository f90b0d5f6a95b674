package plugin_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// docExample is the program that docs/plugins.md shows; TestMain builds it.
func docExample() ([]byte, error) {
	text, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		return nil, err
	}
	_, code, found := strings.Cut(string(text), "```go\n")
	code, _, ended := strings.Cut(code, "```\n")
	if !found || !ended {
		return nil, errors.New("docs/plugins.md shows no program")
	}
	return []byte(code), nil
}

// The program of the manual does what the manual says.
func TestDocExample(t *testing.T) {
	refuses := load(t, "example", plugin.Options{})
	scores := load(t, "example", plugin.Options{Settings: map[string]any{"words": []any{"casino"}, "points": 2.5}})
	tx := mail("x")
	tx.Header = message.ParseHeader([]byte("Subject: =?utf-8?q?The_Casino?=\r\n"))
	if d, err := ask(t, refuses, hooks.Headers, tx); err != nil || d.Verb != hooks.Reject || d.Reply.Text != "Refused: casino" {
		t.Errorf("%+v, %v", d, err)
	}
	d, err := ask(t, scores, hooks.Headers, tx)
	if err != nil || d.Verb != hooks.Pass || len(d.Edits) != 1 || d.Edits[0].String() != "score word +2.5 casino" {
		t.Errorf("%+v, %v", d, err)
	}
}
