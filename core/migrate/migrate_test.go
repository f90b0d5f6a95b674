package migrate

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/postern-mta/postern/core/cdb"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

func sources() map[string]func(string) (*Result, error) {
	return map[string]func(string) (*Result, error){
		"qmail": func(dir string) (*Result, error) { return Qmail(dir, "") }, "qpsmtpd": Qpsmtpd, "haraka": Haraka, "postfix": Postfix,
	}
}

// told is a result as a text, without the place where the sources are.
func told(r *Result, dir string) string {
	var b strings.Builder
	for _, f := range r.Files {
		fmt.Fprintf(&b, "-- %s %v --\n%s", f.Name, f.Mode, f.Text)
	}
	b.WriteString("-- notes --\n")
	for _, n := range r.Notes {
		fmt.Fprintln(&b, n)
	}
	abs, _ := filepath.Abs(dir)
	return strings.ReplaceAll(b.String(), abs, "DIR")
}

// What becomes of the samples, to the letter; -update after a change that was meant.
func TestSamples(t *testing.T) {
	for name, read := range sources() {
		dir := filepath.Join("testdata", name)
		r, err := read(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var any map[string]any
		if _, err := toml.Decode(r.Files[0].Text, &any); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		golden := filepath.Join("testdata", name+".golden")
		got := told(r, dir)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: not as in %s:\n%s", name, golden, got)
		}
	}
}

func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// rows of a mapping: files of a source, what the configuration has to have, and what
// the report.
type mapping struct {
	about  string
	files  map[string]string
	want   []string
	notes  []string
	not    []string
	silent bool // the report has nothing of kind missing or unknown
}

func play(t *testing.T, read func(string) (*Result, error), base map[string]string, rows []mapping) {
	t.Helper()
	for _, m := range rows {
		files := maps.Clone(base)
		maps.Copy(files, m.files)
		dir := tree(t, files)
		r, err := read(dir)
		if err != nil {
			t.Errorf("%s: %v", m.about, err)
			continue
		}
		all := told(r, dir)
		for _, w := range append(m.want, m.notes...) {
			if !strings.Contains(all, w) {
				t.Errorf("%s: no %q in\n%s", m.about, w, all)
			}
		}
		for _, w := range m.not {
			if strings.Contains(all, w) {
				t.Errorf("%s: %q in\n%s", m.about, w, all)
			}
		}
		if m.silent && regexp.MustCompile(`: (missing|unknown): `).MatchString(all) {
			t.Errorf("%s: %s", m.about, all)
		}
	}
}

func TestQmailControls(t *testing.T) {
	play(t, sources()["qmail"], map[string]string{"control/me": "mx.example.net\n", "control/rcpthosts": "example.net\n"}, []mapping{
		{about: "nothing else", want: []string{`hostname = "mx.example.net"`, `to_domain = ["mx.example.net"] # locals`, "next_hop = \"local\"", `to_domain = ["*"]`, `next_hop = "mx"`, "example.net\n"}, silent: true},
		{about: "open relay", files: map[string]string{"control/rcpthosts": "", "control/locals": "a.example\n"}, want: []string{`to_domain = ["a.example"]`}, not: []string{"[[domain]]"}},
		{about: "rcpthosts", files: map[string]string{"control/rcpthosts": "# x\nA.example \n.b.example\n[1.2.3.4]\n", "control/morercpthosts": "c.example\n"}, want: []string{"a.example\n*.b.example\nc.example\n"}, notes: []string{`control/rcpthosts:4: rcpthosts: missing: "[1.2.3.4]" is no domain`}},
		{about: "numbers", files: map[string]string{"control/databytes": "1000 bytes\n", "control/concurrencylocal": "x\n", "control/queuelifetime": "86400\nrest\n", "control/timeoutsmtpd": "60"}, want: []string{"message_size = 1000", `lifetime = "86400s"`, `command_timeout = "60s"`}, notes: []string{`concurrencylocal: unused: "x" is no number`}, not: []string{"concurrency_local ="}},
		{about: "held", files: map[string]string{"control/concurrencyremote": "0"}, want: []string{"concurrency_remote = 0"}},
		{about: "no bound", files: map[string]string{"control/databytes": "0"}, not: []string{"message_size ="}, notes: []string{"databytes: differs"}},
		{about: "double bounces", files: map[string]string{"control/doublebounceto": "admin", "control/doublebouncehost": "b.example"}, want: []string{`double_bounce_to = "admin@b.example"`}},
		{about: "double bounces thrown away", files: map[string]string{"control/doublebounceto": ""}, not: []string{"double_bounce_to"}, notes: []string{"doublebounceto: differs"}},
		{about: "hosts", files: map[string]string{"control/helohost": "out.example", "control/localiphost": "l.example", "control/smtpgreeting": "other.example hello there", "control/bouncefrom": "x", "control/envnoathost": "e.example", "control/idhost": "i.example"}, want: []string{`helo = "out.example"`, `literal_host = "l.example"`, `greeting = "hello there"`, `envnoathost = "e.example"`}, notes: []string{"bouncefrom: differs", "QMAILIDHOST=i.example", "the greeting begins"}},
		{about: "same as me", files: map[string]string{"control/helohost": "mx.example.net", "control/idhost": "mx.example.net", "control/bouncehost": "mx.example.net", "control/envnoathost": "mx.example.net", "control/localiphost": "mx.example.net"}, not: []string{"helo =", "literal_host", "idhost:", "bouncehost:", "envnoathost:"}},
		{about: "smtproutes, the longest first", files: map[string]string{"control/smtproutes": ":all.example\n.c:x.example:2525\n.b.c:\nA.b.c:[192.0.2.1]:465 joe pass\nd:h:99999\ne:h u\nf\n"}, want: []string{
			"to_domain = [\"a.b.c\"] # smtproutes:4\nnext_hop = \"smtps://192.0.2.1\"\nauth = { user = \"joe\", password_file = \"password-4\" }\n\n[[route]]\nto_domain = [\"*.b.c\"] # smtproutes:3\nnext_hop = \"mx\"\n\n[[route]]\nto_domain = [\"*.c\"] # smtproutes:2\nnext_hop = \"smtp://x.example:2525\"\n\n[[route]]\nto_domain = [\"*\"] # smtproutes:1\nnext_hop = \"smtp://all.example\"\n",
			"-- password-4 -rw------- --\npass\n",
		}, notes: []string{"smtproutes:5: smtproutes: missing", "smtproutes:6: smtproutes: missing", "smtproutes:7: smtproutes: unused"}, not: []string{"all other mail"}},
		{about: "virtualdomains, the nearest first", files: map[string]string{"control/virtualdomains": ".v.example:list\n:rest\nv.example:joe\nu@v.example:\nx.v.example:\nnothing\n@:x\n"}, want: []string{
			"to_address = [\"u@v.example\"] # virtualdomains\nnext_hop = \"mx\"\n\n[[route]]\nto_domain = [\"v.example\"] # virtualdomains\nnext_hop = \"local\"\n\n[[route]]\nto_domain = [\"x.v.example\"] # virtualdomains\nnext_hop = \"mx\"\n\n[[route]]\nto_domain = [\"*.v.example\", \"*\"] # virtualdomains\nnext_hop = \"local\"\n",
			"virtualdomains = [\"@virtualdomains\"]",
		}, notes: []string{`virtualdomains:6: virtualdomains: unused`, `virtualdomains:7: virtualdomains: missing`}},
		{about: "virtualdomains, exceptions as smtproutes has them", files: map[string]string{
			"control/virtualdomains": "Out.v.example:\n.v.example:list\nin.w.example:\n.x.example:\n:rest\n",
			"control/smtproutes":     ":all.example joe pass\n.w.example:w.example\nlow.x.example:low.example\n",
		}, want: []string{
			"to_domain = [\"out.v.example\"] # virtualdomains\nnext_hop = \"smtp://all.example\"\nauth = { user = \"joe\", password_file = \"password-1\" }\n",
			"to_domain = [\"in.w.example\"] # virtualdomains\nnext_hop = \"smtp://w.example\"\n\n",
			"to_domain = [\"*.x.example\"] # virtualdomains\nnext_hop = \"smtp://all.example\"\n",
		}, notes: []string{`virtualdomains:4: virtualdomains: differs: ".x.example" is an exception`}, not: []string{"virtualdomains:1:", "virtualdomains:3:"}},
		{about: "locals count before virtualdomains", files: map[string]string{"control/locals": "mx.example.net\nv.example\n", "control/virtualdomains": "v.example:joe\nu@v.example:ann\n.example.net:list\n"}, want: []string{
			"-- virtualdomains -rw-r--r-- --\n.example.net:list\nmx.example.net:\n",
		}, notes: []string{`virtualdomains:1: virtualdomains: unused: "v.example": the domain is in locals`, `virtualdomains:2: virtualdomains: unused: "u@v.example": the domain`}, not: []string{"to_address"}},
		{about: "the last of two lines counts", files: map[string]string{"control/virtualdomains": "v.example:joe\nV.example:ann\n", "control/smtproutes": ":one.example\n:two.example\n"}, want: []string{
			"-- virtualdomains -rw-r--r-- --\nV.example:ann\n", `next_hop = "smtp://two.example"`,
		}, notes: []string{`virtualdomains:1: virtualdomains: unused: "v.example" stands in line 2 again`, `smtproutes:1: smtproutes: unused: "" stands in line 2 again`}, not: []string{"one.example"}},
		{about: "users", files: map[string]string{"users/assign": ".\n", "alias/.qmail-root": "&x\n", "control/defaultdelivery": "|preline maildrop\n"}, want: []string{`users = ["DIR/users/assign", "system"]`, `aliases = "DIR/alias"`, `default_delivery = "|preline maildrop"`}},
		{about: "rules", files: map[string]string{"tcp.smtp": "127.:allow,RELAYCLIENT=\"\"\n10.0.0.1\njoe@1.2.3.4:deny\n:allow,QMAILQUEUE=\"x\"\n"}, want: []string{`rules = "tcp.smtp"`, "127.:allow,RELAYCLIENT=\"\"\n# left out: 10.0.0.1\n# left out: joe@1.2.3.4:deny\n:allow,QMAILQUEUE=\"x\"\n"}, notes: []string{"tcp.smtp:2: tcp.smtp: differs", "tcp.smtp:4: QMAILQUEUE: missing"}},
		{about: "other files", files: map[string]string{"control/mystery": "x", "control/spfbehavior": "3", "control/percenthack": "p.example", "control/qmqpservers": "10.0.0.1\n10.0.0.2\n", "control/timeoutconnect": "5"}, want: []string{`percenthack = ["p.example"]`}, notes: []string{"mystery: unknown", "spfbehavior: missing", "qmqp://10.0.0.1,10.0.0.2", "timeoutconnect: differs"}},
	})
}

func TestQmailCompiledHosts(t *testing.T) {
	dir := tree(t, map[string]string{"control/me": "mx.example.net\n", "control/rcpthosts": "a.example\n"})
	f, err := os.Create(filepath.Join(dir, "control/morercpthosts.cdb"))
	if err != nil {
		t.Fatal(err)
	}
	w := cdb.NewWriter(f)
	w.Add("b.example", "")
	w.Add(".c.example", "")
	w.Add("", "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	r, err := Qmail(dir, "")
	if err != nil || !strings.Contains(told(r, dir), "a.example\nb.example\n*.c.example\n") {
		t.Errorf("%v %s", err, told(r, dir))
	}
	if err := os.WriteFile(filepath.Join(dir, "control/morercpthosts.cdb"), []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Qmail(dir, ""); err == nil {
		t.Error("a broken database is no empty one")
	}
}

// A file that can't be read is no missing one.
func TestUnreadable(t *testing.T) {
	dir := tree(t, map[string]string{"control/me": "mx.example.net\n", "control/rcpthosts/x": ""})
	if _, err := Qmail(dir, ""); err == nil {
		t.Error("a folder in the place of rcpthosts")
	}
	for name, read := range sources() {
		if _, err := read(filepath.Join(dir, "nowhere")); err == nil {
			t.Errorf("%s: a folder that is not there", name)
		}
	}
}

// Every control file is taken or noted, and shown.
func TestEveryControl(t *testing.T) {
	files := map[string]string{}
	for _, c := range Controls() {
		if c.Shape != Database {
			files["control/"+c.Name] = "7\n"
		}
	}
	files["control/me"] = "mx.example.net\n"
	text, err := ShowControls(tree(t, files))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Controls() {
		if !strings.Contains(text, "\n"+c.Name+": ") {
			t.Errorf("%s is not shown", c.Name)
		}
	}
	text, err = ShowControls(tree(t, map[string]string{"me": "mx.example.net\n", "odd": "", "locals": "# none\n", "databytes": "many\nmore\n"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"helohost: name said to other servers\n  (default) mx.example.net\n", "odd: no program of qmail reads this file\n", "  empty\n", "it is no number", "further lines are not read"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// The lists of all plugins in testdata are complete, and each leads somewhere: to a
// policy, a key, or a word in the report.
func TestEveryPlugin(t *testing.T) {
	for name, table := range map[string]map[string]target{"qpsmtpd": qpsmtpdPlugins(), "haraka": harakaPlugins()} {
		file := filepath.Join("testdata", name+"-all", "config", "plugins")
		want := strings.Join(slices.Sorted(maps.Keys(table)), "\n") + "\n"
		if *update {
			_ = os.MkdirAll(filepath.Dir(file), 0o755)
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("%s is not all: %v", file, err)
		}
		r, err := sources()[name](filepath.Dir(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range r.Notes {
			if n.Kind == Unknown {
				t.Error(n)
			}
		}
	}
	for old, now := range harakaNames() {
		if _, ok := harakaPlugins()[now]; !ok {
			t.Errorf("%s is now %s, which is not known", old, now)
		}
	}
}

func decode(text string, v any) error {
	_, err := toml.Decode(text, v)
	return err
}
