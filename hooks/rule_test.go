package hooks

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
)

func ruleTx() *Transaction {
	tx := NewTransaction(&Session{Client: netip.MustParseAddrPort("192.0.2.7:25"), Listener: "mx", Helo: "h.example", Relaying: true}, "message0")
	tx.Sender, tx.Size = message.Address{Local: "a", Domain: "x.example"}, 2000
	tx.Recipients = []*Recipient{{}, {}}
	tx.Scores = []Score{{Name: "helo", Points: 2}, {Name: "helo", Points: 0.5}, {Name: "dns.bl", Points: -1}}
	tx.Tags = []string{"news"}
	tx.Results = map[string]map[string]any{
		"dnsbl":   {"listed": 2.0, "zones": []any{"a", "b", "c"}, "by": map[string]any{"z": "127.0.0.2"}},
		"spf":     {"result": "fail", "ok": false},
		"my-list": {"hit": true},
	}
	return tx
}

func TestRules(t *testing.T) {
	tx := ruleTx()
	for text, want := range map[string]bool{
		"dnsbl.listed >= 2":                          true,
		"dnsbl.listed > 2":                           false,
		"dnsbl.listed == 2 and spf.result == 'fail'": true,
		`spf.result != "pass"`:                       true,
		"spf.result":                                 true,
		"spf.ok":                                     false,
		"spf.ok == false":                            true,
		"not spf.ok":                                 true,
		"not not spf.ok":                             false,
		"dnsbl":                                      true,
		"dkim":                                       false,
		"dkim.result == 'pass' or tag.news":          true,
		"dkim.a.b.c":                                 false,
		"dkim.points < 3":                            false,
		"dkim.points >= 3":                           false,
		"dkim.points != 3":                           true,
		"dkim.points ~= 3":                           true,
		"dnsbl.zones == 3":                           true,
		"dnsbl.zones > dnsbl.listed":                 true,
		"dnsbl.by.z == '127.0.0.2'":                  true,
		"dnsbl.listed == '2'":                        false,
		"my-list.hit":                                true,
		"score == 1.5":                               true,
		"score.helo == 2.5":                          true,
		"score.dns.bl < 0":                           true,
		"score.other":                                false,
		"score.other < 1":                            false,
		"tag.other":                                  false,
		"conn.relaying and conn.listener == 'mx'": true,
		"conn.ip == '192.0.2.7'":                  true,
		"conn.tls or conn.authenticated":          false,
		"sender.domain == 'x.example'":            true,
		"sender.null":                             false,
		"size >= 2e3 and recipients < 3":          true,
		"false or (true and not (false))":         true,
		"true and false or true":                  true,
		"true or false and false":                 true,
		"score > -2":                              true,
		"  dnsbl.listed\n>=\t2 ":                  true,
		"spf.result < 'g' and spf.result > 'a'":   true,
		"spf == spf":                              false,
		"spf != spf":                              true,
	} {
		r, err := ParseRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := r.Holds(tx); got != want || r.String() != text {
			t.Errorf("%s: %v", text, got)
		}
	}
	if (Rule{}).Holds(tx) {
		t.Error("the zero rule holds")
	}
}

func TestWrongRules(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "column 1: the end where a name",
		"a.b = 2":                 "column 5: to compare, write ==",
		"a.b >= ":                 "column 8: the end where a name",
		"a.b >= 2 2":              `column 10: "2" is not expected here; join`,
		"1 < 2 < 3":               "column 7: comparisons don't chain",
		"(a":                      "column 3: the end where a ) belongs",
		"a)":                      `column 2: ")" is not expected`,
		"a + 2":                   `column 3: "+" is not expected here`,
		"é":                       `column 1: "é" is not expected`,
		"'é' == ü":                `column 8: "ü"`,
		"a == 'x":                 "column 6: a string without its closing '",
		"a..b":                    "column 1: \"a..b\" has an empty part",
		"conn.colour":             `"conn.colour" is unknown; behind conn. stands one of authenticated, helo,`,
		"conn":                    `"conn" is unknown`,
		"sender.x":                `"sender.x" is unknown`,
		"size.x":                  "has no fields",
		"tag":                     "write tag.NAME",
		"1.2.3":                   `"1.2.3" is no number`,
		"and":                     `"and" where a name`,
		strings.Repeat("(", 65):   "more than 64 parentheses",
		strings.Repeat("a", 5000): "at most 4096 characters",
	} {
		if _, err := ParseRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", text, err, want)
		}
	}
}

// Whatever is written, reading it ends, and what was read can be asked.
func FuzzRule(f *testing.F) {
	for _, text := range []string{"dnsbl.listed >= 2 and not conn.relaying", `(spf.result == "fail") or tag.x`, "score.a < -1.5e3", "not not true"} {
		f.Add(text)
	}
	tx := ruleTx()
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || r.Holds(tx) != again.Holds(tx) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func BenchmarkRule(b *testing.B) {
	tx := ruleTx()
	r, err := ParseRule("dnsbl.listed >= 2 and not spf.ok and score.helo > 1")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r.Holds(tx)
	}
}
