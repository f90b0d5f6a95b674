package message

import (
	"strings"
	"testing"
)

func TestParseMailboxes(t *testing.T) {
	for field, want := range map[string]string{
		"a@example.org":                                   "[]a@example.org",
		" Jane Doe <Jane@Example.ORG>\r\n":                "[Jane Doe]Jane@example.org",
		`"Doe, Jane" <a@example.org>, b@example.org`:      "[Doe, Jane]a@example.org []b@example.org",
		"=?utf-8?q?J=C3=BCrgen?= <a@example.org>":         "[Jürgen]a@example.org",
		"friends: a@example.org, B <b@example.org>;":      "[]a@example.org [B]b@example.org",
		"billing@bank.example <x@evil.example>":           "[billing@bank.example]x@evil.example",
		"Bank: Support [1] <x@example.org>":               "[Bank: Support [1]]x@example.org",
		`"a@bank.example" <x@evil.example> (a@b.example)`: "[a@bank.example]x@evil.example",
		"Bank [1] <x@evil.example>, ceo@bank.example [":   "[Bank [1] , ceo@bank.example []x@evil.example",
		"a@example.org (Jane)":                            "[Jane]a@example.org",
		"undisclosed-recipients:;":                        "error",
		"":                                                "error",
		"nobody":                                          "error",
		"<a@example.org> <b@example.org>":                 "error",
		`"open <a@example.org>`:                           "error",
		"x <a b>":                                         "error",
		strings.Repeat("a@example.org,", 6000):            "error",
	} {
		list, err := ParseMailboxes(field)
		var got []string
		for _, m := range list {
			got = append(got, "["+m.Name+"]"+m.Address.String())
		}
		if err != nil {
			got = []string{"error"}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%.60q: %s, want %s", field, text, want)
		}
	}
}

// FuzzMailboxes: every address that is found is one.
func FuzzMailboxes(f *testing.F) {
	for _, s := range []string{"a@example.org", `"Doe, Jane" <a@example.org>, b@example.org`, "x: a@b.example;", "Bank: [1] <x@example.org>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseMailboxes(s)
		if (err == nil) != (len(list) > 0) {
			t.Fatalf("%v, %v", list, err)
		}
		for _, m := range list {
			if _, err := ParseAddress(m.Address.String()); err != nil {
				t.Fatalf("%q: %v", m.Address, err)
			}
		}
	})
}
