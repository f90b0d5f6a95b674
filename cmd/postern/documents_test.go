package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContributedPolicies: each policy of contrib/policies is short, has a test that
// runs every line of it, stands in the table, and passes postern check.
func TestContributedPolicies(t *testing.T) {
	dir, err := filepath.Abs("../../contrib/policies")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob(filepath.Join(dir, "*.lua"))
	if err != nil {
		t.Fatal(err)
	}
	alone(t)
	status, out, errs := call(t, "", "test", dir, "--cover")
	if status != exitDone {
		t.Fatalf("%d\n%s%s", status, out, errs)
	}
	var conf strings.Builder
	conf.WriteString("[server]\nhostname = \"mx.example.net\"\n\n[[listen]]\naddress = \"127.0.0.1:0\"\n")
	policies := 0
	for _, path := range scripts {
		name := strings.TrimSuffix(filepath.Base(path), ".lua")
		if strings.HasSuffix(name, "_test") {
			continue
		}
		policies++
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(source), "\n"); lines >= 40 {
			t.Errorf("%s has %d lines", name, lines)
		}
		for _, part := range []string{"-- " + name + ": ", `--   use`, `"contrib/policies/` + name + `.lua"`} {
			if !strings.Contains(string(source), part) {
				t.Errorf("%s: the comment on top lacks %q", name, part)
			}
		}
		if !regexp.MustCompile(`(?m)^100\.0 %  \S*\b` + name + `\.lua$`).MatchString(out) {
			t.Errorf("%s: not every line is run by its test", name)
		}
		if !strings.Contains(string(table), "| ["+name+"]("+name+".lua) |") {
			t.Errorf("%s is not in the table", name)
		}
		fmt.Fprintf(&conf, "\n[[policy]]\nuse = %q\n", path)
	}
	if policies < 5 {
		t.Errorf("only %d policies", policies)
	}
	write(t, "postern.toml", conf.String())
	if status, out, errs := call(t, "", "check", "-c", "postern.toml", "--strict"); status != exitDone {
		t.Errorf("check: %d\n%s%s", status, out, errs)
	}
}

// The hooks of qpsmtpd (lib/Qpsmtpd/Plugin.pm and its servers) and of Haraka
// (plugins.js, connection.js, outbound, server.js) that the documents place.
const (
	hooksOfQpsmtpd = `post-fork pre-connection connect helo_parse ehlo_parse helo ehlo auth_parse auth-plain auth-login auth-cram-md5 auth
		mail_parse mail_pre mail rcpt_parse rcpt_pre rcpt data data_headers_end data_post_headers received_line data_post queue_pre queue
		queue_post reset_transaction vrfy noop help quit unrecognized_command disconnect post-connection deny ok config user_config logging`
	hooksOfHaraka = `init_master init_child init_http init_wss connect_init lookup_rdns connect helo ehlo capabilities unrecognized_command mail
		rcpt rcpt_ok data max_data_exceeded data_post queue queue_outbound queue_ok reset_transaction rset noop quit vrfy help deny disconnect log
		pre_send_trans_email send_email get_mx deferred bounce delivered`
	codesOfQpsmtpd = `DECLINED OK DONE DENY DENYSOFT DENY_DISCONNECT DENYHARD DENYSOFT_DISCONNECT`
	codesOfHaraka  = `CONT OK DENY DENYSOFT DENYDISCONNECT DENYSOFTDISCONNECT DISCONNECT DELAY HOOK_NEXT STOP`
)

var (
	example = regexp.MustCompile("(?s)```lua\n-- (\\w+\\.lua)\n.*?```")
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	anchor  = regexp.MustCompile(`\]\(#([^)]+)\)`)
)

// TestMigrationDocuments: the examples of docs/from-*.md pass their tests, which run
// every line, and postern check; each hook and code has its row, each row's link its
// heading.
func TestMigrationDocuments(t *testing.T) {
	for name, want := range map[string][2]string{"from-qpsmtpd.md": {hooksOfQpsmtpd, codesOfQpsmtpd}, "from-haraka.md": {hooksOfHaraka, codesOfHaraka}} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("../../docs/" + name)
			if err != nil {
				t.Fatal(err)
			}
			page := string(text)
			_, table, _ := strings.Cut(page, "\n## Hooks\n")
			table, _, _ = strings.Cut(table, "\n### ")
			for hook := range strings.FieldsSeq(want[0]) {
				if !regexp.MustCompile("(?m)^\\| [^|]*`" + hook + "`").MatchString(table) {
					t.Errorf("hook %s has no place", hook)
				}
			}
			_, table, _ = strings.Cut(page, "\n## Return codes\n")
			table, _, _ = strings.Cut(table, "```")
			for code := range strings.FieldsSeq(want[1]) {
				if !regexp.MustCompile(`(?m)^\| [^|]*\b` + code + `\b`).MatchString(table) {
					t.Errorf("code %s has no place", code)
				}
			}
			headings := map[string]bool{}
			for _, h := range heading.FindAllStringSubmatch(page, -1) {
				headings[strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(h[1]), ",", ""), " ", "-")] = true
			}
			for _, a := range anchor.FindAllStringSubmatch(page, -1) {
				if !headings[a[1]] {
					t.Errorf("there is no heading %q", a[1])
				}
			}
			runExamples(t, page)
		})
	}
}

// runExamples runs the policies and tests of a page.
func runExamples(t *testing.T, page string) {
	t.Helper()
	blocks := example.FindAllStringSubmatch(page, -1)
	if len(blocks) < 20 || len(blocks) != strings.Count(page, "```lua\n") {
		t.Fatalf("%d examples with a name, of %d", len(blocks), strings.Count(page, "```lua\n"))
	}
	alone(t)
	conf := "[server]\nhostname = \"mx.example.net\"\n\n[[listen]]\naddress = \"127.0.0.1:0\"\n"
	policies := 0
	for _, b := range blocks {
		write(t, b[1], strings.TrimSuffix(strings.TrimPrefix(b[0], "```lua\n"), "```"))
		if !strings.HasSuffix(b[1], "_test.lua") {
			policies++
			conf += "\n[[policy]]\nuse = \"./" + b[1] + "\"\n"
		}
	}
	status, out, errs := call(t, "", "test", ".", "--cover")
	if full := strings.Count(out, "100.0 %"); status != exitDone || full != policies {
		t.Errorf("%d, %d of %d run whole\n%s%s", status, full, policies, out, errs)
	}
	write(t, "postern.toml", conf)
	if status, out, errs := call(t, "", "check", "-c", "postern.toml", "--strict"); status != exitDone {
		t.Errorf("check: %d\n%s%s", status, out, errs)
	}
}
