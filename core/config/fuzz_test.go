package config

import (
	"os"
	"strings"
	"testing"
)

// FuzzLoad: whatever stands in a file, Load answers, and each finding has a place and fits one line.
func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile("testdata/gateway.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(text), "", "[limits\n", "limits.hops = 3\n[limits]\n", "a = [[[{a=[[1]]}]]]", "x = \"\"\"\\\"\"\"\"\"\"", "[[policy]]\nuse = 3\nwhen.client = 'x'\n",
		"[[route]]\nnext_hop = \"smtp://[::1\"", "policy = [{use = 'x'}, 3]", "[[a.b]]\n[a.b.c]\n[[a.b]]\n", "'' = 1\n\"\" = 2", "\ufeff[dns]\r\nservers = ['::1',\r\n]", "a={b=1,\nc=2}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "@") || strings.Contains(text, "/") {
			return // names of files, whose content the result would depend on
		}
		c, problems := Load("", Options{Default: []byte(text), Name: "fuzz.toml"})
		for _, p := range problems {
			if p.File != "fuzz.toml" || p.Line < 1 || p.Line > 1+strings.Count(text, "\n") || p.Text == "" || strings.ContainsAny(p.String(), "\r\n") {
				t.Errorf("finding %+v", p)
			}
		}
		if c == nil && problems.Err() == nil {
			t.Error("neither a Config nor an error")
		}
		if c == nil || problems.Err() != nil {
			return
		}
		if c.Server.Hostname == "" || len(c.Listen) == 0 || c.Limits.MessageSize < 1 || c.Queue.Lifetime <= 0 || c.Server.DataDir == "" {
			t.Errorf("accepted: %+v", c)
		}
		for _, r := range c.Routes {
			if r.NextHop.Scheme == "" || !r.hasPattern() {
				t.Errorf("accepted the route %+v", r)
			}
		}
	})
}

// FuzzUnits: what a parser takes, its printer writes so that it reads the same.
func FuzzUnits(f *testing.F) {
	for _, seed := range []string{"1h30m", "7d", "250ms", "50MiB", "60/min", "192.0.2.0/24", "::ffff:1.2.3.4/100", "smtp://[::1]:25", "0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); again != d || err != nil {
				t.Errorf("duration %q: %v, %v", s, d, again)
			}
		}
		if n, err := ParseSize(s); err == nil {
			if again, err := ParseSize(FormatSize(n)); again != n || n < 0 || err != nil {
				t.Errorf("size %q: %v, %v", s, n, again)
			}
		}
		if p, err := ParsePrefix(s); err == nil {
			if again, err := ParsePrefix(p.String()); again != p || err != nil {
				t.Errorf("prefix %q: %v, %v", s, p, again)
			}
		}
		if r, err := ParseRate(s); err == nil && (r.Count < 1 || r.Per <= 0) {
			t.Errorf("rate %q: %v", s, r)
		}
		if h, err := parseNextHop(s); err == nil && (h.Scheme == "smtp") != (h.Host != "" && h.Port != 0) {
			t.Errorf("next hop %q: %+v", s, h)
		}
	})
}
