package lua

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/batv"
	"github.com/postern-mta/postern/core/auth/srs"
	"github.com/postern-mta/postern/core/dns"
	named "github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/hooks"
)

// show is how examples write values: texts quoted, objects by their text, tables
// with their named values in order.
const showFunctions = `local show
local function each(t)
  local parts, names = {}, {}
  for _, v in ipairs(t) do parts[#parts + 1] = show(v) end
  for k in pairs(t) do if type(k) == "string" then names[#names + 1] = k end end
  table.sort(names)
  for _, k in ipairs(names) do
    if not (k == "text" and t.kind) then parts[#parts + 1] = k .. " = " .. show(t[k]) end
  end
  if #parts == 0 then return "{}" end
  return "{ " .. table.concat(parts, ", ") .. " }"
end
function show(v)
  if type(v) == "string" then return '"' .. v .. '"' end
  if type(v) == "table" then return each(v) end
  return tostring(v)
end
local function check(want, ...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = show((select(i, ...))) end
  local got = table.concat(parts, ", ")
  if got:gsub('"', "'") ~= want:gsub('"', "'") then error("got " .. got .. ", the example says " .. want, 2) end
end
`

// checked makes the --> of an example a check, on the same lines.
func checked(example string) string {
	lines := strings.Split(example, "\n")
	for i, line := range lines {
		code, want, ok := strings.Cut(line, "-->")
		if !ok {
			continue
		}
		code, want = strings.TrimSpace(code), strconv.Quote(strings.TrimSpace(want))
		if rest, ok := strings.CutPrefix(code, "if "); ok { // the decision behind then
			condition, result, _ := strings.Cut(rest, " then return ")
			code = "if " + condition + " then local it = " + strings.TrimSuffix(result, " end") + " check(" + want + ", it) return it end"
		} else if result, ok := strings.CutPrefix(code, "return "); ok {
			code = "local it = " + result + " check(" + want + ", it) do return it end"
		} else {
			code = "check(" + want + ", " + code + ")"
		}
		lines[i] = code
	}
	return strings.Join(lines, "\n")
}

// exampleOptions is the world that examples run in.
func exampleOptions(t testing.TB) Options {
	o, _ := testOptions(t)
	zone := o.Library.DNS.(*dns.Zone)
	zone.A["six.example.org"] = []string{"2001:db8::1"}
	o.Library.Dial, o.Library.Places, o.Library.Maps = exampleNetwork(t), examplePlaces{}, exampleMaps()
	o.Library.SRS, o.Library.BATV = exampleReturns(t)
	o.Modules = append(o.Modules, fstest.MapFS{"words.lua": {Data: []byte(`return { text = "No casino here" }`)}})
	o.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(o.Dir, "words"), []byte("# ours\ncasino\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// examplePlaces knows one network.
type examplePlaces struct{}

func (examplePlaces) Lookup(addr netip.Addr) (map[string]any, error) {
	if !netip.MustParsePrefix("192.0.2.0/24").Contains(addr) {
		return nil, nil
	}
	return map[string]any{"country": map[string]any{"iso_code": "DE"}, "autonomous_system_number": 64496.0, "autonomous_system_organization": "Example"}, nil
}

// exampleReturns make senders at example.net.
func exampleReturns(t testing.TB) (*srs.Rewriter, *batv.Tagger) {
	r, err := srs.New(srs.Options{Domain: "example.net", Secrets: []string{"secret"}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := batv.New([]batv.Key{{ID: 0, Secret: "secret"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r, g
}

// exampleMaps are two maps.
func exampleMaps() *named.Memory {
	m := &named.Memory{}
	m.Put("partners", map[string]any{"example.org": "gold", ".example.com": "silver", "198.51.100.0/24": "lab"})
	m.Put("users", map[string]any{"b@example.net": map[string]any{"spam": "strict", "closed": false}, "example.net": map[string]any{"spam": "loose"}})
	return m
}

// exampleNetwork is a web server and an spamd; everything else refuses.
func exampleNetwork(t testing.TB) func(ctx context.Context, network, address string) (net.Conn, error) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		if r.Method == http.MethodPost {
			_, _ = io.Copy(w, r.Body)
			return
		}
		_, _ = io.WriteString(w, "casino")
	}))
	t.Cleanup(web.Close)
	spamd := serveLines(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if line, _ := r.ReadString('\n'); strings.HasPrefix(line, "PING") {
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(c, "SPAMD/1.5 0 PONG\r\n")
		}
	})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		switch address {
		case "api.example.net:80":
			return (&net.Dialer{}).DialContext(ctx, network, web.Listener.Addr().String())
		case "spamd.example.net:783":
			return (&net.Dialer{}).DialContext(ctx, network, spamd)
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
}

// serveLines is a server on the loopback address that handles each connection.
func serveLines(t testing.TB, handle func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

func exampleTransaction(at hooks.Stage) *hooks.Transaction {
	tx := testTransaction()
	tx.Current = tx.Recipients[0]
	switch at.Row().Scope {
	case hooks.OfDelivery, hooks.OfRecipient:
		tx.Try = &hooks.Try{Attempt: 2, NextHop: "mx", Peer: "mx.example.net", Reply: message4xx, Age: 90e9}
	}
	switch at {
	case hooks.Helo:
		tx.Capabilities = []string{"PIPELINING", "SIZE 1000", "CHUNKING"}
	case hooks.Auth:
		tx.Login = &hooks.Login{Mechanism: "PLAIN", User: "jane", Password: "secret"}
	case hooks.Command:
		tx.Command = &hooks.Line{Verb: "VRFY", Argument: "jane"}
	case hooks.DSN:
		tx.Notice = &hooks.Notice{Kind: "bounce", To: tx.Sender, Recipients: []string{"b@example.net"}}
	}
	if at == hooks.Deny {
		tx.Refusal = &hooks.Refusal{Stage: hooks.Rcpt, Policy: "other", Reply: message4xx}
	}
	return tx
}

// source is an example as a whole script.
func exampleSource(e *Entry) string {
	if strings.Contains(e.Example, "return p") {
		return showFunctions + checked(e.Example)
	}
	var names []string
	for _, p := range Arguments(e.At) {
		names = append(names, p.Name)
	}
	conn := ""
	if !slices.Contains(names, "conn") {
		conn = "local conn = tx.conn"
	}
	return fmt.Sprintf("%slocal p = policy {}\nfunction p.%s(%s) %s\n%s\nend\nreturn p\n", showFunctions, e.At, strings.Join(names, ", "), conn, checked(e.Example))
}

func TestExamples(t *testing.T) {
	for _, e := range Reference() {
		if e.Kind == LibraryEntry {
			continue
		}
		t.Run(e.Name, func(t *testing.T) {
			p := load(t, exampleOptions(t), exampleSource(&e), nil)
			_, err := p.Handle(context.Background(), e.At, exampleTransaction(e.At))
			if err != nil {
				t.Errorf("%v\n%s", err, e.Example)
			}
		})
	}
}

// Every entry is whole: a doc, an example that uses it, types that exist.
func TestReferenceIsWhole(t *testing.T) {
	known := []string{"string", "number", "integer", "boolean", "nil", "table", "function", "any", "..."}
	for _, c := range Classes() {
		known = append(known, c.Name)
	}
	for _, s := range sections() {
		if s.class != "" && !s.open && len(s.items) == 0 && s.class != "decision" {
			t.Errorf("%s has no members", s.class)
		}
	}
	seen := map[string]bool{}
	for _, e := range Reference() {
		if e.Doc == "" || e.Kind != LibraryEntry && !strings.Contains(e.Example, e.Member) {
			t.Errorf("%s has no doc, or an example without it", e.Name)
		}
		if key := e.Of + " " + e.Member; seen[key] {
			t.Errorf("%s stands there twice", e.Name)
		} else {
			seen[key] = true
		}
		types := slices.Clone(e.Returns)
		for _, p := range e.Params {
			types = append(types, p.Type)
		}
		if e.Kind != FunctionEntry && e.Kind != MethodEntry {
			types = append(types, e.Type)
			if e.Kind == LibraryEntry {
				known = append(known, e.Type)
			}
		}
		for _, one := range types {
			for _, word := range strings.FieldsFunc(one, func(r rune) bool { return strings.ContainsRune("|[]?<>(), ", r) }) {
				if !slices.Contains(known, word) && !strings.HasPrefix(word, `"`) {
					t.Errorf("%s: there is no type %q", e.Name, word)
				}
			}
		}
	}
}

// The globals and the members of every library are those of the table.
func TestReferenceOfGlobals(t *testing.T) {
	o, _ := testOptions(t)
	st := bareState(&Script{name: "x", options: o.filled()})
	defer st.L.Close()
	st.open()
	st.openLibraries(allLibraries)
	for _, name := range globalNames(st) {
		if !slices.Contains(members(""), name) {
			t.Errorf("the table lacks the global %s", name)
		}
	}
	for _, e := range Reference() {
		v := st.L.G.Global.RawGetString(e.Member)
		if e.Of == "" && v == lua.LNil {
			t.Errorf("there is no global %s", e.Name)
		}
		table, ok := v.(*lua.LTable)
		if e.Of != "" || e.Kind != LibraryEntry {
			continue
		}
		if !ok {
			t.Errorf("%s is no library", e.Name)
			continue
		}
		var real []string
		table.ForEach(func(k, _ lua.LValue) { real = append(real, k.String()) })
		sameNames(t, e.Name, real, members(e.Type))
	}
}

func sameNames(t *testing.T, what string, real, table []string) {
	t.Helper()
	for _, name := range real {
		if !slices.Contains(table, name) {
			t.Errorf("%s: the table lacks %s", what, name)
		}
	}
	for _, name := range table {
		if !slices.Contains(real, name) {
			t.Errorf("%s: there is no %s, which the table has", what, name)
		}
	}
}

// The members of every object are those of the table: its methods are asked of a
// state, its fields are the cases of the function that reads them.
func TestReferenceOfObjects(t *testing.T) {
	o, _ := testOptions(t)
	st := bareState(&Script{name: "x", options: o.filled()})
	defer st.L.Close()
	st.open()
	st.openLibraries(allLibraries)
	cases := fieldCases(t)
	for class, object := range map[string]struct {
		class *lua.LTable
		field string
	}{
		"tx": {st.tx.Metatable.(*lua.LTable), "txField"}, "conn": {st.conn.Metatable.(*lua.LTable), "connField"},
		"headers": {st.headers.Metatable.(*lua.LTable), ""}, "body": {st.body.Metatable.(*lua.LTable), "bodyField"},
		"recipients": {st.rcptList, ""}, "rcpt": {st.rcptClass, "rcptField"}, "rcpthead": {st.copyClass, ""}, "notice": {st.noticeClass, "noticeField"}, "capabilities": {st.capabilities.Metatable.(*lua.LTable), ""}, "plan": {st.planClass, "planField"},
		"connection": {st.tcpClass, ""}, "mime": {st.mime.Metatable.(*lua.LTable), "mimeField"}, "part": {st.partClass, "partField"},
		"address": {st.addressClass, "addressField"}, "ip": {st.ipClass, "ipField"}, "regex": {st.regexClass, ""}, "setting": {st.kind, ""},
	} {
		real := slices.Clone(cases[object.field])
		delete(cases, object.field)
		if methods, ok := object.class.RawGetString("__index").(*lua.LTable); ok {
			methods.ForEach(func(k, _ lua.LValue) { real = append(real, k.String()) })
		}
		if len(editStages(hooks.AddRcptHeader)) == 0 {
			real = slices.DeleteFunc(real, func(name string) bool { return class == "rcpthead" || class == "rcpt" && name == "headers" })
		}
		sameNames(t, class, real, members(class))
	}
	delete(cases, "noteField") // any name
	for name := range cases {
		t.Errorf("%s reads the fields of an object that no table is compared with", name)
	}
}

// fieldCases finds, for each function of this package named …Field, the texts of
// its cases, those of names that only a later version has left out.
func fieldCases(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasSuffix(fn.Name.Name, "Field") || fn.Recv == nil {
				continue
			}
			found[fn.Name.Name] = []string{}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if b, ok := n.(*ast.BinaryExpr); ok && b.Op == token.NEQ { // if key != "size"
					found[fn.Name.Name] = append(found[fn.Name.Name], literals([]ast.Expr{b.Y})...)
				}
				if c, ok := n.(*ast.CaseClause); ok {
					found[fn.Name.Name] = append(found[fn.Name.Name], literals(c.List)...)
				}
				return true
			})
		}
	}
	return found
}

func literals(list []ast.Expr) (texts []string) {
	for _, e := range list {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, _ := strconv.Unquote(lit.Value)
			texts = append(texts, text)
		}
	}
	return texts
}

// samplePart is an archive in an archive, whose name is not the same everywhere.
const samplePart = `mime.parse("Content-Transfer-Encoding: base64\r\n\r\nUEsDBBQAAAAIAAAAIQAGVQg9LwAAAGwAAAAFAAAAYi56aXAL8GZmEWGAAEUGZMAKxBV6qRWpAd6MTCLMuBXBQAMjA0ILKxuIwwiExkBaGawAAFBLAQIUAxQAAAAIAAAAIQAGVQg9LwAAAGwAAAAFAAAAAAAAAAAAAACAAQAAAABhLnppcFBLBQYAAAAAAQABADMAAABSAAAAAAA=\r\n").root`

// The plain tables that calls give have the fields of the table.
func TestReferenceOfPlainTables(t *testing.T) {
	samples := map[string]struct {
		at   hooks.Stage
		give string
	}{
		"login": {hooks.Auth, "login"}, "line": {hooks.Command, "line"},
		"refusal": {hooks.Deny, "refusal"}, "tls": {hooks.Rcpt, "tx.conn.tls"}, "totals": {hooks.Rcpt, "tx.conn.totals"}, "reply": {hooks.Deferred, "try.reply"},
		"mx": {hooks.Rcpt, `dns.mx("example.org")[1]`}, "listing": {hooks.Rcpt, `dns.listed("bad.example", "dbl.example")[1]`}, "error": {hooks.Rcpt, `select(2, dns.a("nothing.example"))`},
		"response":  {hooks.Rcpt, `http.get("http://api.example.net/words")`},
		"date":      {hooks.Rcpt, `time.date(now())`},
		"filevalue": {hooks.Rcpt, "p.f"},
		"mailbox":   {hooks.Rcpt, `addr.list("a@example.org")[1]`},
		"archive":   {hooks.Message, samplePart + ":archive{ depth = 1 }"},
		"entry":     {hooks.Message, samplePart + ":archive{ depth = 1 }.entries[1]"},
		"spfresult": {hooks.Rcpt, "spf.check(tx)"}, "spfstep": {hooks.Rcpt, "spf.check(tx).steps[1]"},
		"dkimresult": {hooks.Message, "dkim.check(tx)"}, "dkimsignature": {hooks.Message, "dkim.check(tx).signatures[1]"},
		"dmarcresult": {hooks.Message, "dmarc.check(tx)"}, "dmarcidentifier": {hooks.Message, "dmarc.check(tx).identifiers[1]"}, "dmarcstep": {hooks.Message, "dmarc.check(tx).steps[1]"},
		"arcresult": {hooks.Message, "arc.check(tx)"}, "arcset": {hooks.Message, "arc.check(tx).sets[1]"}, "arcfinding": {hooks.Message, "arc.check(tx).sets[1].findings[1]"},
	}
	for _, c := range Classes() {
		if !c.Plain {
			continue
		}
		sample, ok := samples[c.Name]
		if !ok {
			t.Errorf("no sample of %s", c.Name)
			continue
		}
		var names []string
		for _, p := range Arguments(sample.at) {
			names = append(names, p.Name)
		}
		source := fmt.Sprintf("local p = policy { settings = { f = file 'words' } }\nfunction p.%s(%s)\nlocal all = {}\nfor k in pairs(%s) do all[#all + 1] = k end\nerror(table.concat(all, ' '), 0)\nend\nreturn p", sample.at, strings.Join(names, ", "), sample.give)
		tx := exampleTransaction(sample.at)
		tx.Session.TLS.Client = "CN=x"
		_, err := load(t, exampleOptions(t), source, nil).Handle(t.Context(), sample.at, tx)
		if err == nil {
			t.Fatal("no error")
		}
		_, list, _ := strings.Cut(err.Error(), ": ")
		sameNames(t, c.Name, strings.Fields(list), members(c.Name))
	}
}

// What a stage's function is given is what Arguments says.
func TestReferenceOfArguments(t *testing.T) {
	for _, row := range hooks.Stages() {
		o, _ := testOptions(t)
		var kinds []string
		p := load(t, o, fmt.Sprintf("local p = policy {}\nfunction p.%s(...)\nlocal all = {}\nfor i = 1, select('#', ...) do all[i] = tostring((select(i, ...))):match('^%%w+') end\nerror(table.concat(all, ' '), 0)\nend\nreturn p", row.Name), nil)
		_, err := p.Handle(t.Context(), row.Stage, exampleTransaction(row.Stage))
		if err == nil {
			t.Fatal("no error")
		}
		_, text, _ := strings.Cut(err.Error(), ": ")
		kinds = strings.Fields(text)
		shown := map[string]string{"rcpt": "b", "tx|conn": "tx", "refusal": "table", "login": "table", "line": "table"}
		var want []string
		for _, p := range Arguments(row.Stage) {
			want = append(want, cmp.Or(shown[p.Type], p.Type))
		}
		if !slices.Equal(kinds, want) {
			t.Errorf("%s gets %v, and the table says %v", row.Name, kinds, want)
		}
	}
}

// A name that is wrong is told with what is near.
func TestDidYouMean(t *testing.T) {
	for source, want := range map[string]string{
		`return tx.sendr`:                `test.lua:3: tx has no member "sendr"; did you mean "sender"?`,
		`return tx.conn.hello`:           `test.lua:3: conn has no member "hello"; did you mean "helo"?`,
		`dns.aa("x.example")`:            `test.lua:3: dns has no member "aa"; did you mean "a"?`,
		`dns.dnsbll(tx.conn.ip)`:         `test.lua:3: dns has no member "dnsbll"; did you mean "dnsbl"?`,
		`store.puts("x", 1)`:             `test.lua:3: store has no member "puts"; did you mean "put"?`,
		`string.uper("x")`:               `test.lua:3: string has no member "uper"; did you mean "upper"?`,
		`("x"):uper()`:                   `test.lua:3: string has no member "uper"; did you mean "upper"?`,
		`return table.contact({})`:       `test.lua:3: table has no member "contact"; did you mean "concat"?`,
		`return math.flor(1)`:            `test.lua:3: math has no member "flor"; did you mean "floor"?`,
		`tx:scor("x", 1)`:                `test.lua:3: tx has no member "scor"; did you mean "score"?`,
		`tx.recipients:ad("x")`:          `test.lua:3: tx.recipients has no member "ad"; did you mean "add"?`,
		`return rcpt.adress`:             `test.lua:3: rcpt has no member "adress"; did you mean "address"?`,
		`return tx.sender.usr`:           `test.lua:3: an address has no member "usr"; did you mean "user"?`,
		`return tx.conn.ip.prefx`:        `test.lua:3: an ip has no member "prefx"; did you mean "prefix"?`,
		`return regex.compile("a").mach`: `test.lua:3: a regex has no member "mach"; did you mean "match"?`,
		`dns.a({})`:                      `test.lua:3: bad argument #1 to a (string expected, got table)`,
		`tx:score("x", "many")`:          `test.lua:3: bad argument #3 to score (number expected, got string)`,
	} {
		_, err := body(t, hooks.Rcpt, source)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", source, err, want)
		}
	}
}

// Every type of a setting has a value of a type that the table knows.
func TestValueTypes(t *testing.T) {
	for kind, want := range map[string]string{
		"string": "string", "secret": "string", "duration": "number", "size": "integer", "list(list(duration))": "number[][]", "map(regexp)": "table<string, regex?>",
		`enum{"a", "b"}`: "string", "cidrs": "cidrs", "domains": "domainlist", "file": "filevalue?",
	} {
		if got := (Setting{Type: kind}).ValueType(); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}
