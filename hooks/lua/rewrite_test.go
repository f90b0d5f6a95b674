package lua

import "testing"

// TestLastParameter: gopher-lua puts a call that gives one value to a function's last
// parameter together in the registers of the locals behind it, which then are lost. The
// rewriter keeps scripts from that.
func TestLastParameter(t *testing.T) {
	for _, body := range []string{
		`local a, b = 1, 2; e = "x" .. e; return e == "xe" and a == 1 and b == 2`,
		`local a, b = 1, 2; e = (e:upper()); return e == "E" and a == 1 and b == 2`,
		`local a, b = 1, 2; e = e:upper(); return e == "E" and a == 1 and b == 2`,
		`local a, b = 1, 2; e, b = e:upper(), 3; return e == "E" and a == 1 and b == 3`,
		`local a, b = 1, 2; e, b = "x" .. e, e .. "x"; return e == "xe" and a == 1 and b == "ex"`,
		`local a, b = 1, 2; e, b = (e:gsub("e", "f")); return e == "f" and a == 1 and b == nil`,
		`local a, b = 1, 2; b, e = e:gsub("e", "f"); return e == 1 and a == 1 and b == "f"`,
		`local a, b = 1, 2; e = a and "x" .. e; return e == "xe" and a == 1 and b == 2`,
		`local a, b = 1, nil; e = "/" .. e .. "/"; s[e] = b ~= "" and b or nil; return e == "/e/" and a == 1 and s[e] == nil`,
		`local a = { 1 }; e = ("%s%s"):format(e, a[1]); return e == "e1" and a[1] == 1`,
		`for i = 1, 3 do local a = i; e = e .. a; if a ~= i then return false end end return e == "e123"`,
	} {
		o, _ := testOptions(t)
		source := "local p = policy {}\nlocal function f(s, e) " + body + " end\nassert(f({}, 'e'), 'it went wrong')\nfunction p.mail() end\nreturn p"
		if _, problems := Compile("x.lua", []byte(source), o); Failed(problems) {
			t.Errorf("%s: %v", body, problems)
		}
	}
}
