package gate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func compile(t testing.TB, text string) (name string, errs []RuleError) {
	t.Helper()
	rules, errs := ParseRulesFor(strings.NewReader(text), WithIdent)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	f, err := os.CreateTemp(t.TempDir(), "*.cdb")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	errs, err = rules.Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	return f.Name(), errs
}

// generated is a set of rules; with wide it has what tcprules does not know, too.
func generated(r *rand.Rand, wide bool) string {
	var b strings.Builder
	octet := func() int { return r.IntN(3) }
	host := func() string {
		if wide && r.IntN(4) == 0 {
			return "b.A.example"
		}
		return []string{"a.example", "b.a.example", "example", "c.b.a.example"}[r.IntN(4)]
	}
	n := 3 + r.IntN(25)
	for range n {
		address := ""
		kinds := 11
		if wide {
			kinds = 16
		}
		switch r.IntN(kinds) {
		case 0, 1:
			address = fmt.Sprintf("10.%d.%d.%d", octet(), octet(), octet())
		case 2:
			address = fmt.Sprintf("10.%d.%d.", octet(), octet())
		case 3:
			address = fmt.Sprintf("10.%d.%d.%d-%d", octet(), octet(), octet(), 2+octet())
		case 4:
			address = fmt.Sprintf("10.%d-%d.", octet(), 2+octet())
		case 5:
			address = "10."
		case 6:
			address = "=" + host()
		case 7:
			address = "=." + host()
		case 8:
			address = []string{"joe", "Ann"}[r.IntN(2)] + fmt.Sprintf("@10.%d.%d.%d", octet(), octet(), octet())
		case 9:
			address = "joe@=" + host()
		case 10:
			address = []string{"", "="}[r.IntN(2)]
		case 11, 12:
			net := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(octet()), byte(octet()), byte(octet())}), 4+r.IntN(21))
			address = net.Masked().String()
		case 13:
			address = fmt.Sprintf("2001:db8::%d", octet())
		case 14:
			address = netip.PrefixFrom(netip.MustParseAddr("2001:db8::1"), r.IntN(129)).Masked().String()
		case 15:
			address = "::ffff:10.1.1.1"
		}
		b.WriteString(address + ":" + []string{"allow", "deny"}[r.IntN(2)])
		for i := range r.IntN(4) {
			b.WriteString([]string{`,V="x` + fmt.Sprint(i) + `"`, `,EMPTY=""`, `,W=/a "b":c/`, `,W='again'`}[r.IntN(4)])
		}
		b.WriteString([]string{"\n", " \t\n", "\n#:deny\n"}[r.IntN(3)])
	}
	return b.String()
}

func randomClient(r *rand.Rand, four bool) Client {
	c := Client{IP: netip.AddrFrom4([4]byte{10, byte(r.IntN(5)), byte(r.IntN(5)), byte(r.IntN(5))})}
	if !four && r.IntN(4) == 0 {
		c.IP = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", r.IntN(4)))
	}
	c.Name = []string{"", "a.example", "b.a.example", "example", "x.c.b.a.example", "other"}[r.IntN(6)]
	c.Info = []string{"", "", "joe", "Ann", "ann"}[r.IntN(5)]
	return c
}

// What is compiled says the same as what it was compiled from.
func TestCompiledSaysTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		text := generated(r, true)
		rules, errs := ParseRulesFor(strings.NewReader(text), WithIdent)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		name, refused := compile(t, text)
		if len(refused) > 0 {
			t.Fatal(refused)
		}
		file, err := OpenRules(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Rules(); err != ErrCompiled {
			t.Fatal("not seen as compiled", err)
		}
		for range 40 {
			c := randomClient(r, false)
			want, ok := rules.FindClient(c)
			got, found, err := file.FindClient(c)
			if err != nil || ok != found || got.Deny != want.Deny || !slices.Equal(got.Vars, want.Vars) {
				t.Fatalf("set %d: %+v: compiled %+v %v %v, read %+v %v\n%s", i, c, got, found, err, want, ok, text)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func theirs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("ucspi-tcp is not here")
	}
	return path
}

// The real tcprules makes the same bytes, and tcprulescheck finds the same rules.
func TestSameAsTcprules(t *testing.T) {
	tcprules, check := theirs(t, "tcprules"), theirs(t, "tcprulescheck")
	r := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	for i := range 60 {
		text := generated(r, false)
		name, _ := compile(t, text)
		ours, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cdbFile := filepath.Join(dir, fmt.Sprint(i, ".cdb"))
		cmd := exec.CommandContext(t.Context(), tcprules, cdbFile, cdbFile+".tmp")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s\n%s", err, out, text)
		}
		real, err := os.ReadFile(cdbFile)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, real) {
			t.Fatalf("set %d: other bytes for\n%s", i, text)
		}
		file, err := OpenRules(cdbFile)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			c := randomClient(r, true)
			cmd := exec.CommandContext(t.Context(), check, cdbFile)
			cmd.Env = []string{"TCPREMOTEIP=" + c.IP.String()}
			if c.Name != "" {
				cmd.Env = append(cmd.Env, "TCPREMOTEHOST="+c.Name)
			}
			if c.Info != "" {
				cmd.Env = append(cmd.Env, "TCPREMOTEINFO="+c.Info)
			}
			want, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			rule, found, err := file.FindClient(c)
			if got := rule.Told(found); got != string(want) || err != nil {
				t.Fatalf("set %d, %+v: %q %v, tcprulescheck says %q\n%s", i, c, got, err, want, text)
			}
		}
		_ = file.Close()
	}
}

func TestCompileKeepsTheOrder(t *testing.T) {
	_, errs := compile(t, "=mail.example:deny\n\n192.0.2.128/25:allow\n10.0.0.0/8:deny\n192.0.2.1/32:deny\n")
	if len(errs) != 2 || errs[0].Line != 3 || errs[1].Line != 5 || !strings.Contains(errs[0].Text, "=NAME") {
		t.Error(errs)
	}
}

func TestIdentRules(t *testing.T) {
	for line, want := range map[string]string{
		"joe@10.:deny":            "never matches",
		"joe@10.0.0.0/8:deny":     "never matches",
		"joe@10.0.0.1/32:deny":    "never matches",
		"joe@=.example.net:deny":  "is no address",
		"joe@=:deny":              "is no address",
		"joe@:deny":               "is no address",
		"joe@nobody.example:deny": "is no address",
	} {
		_, errs := ParseRulesFor(strings.NewReader(line+"\n"), WithIdent)
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("%q: %v, want %q", line, errs, want)
		}
	}
	rules, errs := ParseRulesFor(strings.NewReader("a@b@[2001:db8::1]:deny,WHO='six'\njoe@192.0.2.1-2:deny\n"), WithIdent)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, c := range []Client{{netip.MustParseAddr("2001:db8::1"), "", "a@b"}, {netip.MustParseAddr("192.0.2.2"), "x", "joe"}} {
		if rule, ok := rules.FindClient(c); !ok || !rule.Deny {
			t.Errorf("%+v: %+v", c, rule)
		}
	}
}

// Rules that a database says are never believed to be well made.
func FuzzCompiled(f *testing.F) {
	name, _ := compile(f, sampleRules)
	b, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) {
		c, err := OpenCompiled(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_, _, _ = c.FindClient(Client{netip.MustParseAddr("192.0.2.8"), "a.example.org", "joe"})
		_, _, _ = c.FindClient(Client{IP: netip.MustParseAddr("2001:db8::1")})
	})
}
