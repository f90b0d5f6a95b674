package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// fiftyPolicies is a configuration of fifty policies, each a file of its own: those
// that are shipped and those of contrib that need no settings, under several names.
func fiftyPolicies(tb testing.TB) (*config.Config, string) {
	tb.Helper()
	var files []string
	for _, pattern := range []string{"../../scripts/*.lua", "../../contrib/policies/*.lua"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			tb.Fatal(err)
		}
		files = append(files, found...)
	}
	var sources [][]byte
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		script, _ := lua.Compile(file, source, lua.Options{})
		if script == nil || strings.HasSuffix(file, "_test.lua") {
			continue
		}
		if _, problems := script.Instance(nil); lua.Failed(problems) {
			continue
		}
		sources = append(sources, source)
	}
	if len(sources) < 10 {
		tb.Fatalf("only %d policies can be had", len(sources))
	}
	dir := tb.TempDir()
	text := fmt.Sprintf("[server]\nhostname = \"mx.example.net\"\ndata_dir = %q\npolicy_dir = %q\n", filepath.Join(dir, "var"), dir)
	for i := range 50 {
		name := fmt.Sprintf("p%02d", i)
		source := append(sources[i%len(sources)], fmt.Sprintf("-- %d\n", i)...)
		if err := os.WriteFile(filepath.Join(dir, name+".lua"), source, 0o600); err != nil {
			tb.Fatal(err)
		}
		text += fmt.Sprintf("[[policy]]\nuse = %q\n", name)
	}
	c, problems := config.Load("", config.Options{Default: []byte(text)})
	if err := problems.Err(); err != nil {
		tb.Fatal(err)
	}
	return c, dir
}

func reloader() *policyLoader {
	return newPolicyLoader(&global{}, slog.New(slog.DiscardHandler), nil, nil, func(string) bool { return false })
}

func reload(tb testing.TB, p *policyLoader, c *config.Config) *hooks.Chain {
	tb.Helper()
	chain, problems := p.chain(c, hooks.Options{})
	if err := problems.Err(); err != nil {
		tb.Fatal(err)
	}
	return chain
}

// processorTime is what this process has used, in seconds.
func processorTime(tb testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkReload50 is what a reload of fifty policies costs: of none compiled
// before, of the same files as before, and of one that has changed.
func BenchmarkReload50(b *testing.B) {
	c, dir := fiftyPolicies(b)
	b.Run("first", func(b *testing.B) {
		began := processorTime(b)
		for b.Loop() {
			reload(b, reloader(), c).Retire()
		}
		b.ReportMetric((processorTime(b)-began)*1e3/float64(b.N), "cpu-ms/op")
	})
	for _, changed := range []int{0, 1} {
		b.Run(fmt.Sprintf("changed=%d", changed), func(b *testing.B) {
			p := reloader()
			before := reload(b, p, c)
			path := filepath.Join(dir, "p07.lua")
			source, err := os.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			n, began := 0, processorTime(b)
			for b.Loop() {
				if n++; changed > 0 {
					if err := os.WriteFile(path, append(source, fmt.Sprintf("-- again %d\n", n)...), 0o600); err != nil {
						b.Fatal(err)
					}
				}
				next := reload(b, p, c)
				before.Retire()
				before = next
			}
			before.Retire()
			b.ReportMetric((processorTime(b)-began)*1e3/float64(b.N), "cpu-ms/op")
		})
	}
}
