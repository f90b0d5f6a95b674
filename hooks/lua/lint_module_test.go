package lua

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// The modules that a script requires are analysed with what it hands them; a
// finding names their file and line.
func TestLintOfModules(t *testing.T) {
	for _, c := range []struct{ module, script, want string }{
		{"local M = {}\nfunction M.check(tx)\n  return tx.sendr\nend\nreturn M", `function p.rcpt(tx) m.check(tx) end`, `m.lua:3: tx has no member "sendr"; did you mean "sender"?`},
		{"local M = {}\nfunction M.check(tx) return M.deeper(tx) end\nfunction M.deeper(t)\n  return t.body.size\nend\nreturn M", `function p.rcpt(tx) m.check(tx) end`, `m.lua:4: tx.body is not there at stage rcpt; it belongs to message, queue`},
		{"local M = {}\nfunction M.check(tx) return tx.sendr end\nreturn M", `function p.rcpt(tx) m.check(tx.sender) m.check(tx) end`, ``},
		{"local M = {}\nfunction M.check(tx) return tx.sendr end\nreturn M", `function p.rcpt(tx) local f = m.check f({}) m.check(tx) end`, ``},
		{"local M = {}\nfunction M.check(tx) return tx.sendr end\nreturn M", `local function go(lib, tx) lib.check(tx) end function p.rcpt(tx) go(m, {}) m.check(tx) end`, ``},
		{"local M = {}\nfunction M.check() return dns.aa('x') end\nreturn M", `function p.rcpt(tx) m.check() end`, `m.lua:2: dns has no member "aa"; did you mean "a"?`},
		{"local M = {}\nfunction M.check()\n  return lenght({})\nend\nreturn M", `function p.rcpt(tx) m.check() end`, `m.lua:3: nothing has the name "lenght"`},
		{"local M = {}\nfunction M.check() local x = 1 end\nreturn M", `function p.rcpt(tx) m.check() end`, `m.lua:2: the local "x" is never read; take it out, or call it _`},
		{"return { check = function(tx) return tx.sendr end }", `function p.rcpt(tx) m.check(tx) end`, ``},
		{"local M = {}\nfunction M.check() end\nreturn M", `function p.rcpt(tx) m.chek() end`, `3: module "m" has no member "chek"; did you mean "check"?`},
		{"local M = {}\nfunction M.check() end\nreturn M", `function p.rcpt(tx) m.check() require("m").nothing() end`, `3: module "m" has no member "nothing"; it has check`},
		{"local M = {}\nfunction M.check() end\nreturn M", `function p.rcpt(tx) return m.tests and accept() end`, `3: module "m" has no member "tests"; it has check`},
		{"return setmetatable({}, { __index = function() return accept end })", `function p.rcpt(tx) return m.anything() end`, ``},
		{"return function(tx) return tx.sendr end", `function p.rcpt(tx) m(tx) end`, ``},
		{"local M = {}\nfunction M.check(tx) tx:tag() end\nreturn M", `function p.rcpt(tx) m.check(tx) end`, `m.lua:2: tx:tag wants "tag" too; write tx:tag(tag: string)`},
		{"local other = require 'n'\nlocal M = {}\nfunction M.check(tx) other.go(tx) end\nreturn M", `function p.rcpt(tx) m.check(tx) end`, `n.lua:3: dns has no member "b"`},
	} {
		o := exampleOptions(t)
		o.Modules = []fs.FS{fstest.MapFS{
			"m.lua": {Data: []byte(c.module)},
			"n.lua": {Data: []byte("local M = {}\nfunction M.go(x) log.info(x.y)\n  return dns.b() end\nreturn M")},
		}}
		script, problems := Compile("test.lua", []byte("local p = policy {}\nlocal m = require 'm'\n"+c.script+"\nreturn p"), o)
		if script == nil {
			t.Errorf("%s: %v", c.script, problems)
			continue
		}
		var list []string
		for _, p := range problems {
			if !p.Warning {
				t.Errorf("an error: %v", p)
			}
			text := p.String()
			if p.File != "" {
				text = p.File + ":" + text
			}
			list = append(list, text)
		}
		if got := strings.Join(list, "\n"); c.want == "" && got != "" || !strings.HasPrefix(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%s with %q:\ngot  %s\nwant %s", c.script, c.module, got, c.want)
		}
	}
}

// A finding in a module that a cached script has comes again.
func TestLintOfCachedModules(t *testing.T) {
	o := exampleOptions(t)
	o.Cache = &Cache{}
	o.Modules = []fs.FS{fstest.MapFS{"m.lua": {Data: []byte("return { f = function() return dns.aa() end }")}}}
	var all [2]string
	for i := range all {
		_, problems := Compile("test.lua", []byte("local m = require 'm'\nlocal p = policy {}\nfunction p.rcpt() m.f() end\nreturn p"), o)
		all[i] = fmt.Sprint(problems)
		if len(problems) != 1 || problems[0].File != "m.lua" {
			t.Error(all[i])
		}
	}
	if all[0] != all[1] {
		t.Error(all)
	}
}
