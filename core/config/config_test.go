package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// write makes files in a new folder and goes there, so that messages name them as written.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return dir
}

// lines are the findings as printed, with DIR for the folder.
func lines(p Problems, dir string) []string {
	out := []string{}
	for _, x := range p {
		out = append(out, strings.ReplaceAll(x.String(), dir, "DIR"))
	}
	return out
}

// pair makes a certificate and its key.
func pair(t *testing.T, until time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: until, DNSNames: []string{"mx.example.net"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return cert, key
}

// gateway is the documented example of a gateway, with the files that it names.
func gateway(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for name, from := range map[string]string{"postern.toml": "gateway.toml", "rules.tcp": "rules.tcp", "site/hello.lua": "site/hello.lua"} {
		text, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	files["cert.pem"], files["key.pem"] = pair(t, time.Now().Add(24*time.Hour))
	return files
}

func TestGatewayAsDocumented(t *testing.T) {
	dir := write(t, gateway(t))
	c, problems := Load("postern.toml", Options{})
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	authenticated := (*bool)(nil)
	if got, want := c.Server, (Server{
		Hostname: "mx.example.net", DataDir: at("var"), Control: at("var/postern.sock"), PolicyDir: at("policies"),
		PluginDir: at("plugins.d"), EnvNoAtHost: "mx.example.net", PercentHack: []string{}, MixedRecipients: "strictest",
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("server = %+v, want %+v", got, want)
	}
	l := c.Listen[0]
	l.Pos = Pos{}
	if want := (Listen{
		Name: "mx", Address: "127.0.0.1:2525", Protocol: "smtp", TLS: "starttls", ProxyFrom: []netip.Prefix{},
		XclientFrom: loopback, RelayFrom: loopback, Rules: at("rules.tcp"),
		SocketMode: 0o660, Auth: []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"},
	}); !reflect.DeepEqual(l, want) || len(c.Listen) != 1 {
		t.Errorf("listen = %+v, want %+v", l, want)
	}
	if want := (Limits{
		MessageSize: 50 << 20, HeaderSize: 1 << 20, Recipients: 1000, Connections: 2000, ConnectionsPerClient: 200, Errors: 10,
		Hops: 100, CommandTimeout: 5 * time.Minute, DataTimeout: 10 * time.Minute, MinDataRate: 4096, BareLF: "reject",
	}); c.Limits != want {
		t.Errorf("limits = %+v, want %+v", c.Limits, want)
	}
	if want := (TLS{Certificate: []string{at("cert.pem")}, Key: []string{at("key.pem")}, CA: []string{}}); !reflect.DeepEqual(c.TLS, want) {
		t.Errorf("tls = %+v, want %+v", c.TLS, want)
	}
	if want := (DNS{[]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5353")}, 5 * time.Second}); !reflect.DeepEqual(c.DNS, want) {
		t.Errorf("dns = %+v, want %+v", c.DNS, want)
	}
	if d := c.Domains[0]; d.Name != "example.net" || !slices.Equal(d.Names, []string{"example.net"}) || !d.Recipients.Valid("who", "example.net") {
		t.Errorf("domain = %+v", d)
	}
	if r := c.Routes[0]; r.NextHop != (NextHop{"smtp", "127.0.0.1", 2526, ""}) || r.Mode != "queue" || r.TLS != "may" || r.Line != 39 {
		t.Errorf("route = %+v", r)
	}
	if r := c.Routes[1]; r.NextHop != (NextHop{Scheme: "mx"}) || !slices.Equal(r.ToDomain, []string{"*"}) {
		t.Errorf("route = %+v", r)
	}
	if want := (Queue{Lifetime: 7 * day, DelayNotice: 4 * time.Hour}); !reflect.DeepEqual(c.Queue, want) || !c.Queue.Retry.Quadratic() {
		t.Errorf("queue = %+v, want %+v", c.Queue, want)
	}
	d := c.Delivery
	if r := d.Rules[0]; r.Concurrency != 2 || r.Rate != (Rate{60, time.Minute}) || !slices.Equal(r.Destination, []string{"slow.example"}) {
		t.Errorf("delivery.rule = %+v", r)
	}
	if d.Rules = nil; !reflect.DeepEqual(d, Delivery{10, 200, 20, "mx.example.net", nil}) {
		t.Errorf("delivery = %+v", d)
	}
	for i, want := range []Policy{
		{Use: "earlytalker", Name: "earlytalker", Mode: "enforce", When: When{ClientNot: loopback, Authenticated: authenticated}, Settings: map[string]any{"wait": "1s"}},
		{Use: "dnsbl", Name: "dnsbl", Mode: "shadow", Settings: map[string]any{"zones": []any{"bl.example.org"}}},
		{Use: "site/hello.lua", Path: at("site/hello.lua"), Name: "hello", Mode: "enforce", Settings: map[string]any{"words": []any{"casino"}}},
		{Use: "plugins.d/checker", Path: at("plugins.d/checker"), Name: "checker", Mode: "enforce", Timeout: 5 * time.Second, OnFailure: "defer"},
	} {
		got := c.Policies[i]
		if got.Pos = (Pos{}); !reflect.DeepEqual(got, want) {
			t.Errorf("policy %d = %+v, want %+v", i, got, want)
		}
	}
	if *c.Score.Tag != 5 || *c.Score.Quarantine != 8 || *c.Score.Reject != 15 {
		t.Errorf("score = %v", c.Score)
	}
	if c.Store.Engine != "embedded" || c.Recorder != (Recorder{true, 7 * day, 1 << 30, false}) || c.Quarantine != (Quarantine{30 * day, 1 << 30}) || c.Log != (Log{"auto", slog.LevelInfo}) || c.Console.Address != "127.0.0.1:2580" {
		t.Errorf("store, recorder, log, console = %v %v %v %v", c.Store, c.Recorder, c.Log, c.Console)
	}
	if p := c.Policies[2].Problem("words[0]", "too short"); p.String() != "postern.toml:77: policy.words[0]: too short" {
		t.Errorf("problem of a setting: %v", p)
	}
}

func TestDefaultsWithoutAnyKey(t *testing.T) {
	dir := write(t, map[string]string{"postern.toml": ""})
	c, problems := Load("postern.toml", Options{})
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Hostname != machine || c.Delivery.Helo != machine || c.Server.Control != filepath.Join(dir, "var/postern.sock") {
		t.Errorf("server = %+v, helo %q", c.Server, c.Delivery.Helo)
	}
	if len(c.Listen) != 1 || c.Listen[0].Address != "127.0.0.1:2525" || c.Listen[0].Name != "127.0.0.1:2525" || c.Listen[0].TLS != "starttls" {
		t.Errorf("listen = %+v", c.Listen)
	}
	if c.Score.Tag != nil || c.Score.Quarantine != nil || c.Score.Reject != nil || c.Score.Rules != nil || c.Domains != nil || c.Routes != nil || c.Policies != nil || c.Console.Address != "127.0.0.1:2580" {
		t.Errorf("config = %+v", c)
	}
}

func TestBuiltInIsRelativeToTheWorkingFolder(t *testing.T) {
	dir := write(t, map[string]string{"conf.d/x.toml": "not even TOML"})
	text := "[server]\npolicy_dir = \"mine\"\n[[domain]]\nname = \"localhost\"\n[[domain]]\nname = \"\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n"
	c, problems := Load("", Options{Default: []byte(text), Name: "etc/postern.toml"})
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	if c.Path != "" || c.Dir != dir || c.Server.DataDir != filepath.Join(dir, "var") || c.Server.PolicyDir != filepath.Join(dir, "mine") {
		t.Errorf("dir %q, server %+v", c.Dir, c.Server)
	}
	if names := c.Domains[1].Names; !slices.Equal(names, []string{strings.ToLower(c.Server.Hostname)}) {
		t.Errorf("the host's own domain = %v", names)
	}
	_, problems = Load("", Options{Default: []byte("[server]\nhostname = 3\n"), Name: "etc/postern.toml"})
	if got := problems.Error(); !strings.HasPrefix(got, "etc/postern.toml:2: server.hostname: is an integer") {
		t.Errorf("problems: %s", got)
	}
}

func TestHostNameWrittenOutTwiceIsOneDomain(t *testing.T) {
	write(t, map[string]string{"postern.toml": "[server]\nhostname = \"MX.example.net\"\n[[domain]]\nname = \"\"\n[[domain]]\nname = \"mx.example.net\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n"})
	c, problems := Load("postern.toml", Options{})
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	if len(c.Domains[0].Names) != 0 || !slices.Equal(c.Domains[1].Names, []string{"mx.example.net"}) {
		t.Errorf("domains = %+v", c.Domains)
	}
}

func TestConfDAddsEntriesAndKeys(t *testing.T) {
	dir := write(t, map[string]string{
		"postern.toml":        "[limits]\nhops = 50\n[[policy]]\nuse = \"first\"\n[delivery]\nper_destination = 3\n[[delivery.rule]]\ndestination = [\"a.example\"]\nconcurrency = 1\n",
		"conf.d/20-more.toml": "[[policy]]\nuse = \"third\"\n[limits]\nerrors = 5\n",
		"conf.d/10-some.toml": "[[policy]]\nuse = \"second\"\n[[delivery.rule]]\ndestination = [\"b.example\"]\nconcurrency = 1\n[server]\ncontrol = \"c.sock\"\n",
		"conf.d/ignored.txt":  "x",
	})
	c, problems := Load("postern.toml", Options{})
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	var uses []string
	for _, p := range c.Policies {
		uses = append(uses, p.Use)
	}
	if !slices.Equal(uses, []string{"first", "second", "third"}) || len(c.Delivery.Rules) != 2 || c.Limits.Hops != 50 || c.Limits.Errors != 5 {
		t.Errorf("policies %v, rules %v, limits %+v", uses, c.Delivery.Rules, c.Limits)
	}
	if want := filepath.Join(dir, "c.sock"); c.Server.Control != want {
		t.Errorf("control = %s, want %s", c.Server.Control, want)
	}
	if want := []string{"postern.toml", "conf.d/10-some.toml", "conf.d/20-more.toml"}; !slices.Equal(c.Files, want) {
		t.Errorf("files = %v, want %v", c.Files, want)
	}
	if p := c.Policies[2].Problem("", "x"); p.File != "conf.d/20-more.toml" || p.Line != 1 {
		t.Errorf("place of the third policy: %v", p)
	}
}

func TestConfDRefusals(t *testing.T) {
	dir := write(t, map[string]string{
		"postern.toml":  "[limits]\nhops = 50\n",
		"conf.d/a.toml": "\n[limits]\nhops = 60\nhopps = 1\n",
		"conf.d/b.toml": "[limits\n",
	})
	c, problems := Load("postern.toml", Options{})
	want := []string{
		"conf.d/a.toml:3: limits.hops: is already set at postern.toml:2; leave one of the two out",
		`conf.d/a.toml:4: limits.hopps: unknown key; did you mean "hops"?`,
		"conf.d/b.toml:1: not TOML: expected '.' or ']' to end table name, but got '\\n' instead",
	}
	if got := lines(problems, dir); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if c != nil {
		t.Error("a file that is not TOML left a Config")
	}
}

func TestThreeErrorsAtOnce(t *testing.T) {
	files := gateway(t)
	files["postern.toml"] = strings.NewReplacer(`hops             = 100`, `hopps = 100`, `"50MiB"`, `"x"`, `protocol = "smtp"`, `protocol = "uucp"`).Replace(files["postern.toml"])
	dir := write(t, files)
	c, problems := Load("postern.toml", Options{})
	want := []string{
		`postern.toml:10: listen.protocol: "uucp" is unknown; write "smtp" or "submission" or "lmtp" or "qmqp" or "qmtp"`,
		`postern.toml:18: limits.message_size: "x" is not a size; write something like "50MiB", "4KiB" or a number of bytes`,
		`postern.toml:23: limits.hopps: unknown key; did you mean "hops"?`,
	}
	if got := lines(problems, dir); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if c == nil || problems.Err() == nil || len(problems.Warnings()) != 0 {
		t.Error("a Config and an error were expected")
	}
}

func TestFilesThatCantBeRead(t *testing.T) {
	write(t, map[string]string{"long.toml": "# " + strings.Repeat("x", maxFile), "folder/x": ""})
	for name, want := range map[string]string{
		"none.toml": "none.toml:1: can't be read: no such file or directory",
		"long.toml": "long.toml:1: can't be read: longer than 1MiB",
		"folder":    "folder:1: can't be read: is a directory",
	} {
		c, problems := Load(name, Options{})
		if got := problems.Error(); got != want || c != nil {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestUnreadableFileOfConfD(t *testing.T) {
	write(t, map[string]string{"postern.toml": "[limits]\nhops = 0\n", "conf.d/a.toml/x": ""})
	c, problems := Load("postern.toml", Options{})
	if got, want := problems.Error(), "conf.d/a.toml:1: can't be read: is a directory\npostern.toml:2: limits.hops: 0 is too small; write at least 1"; got != want || c != nil {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFind(t *testing.T) {
	if _, err := os.Stat("/etc/postern"); err == nil {
		t.Skip("this machine has a configuration of its own")
	}
	write(t, map[string]string{"a.toml": "", "sub/postern.toml": ""})
	none := func(string) string { return "" }
	env := func(path string) func(string) string {
		return func(name string) string {
			if name != "POSTERN_CONFIG" {
				t.Errorf("asked for %s", name)
			}
			return path
		}
	}
	for _, tc := range []struct {
		dir, flag string
		env       func(string) string
		path, err string
		embedded  bool
	}{
		{".", "a.toml", env("sub/postern.toml"), "a.toml", "", false},
		{".", "", env("sub/postern.toml"), "sub/postern.toml", "", false},
		{".", "b.toml", none, "", "config: -c names b.toml: no such file or directory", false},
		{".", "", env("b.toml"), "", "config: POSTERN_CONFIG names b.toml: no such file or directory", false},
		{".", "", none, "", "", true},
		{"sub", "", none, "postern.toml", "", false},
	} {
		t.Chdir(tc.dir)
		path, embedded, err := Find(tc.flag, tc.env)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if path != tc.path || embedded != tc.embedded || text != tc.err {
			t.Errorf("Find(%q) in %s = %q, %v, %q; want %+v", tc.flag, tc.dir, path, embedded, text, tc)
		}
	}
}

// What is called from anywhere does not look into the folder that it is called in.
func TestFindSystem(t *testing.T) {
	if _, err := os.Stat("/etc/postern"); err == nil {
		t.Skip("this machine has a configuration of its own")
	}
	write(t, map[string]string{"a.toml": "", "postern.toml": ""})
	none := func(string) string { return "" }
	if path, err := FindSystem("", none); path != "" || err == nil || !strings.Contains(err.Error(), "there is no /etc/postern/postern.toml") {
		t.Errorf("%q, %v", path, err)
	}
	if path, err := FindSystem("", func(string) string { return "a.toml" }); path != "a.toml" || err != nil {
		t.Errorf("%q, %v", path, err)
	}
	if path, err := FindSystem("b.toml", none); path != "" || err == nil {
		t.Errorf("%q, %v", path, err)
	}
}

func TestRetryThatGrows(t *testing.T) {
	write(t, map[string]string{"postern.toml": "[queue]\nretry = { start = \"1m\", jitter = 0.1 }\n"})
	c, problems := Load("postern.toml", Options{})
	if want := (Growth{Start: time.Minute, Factor: 2, Max: 4 * time.Hour, Jitter: 0.1}); len(problems) > 0 || c.Queue.Retry.Growth != want || c.Queue.Retry.Quadratic() {
		t.Errorf("%+v, want %+v; %v", c.Queue.Retry, want, problems)
	}
}
