package lua

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// answerOf runs a handler and gives its decision.
func answerOf(t *testing.T, at hooks.Stage, statements string) hooks.Decision {
	t.Helper()
	d, err := body(t, at, statements)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Each member that changes something is the edit of that name.
func TestEditsOfMembers(t *testing.T) {
	for _, c := range []struct {
		at     hooks.Stage
		source string
		want   string
	}{
		{hooks.Rcpt, `tx:pardon()`, "pardon ; "},
		{hooks.Rcpt, `tx:pardon("dnsbl") rcpt:pardon("dnsbl")`, "pardon dnsbl; pardon dnsbl for b@example.net; "},
		{hooks.Connect, `conn:pardon("x")`, "pardon x; "},
		{hooks.Mail, `tx.sender = "" tx:ret("hdrs")`, "sender ; ret hdrs; "},
		{hooks.Rcpt, `rcpt:notify("success, delay")`, "notify success, delay for b@example.net; "},
		{hooks.Rcpt, `rcpt.notes.seen = 3 tx.recipients[2].notes.seen = 4`, "rcpt.notes seen=3 for b@example.net; rcpt.notes seen=4 for c@example.net; "},
		{hooks.Rcpt, `rcpt:replace("z@example.net") rcpt.notes.seen = 3`, "recipients:replace z@example.net; rcpt.notes seen=3 for z@example.net; "},
		{hooks.Helo, `conn.capabilities:add(" X-OURS 1 2 ") conn.capabilities:remove("SIZE")`, "capabilities:add X-OURS 1 2; capabilities:remove SIZE; "},
		{hooks.DSN, `rcpt.to = "pm@example.net"`, "notice.to pm@example.net; "},
	} {
		var b strings.Builder
		for _, e := range answerOf(t, c.at, c.source).Edits {
			fmt.Fprintf(&b, "%s ", e.Kind)
			if e.Any != nil {
				fmt.Fprintf(&b, "%s=%v", e.Name, e.Any)
			}
			b.WriteString(e.Value)
			if e.Rcpt != "" {
				b.WriteString(" for " + e.Rcpt)
			}
			b.WriteString("; ")
		}
		if got := strings.ReplaceAll(b.String(), "  ", " "); got != c.want {
			t.Errorf("%s: %s", c.source, got)
		}
	}
}

func TestCapabilitiesAsTheyWillBe(t *testing.T) {
	runChecksOn(t, hooks.Helo, `
local c = conn.capabilities
eq(#c:list(), 2) eq(c:get("size"), "1000") eq(c:get("CHUNKING"), nil)
c:add("size 5") eq(c:get("SIZE"), "5") eq(#c:list(), 2)
c:remove("pipelining") eq(c:get("PIPELINING"), nil) eq(#c:list(), 1)
fails("read%-only", function() c:list()[1] = "x" end)
`)
}

func runChecksOn(t *testing.T, at hooks.Stage, statements string) {
	t.Helper()
	o, _ := testOptions(t)
	p := load(t, o, fmt.Sprintf("%slocal p = policy {}\nfunction p.%s(conn)\n%s\nend\nreturn p\n", checkFunctions, at, statements), nil)
	tx := testTransaction()
	tx.Capabilities = []string{"PIPELINING", "SIZE 1000"}
	if _, err := p.Handle(t.Context(), at, tx); err != nil {
		t.Error(err)
	}
}

func TestEachRecipient(t *testing.T) {
	show := func(d hooks.Decision) string {
		var words []string
		for _, i := range slices.Sorted(maps.Keys(d.Each)) {
			words = append(words, fmt.Sprintf("%d %s %s", i, d.Each[i].Verb, strings.TrimSpace(d.Each[i].Reason+d.Each[i].Reply.Text)))
		}
		return strings.Join(words, ", ")
	}
	for source, want := range map[string]string{
		`return tx:each_rcpt(function(r) if r.user == "c" then return reject("No %s", r.user) end end)`: "1 reject No c",
		`return tx:each_rcpt(function(r) return discard(r.address) end)`:                                "0 discard b@example.net, 1 discard c@example.net",
		`return tx:each_rcpt(function(r) return pass() end)`:                                            "0 pass , 1 pass ",
		`return tx:each_rcpt(function() end)`:                                                           "",
		// What the call itself added is not judged, what it removed neither.
		`tx.recipients:add("new@example.net") tx.recipients:remove("b@example.net") return tx:each_rcpt(function(r) return quarantine(r.user) end)`: "1 quarantine c",
	} {
		d := answerOf(t, hooks.Message, source)
		if got := strings.ReplaceAll(show(d), "pass ,", "pass,"); strings.TrimSpace(got) != strings.TrimSpace(strings.ReplaceAll(want, "pass ,", "pass,")) || d.Verb != hooks.Pass {
			t.Errorf("%s: %s", source, got)
		}
	}
}

// The keys of policy{…} that say when it is asked and when it refuses.
func TestPolicyKeysOfTime(t *testing.T) {
	o, _ := testOptions(t)
	s, problems := Compile("x.lua", []byte(`local p = policy { deny_at = "rcpt", every = "1m" }
function p.tick() end
return p`), o)
	if len(problems) > 0 || s.DenyAt() != hooks.Rcpt || s.Every().Seconds() != 60 {
		t.Errorf("%v", problems)
	}
	for source, want := range map[string]string{
		`policy { deny_at = "connect" }`: `deny_at takes one of "helo", "mail", "rcpt"`,
		`policy { deny_at = 3 }`:         `, not 3`,
		`policy { every = "10ms" }`:      "every: write a time of a second or more",
		`policy { every = "soon" }`:      "every: ",
	} {
		_, problems := Compile("x.lua", []byte("local p = "+source+"\nfunction p.rcpt() end\nreturn p"), o)
		if len(problems) != 1 || !strings.Contains(problems[0].Text, want) || problems[0].Line != 1 {
			t.Errorf("%s: %+v", source, problems)
		}
	}
}
