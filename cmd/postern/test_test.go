package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTestingDocument runs every example of docs/testing.md.
func TestTestingDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	alone(t)
	blocks := regexp.MustCompile("(?s)```lua\n-- (\\w+\\.lua)\n.*?```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 8 || len(blocks) != strings.Count(string(page), "```lua\n") {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, b := range blocks {
		write(t, b[1], strings.TrimSuffix(strings.TrimPrefix(b[0], "```lua\n"), "```"))
	}
	status, out, errs := call(t, "", "test", "--cover")
	if status != exitDone || !strings.Contains(out, "7 passed, 0 failed") || !strings.Contains(out, "100.0 %  curfew.lua\n") {
		t.Errorf("%d\n%s%s", status, out, errs)
	}
}

const testedPolicy = `local p = policy { about = "x" }
function p.mail(tx)
  if tx.sender.null then return defer("4.7.1", "No") end
  if tx.sender.user == "x" then
    return reject("5.7.1", "Not you")
  end
end
return p
`

func TestTestCommand(t *testing.T) {
	alone(t)
	write(t, "policies/p.lua", testedPolicy)
	write(t, "policies/p_test.lua", `local function go(t, sender)
  t:policy "p"
  return t:connect { ip = "198.51.100.7", helo = "x.example" }:mail(sender)
end
test("one", function(t) expect(go(t, "a@example.org")):accepts() end)
test("two", function(t)
  expect(go(t, "x@example.org")):accepts()
end)
`)
	write(t, "policies/broken_test.lua", "test(")
	write(t, "postern.toml", "[server]\npolicy_dir = \"policies\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n")
	for _, c := range []struct {
		args   string
		status int
		says   []string
	}{
		{"test -c postern.toml", exitNo, []string{
			"FAIL policies/p_test.lua: two", "p_test.lua:7: want an acceptance, got 550 5.7.1 Not you", "7 | expect(go(t", "C: MAIL FROM:<x@example.org>",
			"mail       p                reject 550 5.7.1 Not you", "FAIL policies/broken_test.lua", "syntax error", "1 passed, 2 failed in ",
		}},
		{"test policies/p_test.lua --run one --cover", exitDone, []string{"policies/p.lua: not run: 3 (in part), 5", "1 passed, 0 failed"}},
		{"test policies/p_test.lua --run one -v", exitDone, []string{"ok   policies/p_test.lua: one", "S: 250 2.1.0 Ok"}},
		{"test policies/p_test.lua --run nine", exitNo, []string{`no test's name matches "nine"`}},
		{"test policies/p.lua", exitUsage, []string{"is no test"}},
		{"test nowhere", exitUsage, []string{"write a folder"}},
		{"test --run (", exitUsage, []string{"--run"}},
		{"test .", exitNo, []string{"no NAME_test.lua is in ."}},
	} {
		status, out, errs := call(t, "", strings.Fields(c.args)...)
		for _, want := range c.says {
			if !strings.Contains(out+errs, want) {
				t.Errorf("%s: no %q in\n%s%s", c.args, want, out, errs)
			}
		}
		if status != c.status {
			t.Errorf("%s: status %d, want %d", c.args, status, c.status)
		}
	}
}

func TestTestReports(t *testing.T) {
	alone(t)
	write(t, "p.lua", testedPolicy)
	write(t, "p_test.lua", `test("a \"b\" <c>\1", function(t)
  t:policy "p"
  expect(t:connect { helo = "x.example" }:mail "x@example.org"):accepts()
end)
`)
	status, out, errs := call(t, "", "test", "--json", "--junit", "junit.xml", "--cover-profile", "lcov.info")
	var all struct {
		Passed, Failed int
		Files          []struct {
			Tests []struct {
				Line  int
				Error string
				Trace []string
			}
		}
		Coverage []struct {
			File   string
			Missed []int
		}
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || status != exitNo || all.Failed != 1 || all.Passed != 0 ||
		len(all.Files) != 1 || len(all.Files[0].Tests[0].Trace) != 1 || len(all.Coverage) != 1 || len(all.Coverage[0].Missed) != 1 {
		t.Errorf("%d %v %+v\n%s%s", status, err, all, out, errs)
	}
	lcov, _ := os.ReadFile("lcov.info")
	for _, want := range []string{"SF:p.lua\n", "DA:3,0\n", "DA:5,1\n", "LF:6\nLH:5\nend_of_record\n"} {
		if !strings.Contains(string(lcov), want) {
			t.Errorf("no %q in\n%s", want, lcov)
		}
	}
	report, _ := os.ReadFile("junit.xml")
	var suites struct {
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Cases []struct {
				Name    string `xml:"name,attr"`
				Failure struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(report, &suites); err != nil || suites.Failures != 1 || suites.Suites[0].Cases[0].Name != `a "b" <c>` ||
		!strings.Contains(suites.Suites[0].Cases[0].Failure.Message, "want an acceptance") {
		t.Errorf("%v %+v\n%s", err, suites, report)
	}
}
