package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// flat lists every path of a tree of lines.
func flat(n *node, path string, out map[string]int) {
	for name, c := range n.keys {
		out[join(path, name)] = c.line
		flat(c, join(path, name), out)
	}
	for i, c := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		out[at] = c.line
		flat(c, at, out)
	}
}

func TestLinesOfEveryForm(t *testing.T) {
	text := strings.Join([]string{
		"\ufeff# a comment = [ { \" ' ]", // 1
		"plain = 1 # [no] = 2",           // 2
		`"quo\u0074ed.key" = "x # y ]"`,  // 3
		"'lit eral' = 'c:\\'",            // 4
		"a.b . \"c\" = true",             // 5
		"[ t . \"u\" ] # comment",        // 6
		"text = \"\"\"",                  // 7
		"not = 'a key'",                  // 8
		"\\\"\"\" quote \"\"\"\"\"",      // 9: ends with two quotes and the closing three
		"raw = '''",                      // 10
		"[no.table]",                     // 11
		"''''",                           // 12: one quote and the closing three
		"after = [",                      // 13
		"  1, # one ]",                   // 14
		"",                               // 15
		"  { x = [ 2,",                   // 16
		"    3 ], y.z = '}' },",          // 17
		"  [ '4', \"\"\"5",               // 18
		"\"\"\" ],",                      // 19
		"]",                              // 20
		"[[list]]",                       // 21
		"k = 1\r",                        // 22
		"[list.sub]",                     // 23
		"k = 2",                          // 24
		"[[list.many]]",                  // 25
		"[[list]]",                       // 26
		"[[list.many]]",                  // 27
		"k = 1979-05-27 07:32:00",        // 28
	}, "\n")
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		t.Fatalf("the sample is not TOML: %v", err)
	}
	root, deep := scan(text)
	if deep != 0 {
		t.Fatalf("too deep at %d", deep)
	}
	want := map[string]int{
		"plain": 2, "quoted.key": 3, "lit eral": 4, "a": 5, "a.b": 5, "a.b.c": 5, "t": 6, "t.u": 6, "t.u.text": 7, "t.u.raw": 10,
		"t.u.after": 13, "t.u.after[0]": 14, "t.u.after[1]": 16, "t.u.after[1].x": 16, "t.u.after[1].x[0]": 16, "t.u.after[1].x[1]": 17,
		"t.u.after[1].y": 17, "t.u.after[1].y.z": 17, "t.u.after[2]": 18, "t.u.after[2][0]": 18, "t.u.after[2][1]": 18,
		"list": 21, "list[0]": 21, "list[0].k": 22, "list[0].sub": 23, "list[0].sub.k": 24, "list[0].many": 25, "list[0].many[0]": 25,
		"list[1]": 26, "list[1].many": 27, "list[1].many[0]": 27, "list[1].many[0].k": 28,
	}
	got := map[string]int{}
	flat(root, "", got)
	for path, line := range want {
		if got[path] != line {
			t.Errorf("%s is at line %d, want %d", path, got[path], line)
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("found what is not there: %v", got)
	}
}

func TestFindFollowsAPathAsFarAsItGoes(t *testing.T) {
	root, _ := scan("a = [\n 1,\n { b = 2,\n c = 3 } ]\n")
	for path, want := range map[string]int{"a": 1, "a[0]": 2, "a[1].c": 4, "a[1].d": 3, "a[7]": 1, "a[x]": 1, "a.b": 1} {
		if n := root.find(path); n == nil || n.line != want {
			t.Errorf("find(%q) = %+v, want line %d", path, n, want)
		}
	}
	for _, path := range []string{"", "z", "z.a", "[0]", "."} {
		if n := root.find(path); n != nil {
			t.Errorf("find(%q) = %+v", path, n)
		}
	}
}

func TestScanStopsWhereTablesNestTooDeep(t *testing.T) {
	for _, open := range []string{"[", "{a=", "{a=[", "{ a . a = "} {
		if _, deep := scan("\nx = " + strings.Repeat(open, 1000)); deep != 2 {
			t.Errorf("%q: too deep at line %d", open, deep)
		}
	}
	if _, deep := scan("\n" + strings.Repeat("a.", 1000) + "a = 1"); deep != 2 {
		t.Errorf("dots: too deep at line %d", deep)
	}
	if _, deep := scan("\n[" + strings.Repeat("a.", 1000) + "a]"); deep != 2 {
		t.Errorf("header: too deep at line %d", deep)
	}
	if _, deep := scan("x = [[[{a=[[1]]}]]]\n"); deep != 0 {
		t.Errorf("too deep at line %d", deep)
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"hops", "errors", "recipients", "connections", "connections_per_client"}
	for word, want := range map[string]string{
		"hopps": "hops", "hosp": "hops", "HOPS": "hops", "recipient": "recipients", "conections": "connections",
		"connection_per_clients": "connections_per_client", "zebra": "", "": "", "e": "", strings.Repeat("x", 1000): "",
	} {
		if got := Suggest(word, names); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestProblemsPrint(t *testing.T) {
	p := Problems{
		{File: "b", Line: 2, Key: "k", Text: "x\ny"},
		{File: "b", Line: 1, Text: "w", Warning: true},
		{File: "a", Line: 3, Key: "k", Text: "z"},
	}.Sorted()
	if got, want := p.Error(), "a:3: k: z\nb:1: warning: w\nb:2: k: x y"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if p.Warnings().Err() != nil || len(p.Warnings()) != 1 || p.Err() == nil || len(p.Errors()) != 2 {
		t.Errorf("warnings %v, errors %v", p.Warnings(), p.Errors())
	}
}

func TestProblemOfAKeyStandsWhereTheKeyDoes(t *testing.T) {
	write(t, map[string]string{"postern.toml": "[limits]\nhops = 3\n[tls]\n\n[dns]\nservers = [\n\"::1\",\n\"::2\"]\n[delivery]\n[[delivery.rule]]\ndestination = [\"x\"]\nrate = \"1/s\"\n"})
	c, problems := Load("postern.toml", Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got := []string{}
	for _, key := range []string{"limits.hops", "limits.errors", "tls.key[1]", "dns.servers[1]", "dns.servers[9]", "console.address", "delivery.helo"} {
		got = append(got, c.Problem(key, "x").String())
	}
	got = append(got, c.Delivery.Rules[0].Problem("rate", "x").String(), c.Listen[0].Problem("address", "x").String())
	want := []string{
		"postern.toml:2: limits.hops: x", "postern.toml:1: limits.errors: x", "postern.toml:3: tls.key[1]: x", "postern.toml:8: dns.servers[1]: x",
		"postern.toml:6: dns.servers[9]: x", "postern.toml:1: console.address: x", "postern.toml:9: delivery.helo: x",
		"postern.toml:12: delivery.rule.rate: x", "postern.toml:1: listen.address: x",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
