package lua

import (
	"context"
	"math/rand/v2"
	"net/netip"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/auth/spf"
)

func (st *state) openDMARC(g *lua.LTable) {
	g.RawSetString("dmarc", st.lookupLibrary(map[string]lookupFunc{"check": st.dmarcCheck, "count": st.dmarcCount}))
}

// Judged counts judged messages. It must be safe for concurrent use.
type Judged interface {
	// Add counts a message from source with the domain of its sender. disposition is
	// what was done, why what it was done for where that is not what was asked.
	Add(ctx context.Context, r *dmarc.Result, source netip.Addr, sender, disposition, why string) error
}

// dmarcCount is dmarc.count(tx, disposition, why, organization): whether the message is
// counted for the aggregate reports.
func (st *state) dmarcCount(L *lua.LState) lookup {
	if !st.messageThere(L) {
		return failed("bad", ofMessage)
	}
	done, why := L.CheckString(2), L.OptString(3, "")
	if p := dmarc.Policy(done); p != dmarc.Monitor && p != dmarc.Quarantine && p != dmarc.Reject {
		L.ArgError(2, `write "none", "quarantine" or "reject"`)
	}
	if st.script.options.Shadow && done != string(dmarc.Monitor) {
		done, why = string(dmarc.Monitor), "the policy is being tried out"
	}
	way := dmarc.Organization(L.OptString(4, string(dmarc.TreeWalk)))
	by, counter := st.spfSession(L), st.script.options.Library.Judged
	if counter == nil {
		return lookup{answer: func(L *lua.LState) int { L.Push(lua.LFalse); return 1 }}
	}
	var err error
	return lookup{
		ask: func(ctx context.Context) {
			one := st.dmarcResult(ctx, by, way)
			if err = one.err; err == nil {
				err = counter.Add(ctx, one.report, by.IP, by.Domain, done, why)
			}
		},
		answer: func(L *lua.LState) int {
			if err != nil { // mail does not wait for reports
				st.script.options.Library.Log.Warn("not counted for DMARC reports", "policy", st.script.name, "error", err)
				return fail(L, "temporary", err.Error())
			}
			L.Push(lua.LTrue)
			return 1
		},
	}
}

// dmarcCheck is dmarc.check(tx), with "suffix-list" behind it for the ways of RFC 7489.
func (st *state) dmarcCheck(L *lua.LState) lookup {
	if !st.messageThere(L) {
		return failed("bad", ofMessage)
	}
	way := dmarc.Organization(L.OptString(2, string(dmarc.TreeWalk)))
	if way != dmarc.TreeWalk && way != dmarc.SuffixList {
		L.ArgError(2, `write "tree-walk" or "suffix-list"`)
	}
	by := st.spfSession(L)
	return judging("dmarc.check", func(ctx context.Context) *judged[dmarc.Result] { return st.dmarcResult(ctx, by, way) }, st.dmarcTable)
}

// dmarcResult judges the message as it was received, once in a transaction, by what
// SPF and DKIM found, which are asked once too.
func (st *state) dmarcResult(ctx context.Context, by spf.Client, way dmarc.Organization) *judged[dmarc.Result] {
	r := st.resolver()
	return st.call.event.Findings.Once(ctx, "dmarc "+string(way), func(ctx context.Context) (any, bool) {
		signed := st.dkimReport(ctx)
		if signed.err != nil {
			return &judged[dmarc.Result]{err: signed.err}, false
		}
		client := st.spfResult(ctx, by, spf.MailFrom)
		m := dmarc.Message{From: st.originalFrom(ctx), SPF: dmarc.SPF{Verdict: string(client.Verdict), Domain: client.Domain}}
		for i := range signed.report.Results {
			s := &signed.report.Results[i]
			m.Signatures = append(m.Signatures, dmarc.Signature{Verdict: string(s.Word), Domain: s.Domain, Selector: s.Selector})
		}
		e := &dmarc.Evaluator{Resolver: r, Organization: way}
		if way == dmarc.SuffixList {
			e.Sample = func() int { return rand.IntN(100) }
		}
		result := e.Evaluate(ctx, m)
		return &judged[dmarc.Result]{report: &result}, ctx.Err() == nil
	}).(*judged[dmarc.Result])
}

// originalFrom are the From fields of the message as it came.
func (st *state) originalFrom(ctx context.Context) (fields []string) {
	open := st.opened(ctx)
	if open.err != nil {
		return nil
	}
	open.mu.Lock()
	defer open.mu.Unlock()
	for f := range open.m.Named("from") {
		fields = append(fields, f.Value())
	}
	return fields
}

// dmarcTable is a result as scripts see it; it is their own.
func (st *state) dmarcTable(r *dmarc.Result) *lua.LTable {
	st.b.spend(st.L, 512+128*(len(r.Steps)+len(r.Identifiers)))
	t := st.L.CreateTable(0, 8)
	put(t, textField("verdict", string(r.Verdict)), textField("from", r.From), textField("policy", string(r.Policy)), textField("disposition", string(r.Disposition)),
		textField("domain", r.Domain), textField("problem", r.Problem))
	st.lateFields(t, func() []slot { return st.dmarcDetails(r) })
	return t
}

// dmarcDetails are what those read who want to know how it came.
func (st *state) dmarcDetails(r *dmarc.Result) []slot {
	list := st.L.CreateTable(len(r.Identifiers), 0)
	for _, i := range r.Identifiers {
		one := st.L.CreateTable(0, 5)
		put(one, textField("method", i.Method), textField("domain", i.Domain), textField("selector", i.Selector), textField("verdict", i.Verdict), slot{"aligned", lua.LBool(i.Aligned)})
		list.Append(one)
	}
	steps := st.L.CreateTable(len(r.Steps), 0)
	for _, s := range r.Steps {
		one := st.L.CreateTable(0, 4)
		put(one, textField("what", s.What), textField("query", s.Query), slot{"answer", texts(s.Answer)}, textField("outcome", s.Outcome))
		steps.Append(one)
	}
	return []slot{
		textField("tag", r.Tag), textField("reason", r.Reason), textField("record", r.Record), textField("organization", r.Organization),
		{"spf", lua.LBool(r.SPF)},
		{"dkim", lua.LBool(r.DKIM)},
		{"identifiers", list},
		{"steps", steps},
	}
}
