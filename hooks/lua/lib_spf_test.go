package lua

import (
	"context"
	"net/netip"
	"testing"

	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/hooks"
)

// txtCounter counts questions for TXT records.
type txtCounter struct {
	dns.Resolver
	asked int
}

func (c *txtCounter) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.asked++
	return c.Resolver.LookupTXT(ctx, name)
}

// A verdict is found once in a transaction, whoever asks, at whatever stage; another
// transaction is judged anew.
func TestSPFIsAskedOnce(t *testing.T) {
	o, _ := testOptions(t)
	counter := &txtCounter{Resolver: o.Library.DNS}
	o.Library.DNS = counter
	const source = `local p = policy {}
local function ask(tx) if spf.check(tx).verdict ~= "pass" then error(spf.check(tx).verdict) end end
p.mail, p.rcpt, p.message = ask, ask, ask
return p`
	one, two := load(t, o, source, nil), load(t, o, source, nil)
	for round := 1; round <= 2; round++ {
		tx := testTransaction()
		for _, p := range []*Policy{one, two} {
			for _, at := range []hooks.Stage{hooks.Mail, hooks.Rcpt, hooks.Message} {
				if _, err := p.Handle(t.Context(), at, tx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if counter.asked != round {
			t.Errorf("%d questions after %d transactions", counter.asked, round)
		}
	}
}

// countedMessage is what was counted for a report.
type countedMessage struct{ verdict, source, sender, done, why string }

type countedMessages []countedMessage

func (c *countedMessages) Add(_ context.Context, r *dmarc.Result, source netip.Addr, sender, disposition, why string) error {
	*c = append(*c, countedMessage{string(r.Verdict), source.String(), sender, disposition, why})
	return nil
}

func TestDMARCCount(t *testing.T) {
	o, _ := testOptions(t)
	var seen countedMessages
	o.Library.Judged = &seen
	p := load(t, o, `local p = policy {}
function p.message(tx)
  if dmarc.count(tx, "none", "a list") ~= true then error("not counted") end
  if pcall(dmarc.count, tx, "deliver") then error("taken") end
end
return p`, nil)
	if _, err := p.Handle(t.Context(), hooks.Message, testTransaction()); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0] != (countedMessage{"pass", "192.0.2.1", "example.org", "none", "a list"}) {
		t.Errorf("%+v", seen)
	}
	// In shadow mode nothing was done, whatever the policy says.
	seen, o.Shadow = nil, true
	p = load(t, o, `local p = policy {}
function p.message(tx) dmarc.count(tx, "reject") dmarc.count(tx, "none", "a list") end
return p`, nil)
	if _, err := p.Handle(t.Context(), hooks.Message, testTransaction()); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0].done != "none" || seen[0].why != "the policy is being tried out" || seen[1].why != "a list" {
		t.Errorf("%+v", seen)
	}
}

// Members that are made when they are first read are there for whoever reads them, walks
// the table or hands it on.
func TestLateMembers(t *testing.T) {
	runChecks(t, hooks.Message, `
local function names(next, t)
  local list = {}
  local k, v = next(t)
  while k ~= nil do list[#list + 1] = k k, v = next(t, k) end
  table.sort(list)
  return table.concat(list, " ")
end
local all = "domain explanation field identity mechanism problem record sender source steps verdict"
eq(names(next, spf.check(tx)), all)
local walked = {}
for k in pairs(spf.check(tx)) do walked[#walked + 1] = k end
table.sort(walked)
eq(table.concat(walked, " "), all)
local it = spf.check(tx)
eq(it.absent, nil) eq(it.verdict, "pass") eq(#it.steps > 0, true) eq(it.field:sub(1, 6), "pass (")
it = spf.check(tx)
eq(getmetatable(it), nil)
it = spf.check(tx)
it.mine, it.record = "x", "y"
eq(it.field ~= nil, true) eq(it.mine, "x") eq(it.record, "y")
eq(json.decode(json.encode(dkim.check(tx))).signatures[1].canon ~= nil, true)
tx:result("seen", dmarc.check(tx))
eq(type(tx:results("seen").identifiers), "table") eq(tx:results("seen").spf, true)
eq((("{source}"):gsub("{(%w+)}", spf.check(tx))) ~= "{source}", true)
`)
}

func TestSPFArguments(t *testing.T) {
	runChecks(t, hooks.Connect, `
eq(spf.check{ ip = conn.ip, helo = "example.org" }.verdict, "pass")
eq(spf.check{ ip = "192.0.2.1", sender = "<>", helo = "example.org" }.identity, "mailfrom")
eq(spf.check{ ip = "192.0.2.1", sender = addr.parse("x@example.org") }.sender, "x@example.org")
local v, err = spf.check{ helo = "x" } eq(v, nil) eq(err.kind, "bad")
v, err = spf.check{ ip = "192.0.2.1", sender = "a b" } eq(err.kind, "bad")
eq(spf.check{ ip = "192.0.2.1", sender = "a@slow.example" }.verdict, "temperror")
local found, errs = parallel { { spf.check, conn }, { spf.check, { ip = "192.0.2.1", sender = "a@example.org" } } }
eq(found[2].mechanism, "mx") eq(found[1].verdict, "pass")
eq(pcall(spf.check, { ipp = "x" }), false) eq(pcall(spf.check, conn, "both"), false) eq(pcall(spf.check, "x"), false)
`)
}
