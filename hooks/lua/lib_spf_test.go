package lua

import (
	"context"
	"testing"

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
