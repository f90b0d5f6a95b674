package lua

import (
	"context"
	"net/netip"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/spf"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

func (st *state) openSPF(g *lua.LTable) {
	t := st.lookupLibrary(map[string]lookupFunc{"check": st.spfCheck})
	t.RawSetString("claims", st.L.NewFunction(st.spfClaims))
	g.RawSetString("spf", t)
}

// spfClaims is spf.claims(value): whether a Received-SPF field says that we wrote it.
func (st *state) spfClaims(L *lua.LState) int {
	field := L.CheckString(1)
	st.b.spend(L, len(field))
	L.Push(lua.LBool(spf.Claims(field, st.script.options.Library.Hostname)))
	return 1
}

// spfCheck is spf.check(tx), spf.check(conn) or spf.check{ip =, helo =, sender =},
// with "helo" behind it for the identity of HELO.
func (st *state) spfCheck(L *lua.LState) lookup {
	by, wrong := st.spfClient(L)
	if wrong != "" {
		return failed("bad", wrong)
	}
	identity := spf.Identity(L.OptString(2, string(spf.MailFrom)))
	if identity != spf.MailFrom && identity != spf.Helo {
		L.ArgError(2, `write "mailfrom" or "helo"`)
	}
	var result *spf.Result
	return lookup{
		ask: func(ctx context.Context) { result = st.spfResult(ctx, by, identity) },
		answer: func(L *lua.LState) int {
			t := st.spfTable(by, result)
			L.Push(t)
			return 1
		},
	}
}

// spfClient reads whom a check is about.
func (st *state) spfClient(L *lua.LState) (by spf.Client, wrong string) {
	switch v := L.Get(1).(type) {
	case *lua.LUserData:
		switch v.Value.(type) {
		case txObject, connObject:
			return st.spfSession(L), ""
		}
	case *lua.LTable:
		return st.spfArguments(L, v)
	}
	L.ArgError(1, "tx, conn or a table with ip, helo and sender is expected, not "+kindOf(L.Get(1)))
	return by, ""
}

// spfSession is the client of the call's own session, with the sender as the
// client gave it, whatever policies made of it.
func (st *state) spfSession(L *lua.LState) spf.Client {
	tx := st.call.event
	if tx == nil {
		L.RaiseError("tx and conn belong to a handler's call")
	}
	from := tx.Given
	if from.IsNull() {
		from = tx.Sender
	}
	return spf.Client{IP: tx.Session.Client.Addr(), Helo: tx.Session.Helo, Local: from.Local, Domain: from.Domain}
}

func (st *state) spfArguments(L *lua.LState, t *lua.LTable) (by spf.Client, wrong string) {
	t.ForEach(func(k, v lua.LValue) {
		switch k.String() {
		case "ip":
			if u, ok := v.(*lua.LUserData); ok {
				if a, ok := u.Value.(ipValue); ok {
					by.IP = a.Addr
					return
				}
			}
			a, err := netip.ParseAddr(v.String())
			if err != nil {
				wrong = quote(v.String()) + " is no IP address"
			}
			by.IP = a
		case "helo":
			by.Helo = v.String()
		case "sender":
			s, _ := joinable(v)
			a, err := message.ParseSender(strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">"))
			if err != nil {
				wrong = brief(s) + ": " + err.Error()
			}
			by.Local, by.Domain = a.Local, a.Domain
		default:
			L.ArgError(1, "there is no "+brief(k.String())+didYouMean(k.String(), []string{"ip", "helo", "sender"}))
		}
	})
	if wrong == "" && !by.IP.IsValid() {
		wrong = "ip is missing"
	}
	return by, wrong
}

// spfResult judges a client, once in a transaction. What the call's own end cut
// short is not remembered.
func (st *state) spfResult(ctx context.Context, by spf.Client, identity spf.Identity) *spf.Result {
	o := &st.script.options.Library
	checker := &spf.Checker{Resolver: st.resolver(), Hostname: o.Hostname, Now: o.Now}
	key := strings.Join([]string{"spf", string(identity), by.IP.String(), by.Helo, by.Local, by.Domain}, "\x00")
	find := func(ctx context.Context) (any, bool) {
		var result spf.Result
		if identity == spf.Helo {
			result = checker.CheckHelo(ctx, by)
		} else {
			result = checker.Check(ctx, by)
		}
		return &result, ctx.Err() == nil
	}
	return st.call.event.Findings.Once(ctx, key, find).(*spf.Result)
}

// resolver is what checks of senders ask; each look-up is a part of the story.
func (st *state) resolver() dns.Resolver {
	if r := st.script.options.Library.DNS; r != nil {
		return witness{r}
	}
	return witness{noDNS{}}
}

// noDNS is where there is no resolver.
type noDNS struct{ dns.Resolver }

func (noDNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &dns.Error{Kind: dns.Failure, Name: name, Type: "TXT", Text: "there is no resolver here"}
}

// spfTable is a result as scripts see it; it is their own.
func (st *state) spfTable(by spf.Client, r *spf.Result) *lua.LTable {
	st.b.spend(st.L, 256+64*len(r.Steps))
	t := st.L.CreateTable(0, 8)
	put(t, textField("verdict", string(r.Verdict)), textField("identity", string(r.Identity)), textField("domain", r.Domain), textField("sender", r.Sender),
		textField("mechanism", r.Mechanism), textField("explanation", r.Explanation), textField("problem", r.Problem))
	st.lateFields(t, func() []slot {
		steps := st.L.CreateTable(len(r.Steps), 0)
		for _, s := range r.Steps {
			one := st.L.CreateTable(0, 6)
			put(one, slot{"depth", lua.LNumber(s.Depth)}, textField("domain", s.Domain), textField("term", s.Term), textField("query", s.Query),
				slot{"answer", texts(s.Answer)}, textField("outcome", s.Outcome))
			steps.Append(one)
		}
		return []slot{textField("source", r.Source), textField("record", r.Record), textField("field", r.Field(by, st.script.options.Library.Hostname)), {"steps", steps}}
	})
	return t
}
