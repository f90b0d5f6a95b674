package policytest

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/lua"
)

// expect is expect(value): an object whose methods say what the value is to be.
func (r *running) expect(args []any) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("expect takes one value")
	}
	got := args[0]
	method := func(f func(got any, args []any) error) lua.Function {
		return func(args []any) (any, error) {
			r.expected++
			return nil, f(got, args)
		}
	}
	return &lua.Object{Kind: "expect(value)", Methods: map[string]lua.Function{
		"accepts": method(answers("an acceptance", 2, 3)), "rejects": method(answers("a rejection", 5)), "defers": method(answers("a deferral", 4)),
		"disconnects": method(disconnects), "equals": method(equals), "matches": method(matches), "contains": method(contains),
		"is_nil": method(isNil), "is_true": method(isTrue),
	}}, nil
}

// shownReply is a reply in a message.
func shownReply(reply map[string]any) string {
	s := fmt.Sprint(reply["code"])
	for _, key := range []string{"enhanced", "text"} {
		if part := fmt.Sprint(reply[key]); part != "" {
			s += " " + part
		}
	}
	return s
}

func asReply(v any) (map[string]any, float64, error) {
	reply, _ := v.(map[string]any)
	code, ok := reply["code"].(float64)
	if !ok {
		return nil, 0, fmt.Errorf("a reply is expected, such as s:rcpt(…) returns, not %s", show(v, ""))
	}
	return reply, code, nil
}

// answers judges a reply by the class of its code.
func answers(wanted string, classes ...int) func(any, []any) error {
	return func(got any, args []any) error {
		reply, code, err := asReply(got)
		switch {
		case err != nil:
			return err
		case !slices.Contains(classes, int(code)/100):
			return fmt.Errorf("want %s, got %s", wanted+described(args), shownReply(reply))
		}
		return matchReply(reply, args)
	}
}

// described is what else was asked of a reply.
func described(args []any) string {
	s := ""
	for _, a := range args {
		if a != nil {
			s += fmt.Sprintf(" %q", a)
		}
	}
	return s
}

// matchReply compares status and text with what was asked for; a lone argument
// that is no status is a pattern of the text.
func matchReply(reply map[string]any, args []any) error {
	for i, arg := range args {
		want, ok := arg.(string)
		if !ok {
			if arg == nil {
				continue
			}
			if code, number := arg.(float64); number && i == 0 {
				if reply["code"] != code {
					return fmt.Errorf("want the code %v, got %s", code, shownReply(reply))
				}
				continue
			}
			return fmt.Errorf("argument %d must be a text", i+1)
		}
		if _, status := message.ParseEnhanced(want); status && i == 0 {
			if reply["enhanced"] != want {
				return fmt.Errorf("want the status %s, got %s", want, shownReply(reply))
			}
			continue
		}
		text, _ := reply["text"].(string)
		if err := matchText(text, want); err != nil {
			return fmt.Errorf("%w, got %s", err, shownReply(reply))
		}
	}
	return nil
}

// matchText tells whether a text matches a Lua pattern, or holds it as it is.
func matchText(text, want string) error {
	ok, err := lua.MatchPattern(text, want)
	switch {
	case ok || strings.Contains(text, want):
		return nil
	case err != nil:
		return fmt.Errorf("pattern %q: %w", want, err)
	}
	return fmt.Errorf("want a text that matches %q", want)
}

// disconnects: the server closed after this reply.
func disconnects(got any, args []any) error {
	reply, _, err := asReply(got)
	switch {
	case err != nil:
		return err
	case reply["closed"] != true:
		return fmt.Errorf("want the connection closed after the reply, got %s and it is open", shownReply(reply))
	}
	return matchReply(reply, args)
}

func equals(got any, args []any) error {
	if len(args) != 1 {
		return errors.New("equals takes one value")
	}
	want := args[0]
	if reflect.DeepEqual(plain(got), plain(want)) {
		return nil
	}
	a, b := show(want, ""), show(got, "")
	if !strings.Contains(a, "\n") && !strings.Contains(b, "\n") {
		return fmt.Errorf("want %s, got %s", a, b)
	}
	return fmt.Errorf("the values differ (- wanted, + got):\n%s", diff(a, b))
}

// plain makes an empty list and an empty table one: Lua knows no difference.
func plain(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(v[i])
		}
		return list
	case map[string]any:
		if len(v) == 0 {
			return []any{}
		}
		t := map[string]any{}
		for k := range v {
			t[k] = plain(v[k])
		}
		return t
	}
	return v
}

func matches(got any, args []any) error {
	want, err := text(args, 0)
	if err != nil {
		return err
	}
	s, ok := got.(string)
	if !ok {
		return fmt.Errorf("want a text that matches %q, got %s", want, show(got, ""))
	}
	ok, err = lua.MatchPattern(s, want)
	if err != nil {
		return fmt.Errorf("pattern %q: %w", want, err)
	}
	if !ok {
		return fmt.Errorf("want a text that matches %q, got %s", want, show(got, ""))
	}
	return nil
}

// contains: a text holds a text, a list holds a value.
func contains(got any, args []any) error {
	if len(args) != 1 {
		return errors.New("contains takes one value")
	}
	switch v := got.(type) {
	case string:
		want, err := text(args, 0)
		if err != nil {
			return err
		}
		if strings.Contains(v, want) {
			return nil
		}
	case []any:
		for _, item := range v {
			if reflect.DeepEqual(plain(item), plain(args[0])) {
				return nil
			}
		}
	default:
		return fmt.Errorf("contains looks into a text or a list, not into %s", show(got, ""))
	}
	return fmt.Errorf("want %s in it, got %s", show(args[0], ""), show(got, ""))
}

func isNil(got any, _ []any) error {
	if got != nil {
		return fmt.Errorf("want nil, got %s", show(got, ""))
	}
	return nil
}

func isTrue(got any, _ []any) error {
	if got == nil || got == false {
		return fmt.Errorf("want a true value, got %s", show(got, ""))
	}
	return nil
}

// show is a value as Lua would write it, tables over several lines.
func show(v any, indent string) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		if strings.Count(v, "\n") > 1 {
			return "[[\n" + strings.ReplaceAll(strings.TrimRight(v, "\n"), "\r", "") + "\n]]"
		}
		return strconv.Quote(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []any:
		if len(v) == 0 {
			return "{}"
		}
		var b strings.Builder
		for _, item := range v {
			fmt.Fprintf(&b, "%s  %s,\n", indent, show(item, indent+"  "))
		}
		return "{\n" + b.String() + indent + "}"
	case map[string]any:
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(&b, "%s  %s = %s,\n", indent, k, show(v[k], indent+"  "))
		}
		return "{\n" + b.String() + indent + "}"
	case *lua.Object:
		return v.Kind
	}
	return fmt.Sprint(v)
}

// maxDiff is how many lines are compared.
const maxDiff = 400

// diff compares two texts by line.
func diff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	a, b = a[:min(len(a), maxDiff)], b[:min(len(b), maxDiff)]
	same := make([][]int, len(a)+1) // the longest common part of what follows
	for i := range same {
		same[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for k := len(b) - 1; k >= 0; k-- {
			if a[i] == b[k] {
				same[i][k] = same[i+1][k+1] + 1
			} else {
				same[i][k] = max(same[i+1][k], same[i][k+1])
			}
		}
	}
	var out []string
	i, k := 0, 0
	for i < len(a) || k < len(b) {
		switch {
		case i < len(a) && k < len(b) && a[i] == b[k]:
			out = append(out, "    "+a[i])
			i, k = i+1, k+1
		case i < len(a) && (k == len(b) || same[i+1][k] >= same[i][k+1]):
			out = append(out, "  - "+a[i])
			i++
		default:
			out = append(out, "  + "+b[k])
			k++
		}
	}
	return strings.Join(out, "\n")
}
