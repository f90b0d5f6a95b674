package policytest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/lua"
)

// replyValue is a reply as tests see it.
func replyValue(r message.Reply) map[string]any {
	return map[string]any{"code": float64(r.Code), "enhanced": r.Status(), "text": r.Text}
}

// expect is expect(reply): an object with accepts, rejects and defers.
func expect(args []any) (any, error) {
	var reply map[string]any
	if len(args) == 1 {
		reply, _ = args[0].(map[string]any)
	}
	code, ok := reply["code"].(float64)
	if !ok {
		return nil, errors.New("expect takes a reply")
	}
	got := fmt.Sprintf("%v %v %v", code, reply["enhanced"], reply["text"])
	check := func(wanted string, digits ...int) lua.Function {
		return func(args []any) (any, error) {
			for _, d := range digits {
				if int(code)/100 == d {
					return nil, matchReply(got, reply, args)
				}
			}
			return nil, fmt.Errorf("want %s, got %s", wanted, got)
		}
	}
	return &lua.Object{Kind: "expect(reply)", Methods: map[string]lua.Function{
		"accepts": check("an acceptance", 2, 3), "rejects": check("a rejection", 5), "defers": check("a deferral", 4),
	}}, nil
}

// matchReply compares status and text with what was asked for; a lone argument
// that is no status is a pattern of the text.
func matchReply(got string, reply map[string]any, args []any) error {
	for i, arg := range args {
		want, ok := arg.(string)
		if !ok {
			if arg == nil {
				continue
			}
			return fmt.Errorf("argument %d must be a text", i+1)
		}
		if _, status := message.ParseEnhanced(want); status && i == 0 {
			if reply["enhanced"] != want {
				return fmt.Errorf("want the status %s, got %s", want, got)
			}
			continue
		}
		text, _ := reply["text"].(string)
		matches, err := lua.MatchPattern(text, want)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", want, err)
		}
		if !matches && !strings.Contains(text, want) {
			return fmt.Errorf("want a text that matches %q, got %s", want, got)
		}
	}
	return nil
}
