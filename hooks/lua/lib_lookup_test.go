package lua

import (
	"context"
	"errors"
	"strings"
	"testing"

	named "github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/hooks"
)

// brokenMaps fail.
type brokenMaps struct{}

func (brokenMaps) Get(context.Context, string, string) (any, bool, error) {
	return nil, false, errors.New("the disk is gone")
}

func TestLookupInLua(t *testing.T) {
	o, _ := testOptions(t)
	if err := handle(t, o, `
local v, err = lookup.get("x", "y") eq(v, nil) eq(err.kind, "bad") eq(err.text, 'there is no map "x": name it in [[lookup]]')`); err != nil {
		t.Error(err)
	}
	o.Library.Maps = brokenMaps{}
	if err := handle(t, o, `
for _, f in ipairs { lookup.get, lookup.domain } do
  local v, err = f("x", "y.example") eq(v, nil) eq(err.kind, "temporary") eq(err.text, "the disk is gone")
end
local v, err = lookup.user(rcpt, "x") eq(err.kind, "temporary")`); err != nil {
		t.Error(err)
	}
	m := exampleMaps()
	m.Put("big", map[string]any{"x": strings.Repeat("x", 1<<20), "no": false, "nested": map[string]any{"a": []any{1.0, "two"}}})
	o.Library.Maps = m
	if err := handle(t, o, `
eq(lookup.get("big", "no"), false) eq(lookup.get("big", "nested").a[2], "two")
fails("read%-only", function() lookup.get("big", "nested").a[2] = 1 end)
local v, err = lookup.get("none", "x") eq(err.kind, "bad")
v, err = lookup.ip("partners", "nonsense") eq(err.kind, "bad")
v, err = lookup.address("partners", "a b") eq(err.kind, "bad")
fails("a name is expected, not an ip", lookup.domain, "partners", tx.conn.ip)
local values, errs = parallel { { lookup.get, "partners", "example.org" }, { lookup.get, "partners", "x" }, { lookup.user, rcpt, "spam" } }
eq(values[1], "gold") eq(errs[2].kind, "none") eq(values[3], "strict")
eq(pcall(function() while true do lookup.get("big", "x") end end), false)`); err == nil || !strings.Contains(err.Error(), "limit: more than 64 MiB of text in one call") {
		t.Error(err)
	}
}

// What was asked of a map is told to the story.
func TestLookupIsTold(t *testing.T) {
	o, _ := testOptions(t)
	m := &named.Memory{}
	m.Put("m", map[string]any{"a": map[string]any{"n": 1.0}})
	o.Library.Maps = m
	p := load(t, o, `local p = policy {}
function p.rcpt() lookup.get("m", "a") lookup.get("m", "b") lookup.get("n", "a") end
return p`, nil)
	k := &keeper{}
	hooks.NewChain([]hooks.Entry{{Name: "p", Handler: p}}, hooks.Options{Observer: k}).Run(t.Context(), hooks.Rcpt, at1(testTransaction()))
	told := k.runs[0].Handlers[0].Lookups
	if len(told) != 3 || told[0] != (hooks.Lookup{Kind: "lookup.m", Question: "a", Answer: `{"n":1}`}) || told[1].Answer != "" || told[2].Error == "" {
		t.Errorf("%+v", told)
	}
}
