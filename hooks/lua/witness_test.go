package lua

import (
	"context"
	"testing"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/hooks"
)

type keeper struct{ runs []hooks.StageRun }

func (k *keeper) Stage(_ *hooks.Transaction, run hooks.StageRun) { k.runs = append(k.runs, run) }

// What a script asked is kept with its answer, and a resolver that remembers says
// the same again; what was not asked is counted.
func TestLookupsAreKeptAndRemembered(t *testing.T) {
	o, _ := testOptions(t)
	p := load(t, o, `local p = policy {}
function p.rcpt(tx)
  local function say(v, err) return v and (type(v) == "table" and json.encode(v) or v) or err.kind end
  tx.notes.said = table.concat({
    say(dns.a("mx.example.org")), say(dns.mx("example.org")), say(dns.txt("t.example")), say(dns.ptr("192.0.2.1")),
    say(dns.a("nothing.example")), say(dns.a("slow.example")), say(dns.aaaa("six.example.org")), tx.conn.host or "-",
  }, " ")
end
return p`, nil)
	k := &keeper{}
	run := func(h hooks.Handler, observer hooks.Observer) any {
		tx := testTransaction()
		at1(tx)
		hooks.NewChain([]hooks.Entry{{Handler: h}}, hooks.Options{Observer: observer}).Run(t.Context(), hooks.Rcpt, tx)
		return tx.Notes["said"]
	}
	first := run(p, k)
	if first == nil || len(k.runs) != 1 {
		t.Fatalf("%v, %+v", first, k.runs)
	}
	memory := &Remembered{}
	asked := k.runs[0].Handlers[0].Lookups
	for _, l := range asked {
		memory.Remember(l)
	}
	if len(asked) < 8 || memory.Answers[[2]string{"host", "192.0.2.1"}].Answer != "mx.example.org" {
		t.Errorf("%+v", asked)
	}
	o2, _ := testOptions(t)
	o2.Library.DNS = memory
	again := load(t, o2, `local p = policy {}
function p.rcpt(tx)
  local function say(v, err) return v and (type(v) == "table" and json.encode(v) or v) or err.kind end
  tx.notes.said = table.concat({
    say(dns.a("MX.example.org")), say(dns.mx("example.org")), say(dns.txt("t.example")), say(dns.ptr("192.0.2.1")),
    say(dns.a("nothing.example")), say(dns.a("slow.example")), say(dns.aaaa("six.example.org")), tx.conn.host or "-",
  }, " ")
end
return p`, nil)
	if got := run(again, nil); got != first || memory.Unknown != 0 {
		t.Errorf("%v, want %v; %d unknown", got, first, memory.Unknown)
	}
	if _, err := memory.LookupA(t.Context(), "new.example"); err == nil || memory.Unknown != 1 {
		t.Errorf("%v, %d unknown", err, memory.Unknown)
	}
	memory.Live = &dns.Zone{A: map[string][]string{"new.example": {"192.0.2.9"}}}
	if list, err := memory.LookupA(context.Background(), "new.example"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}
