package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/hooks/lua"
	"github.com/postern-mta/postern/hooks/policytest"
	"github.com/postern-mta/postern/scripts"
)

// testFlags are the flags of test.
type testFlags struct {
	match, profile, junit string
	cover, json, verbose  bool
	timeout               time.Duration
	jobs                  int
}

func testCommand(g *global) *cobra.Command {
	f := testFlags{}
	c := &cobra.Command{
		Use:   "test [DIR|FILE]...",
		Short: "Run the tests of policies",
		Long: `Runs the tests in NAME_test.lua files: of the folders that are named, else of
the configuration's policy_dir where it is there, else of this folder. Each test drives SMTP sessions
through the policies that it names, with a clock, a DNS, services of the network
and next hops of its own, and nothing of it touches the machine: see
docs/testing.md.

A test that fails is shown with file and line, what was said in its sessions and
what each policy decided.

  postern test                          all tests of policy_dir
  postern test policies --run greylist  those whose name matches
  postern test --cover                  and which lines of the policies did not run
  postern test --junit junit.xml --cover-profile lcov.info    for a CI job

Exit status: 0 all passed, 1 some failed or there were none, 2 wrong use.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return testPolicies(g, args, f) },
	}
	c.Flags().StringVar(&f.match, "run", "", "only tests whose name matches `REGEXP`")
	c.Flags().BoolVar(&f.cover, "cover", false, "tell how much of each policy ran, and which lines did not")
	c.Flags().StringVar(&f.profile, "cover-profile", "", "write the coverage by line to `FILE`, as an LCOV tracefile")
	c.Flags().StringVar(&f.junit, "junit", "", "write the results to `FILE` as JUnit XML")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show every test, its sessions and decisions")
	c.Flags().DurationVar(&f.timeout, "timeout", policytest.DefaultTimeout, "time that one test may take")
	c.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "files that are run at a time")
	return c
}

// suite is the test files of one folder.
type suite struct {
	dir      string
	files    []string // names in dir
	coverage *lua.Coverage
}

func testPolicies(g *global, args []string, f testFlags) error {
	var match *regexp.Regexp
	if f.match != "" {
		var err error
		if match, err = regexp.Compile(f.match); err != nil {
			return usageError{fmt.Errorf("--run: %w", err)}
		}
	}
	if f.timeout <= 0 || f.jobs <= 0 {
		return usageError{errors.New("--timeout and --jobs are more than nothing")}
	}
	suites, err := findTests(g, args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	scratch, err := os.MkdirTemp("", "postern-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	start := time.Now()
	results := runSuites(ctx, g, suites, match, scratch, f)
	took := time.Since(start)
	if ctx.Err() != nil {
		return exitError{exitNo, errors.New("interrupted")}
	}
	return testReport(g, suites, results, took, f)
}

// findTests finds the files that the arguments mean.
func findTests(g *global, args []string) ([]*suite, error) {
	if len(args) == 0 {
		dir := "."
		if c, _, err := g.load(); err == nil && c != nil && c.Server.PolicyDir != "" {
			if st, err := os.Stat(c.Server.PolicyDir); err == nil && st.IsDir() {
				dir = nearby(c.Server.PolicyDir)
			}
		}
		args = []string{dir}
	}
	byDir := map[string]*suite{}
	var list []*suite
	add := func(dir string, files ...string) {
		s := byDir[dir]
		if s == nil {
			s = &suite{dir: dir}
			byDir[dir] = s
			list = append(list, s)
		}
		for _, name := range files {
			if !slices.Contains(s.files, name) {
				s.files = append(s.files, name)
			}
		}
	}
	for _, arg := range args {
		st, err := os.Stat(arg)
		switch {
		case err != nil:
			return nil, usageError{fmt.Errorf("%w; write a folder, or a file NAME_test.lua", err)}
		case !st.IsDir() && !strings.HasSuffix(arg, "_test.lua"):
			return nil, usageError{fmt.Errorf("%s is no test; write a folder, or a file NAME_test.lua", arg)}
		case !st.IsDir():
			add(filepath.Dir(arg), filepath.Base(arg))
			continue
		}
		names, err := policytest.Files(os.DirFS(arg))
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			add(filepath.Clean(arg), names...)
		}
	}
	if len(list) == 0 {
		return nil, exitError{exitNo, fmt.Errorf("no NAME_test.lua is in %s", strings.Join(args, ", "))}
	}
	return list, nil
}

// nearby is a path from here, where that is shorter.
func nearby(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}

// runSuites runs the files, several at a time; the results come in their order.
func runSuites(ctx context.Context, g *global, suites []*suite, match *regexp.Regexp, scratch string, f testFlags) []policytest.FileResult {
	type job struct {
		runner *policytest.Runner
		path   string
		result *policytest.FileResult
	}
	var jobs []job
	for _, s := range suites {
		if f.cover || f.profile != "" {
			s.coverage = &lua.Coverage{}
		}
		runner := s.runner(match, scratch, f)
		for _, name := range s.files {
			jobs = append(jobs, job{runner, filepath.Join(s.dir, name), nil})
		}
	}
	results := make([]policytest.FileResult, len(jobs))
	bar := newProgress(g.std.err, "testing", len(jobs))
	defer bar.end()
	var all sync.WaitGroup
	var mu sync.Mutex
	done := 0
	turns := make(chan struct{}, f.jobs)
	for i, j := range jobs {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			results[i] = runFile(ctx, j.runner, j.path)
			mu.Lock()
			defer mu.Unlock()
			done++
			bar.at(done)
		})
	}
	all.Wait()
	return results
}

func runFile(ctx context.Context, runner *policytest.Runner, path string) policytest.FileResult {
	r := policytest.FileResult{File: path}
	if r.Source, r.Err = os.ReadFile(path); r.Err != nil {
		return r
	}
	start := time.Now()
	r.Results, r.Err = runner.File(ctx, filepath.Base(path), r.Source, nil)
	r.Duration = time.Since(start)
	return r
}

// runner runs the tests of a folder over its policies and the shipped ones.
func (s *suite) runner(match *regexp.Regexp, scratch string, f testFlags) *policytest.Runner {
	folder := os.DirFS(s.dir)
	return policytest.New(policytest.Options{
		Policies: []fs.FS{folder, scripts.Files}, Modules: []fs.FS{folder, modules()}, Dir: s.dir,
		Match: match, Timeout: f.timeout, Scratch: scratch, Coverage: s.coverage, Config: s.config,
	})
}

// config reads what t:config says, as the daemon reads its own. Policies are looked
// for in the tests' folder.
func (s *suite) config(source string, library lua.Library) (*policytest.Config, error) {
	c, problems := config.Load("", config.Options{Default: []byte(source)})
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if c.Server.PolicyDir == "" {
		c.Server.PolicyDir = s.dir
	}
	loader := &policyLoader{log: slog.New(slog.DiscardHandler), library: library, pool: lua.NewPool(0), coverage: s.coverage}
	loader.library.SRS, loader.library.BATV = rewriter(c), tagger(c)
	maps, missing := loader.openMaps(c)
	if m, ok := library.Maps.(*lookup.Memory); ok {
		m.Behind(maps)
	}
	entries, found := loader.entries(c)
	found = append(missing, found...)
	if err := found.Err(); err != nil {
		return nil, err
	}
	t := &policytest.Config{Hostname: c.Server.Hostname, Intake: intakeSettings(c, library.Maps), Limits: smtpdLimits(c), Send: sendConfig(c), Entries: entries}
	if len(c.Domains) == 0 {
		t.Intake.Domains = intake.NewDomains([]intake.Domain{{Name: "example.net"}})
	}
	if len(c.Routes) == 0 {
		t.Intake.Routed, t.Send.Routes = nil, send.Routes{{NextHop: send.NextHop{Scheme: send.SchemeMX}, TLS: "may"}}
	}
	t.Intake.Proxied, t.Intake.Asked = nil, nil
	return t, nil
}

// covered is what ran of the files in the suite's folder.
func (s *suite) covered() []lua.FileCoverage {
	var list []lua.FileCoverage
	for _, f := range s.coverage.Files() {
		path := f.Name
		if !strings.HasPrefix(path, s.dir+"/") {
			path = filepath.Join(s.dir, f.Name)
		}
		if _, err := os.Stat(path); err == nil {
			f.Name = path
			list = append(list, f)
		}
	}
	return list
}

// testReport prints and writes what came of it, and says whether all is well.
func testReport(g *global, suites []*suite, results []policytest.FileResult, took time.Duration, f testFlags) error {
	var coverage []lua.FileCoverage
	for _, s := range suites {
		if s.coverage != nil {
			coverage = append(coverage, s.covered()...)
		}
	}
	if f.profile != "" {
		if err := writeFile(f.profile, func(w io.Writer) error { return policytest.WriteLCOV(w, coverage) }); err != nil {
			return err
		}
	}
	if f.junit != "" {
		if err := writeFile(f.junit, func(w io.Writer) error { return policytest.WriteJUnit(w, results, took) }); err != nil {
			return err
		}
	}
	passed, failed := 0, 0
	for i := range results {
		failed += results[i].Failed()
		for k := range results[i].Results {
			if results[i].Results[k].Err == nil {
				passed++
			}
		}
	}
	if f.json {
		if err := policytest.WriteJSON(g.std.out, results, coverage, took, f.verbose); err != nil {
			return err
		}
	} else {
		for i := range results {
			results[i].Print(g.std.out, f.verbose)
		}
		if f.cover {
			printCoverage(g.std.out, coverage)
		}
		fmt.Fprintf(g.std.out, "%d passed, %d failed in %d ms\n", passed, failed, took.Milliseconds())
	}
	switch {
	case failed > 0:
		return exitError{exitNo, nil}
	case passed == 0:
		return exitError{exitNo, fmt.Errorf("no test's name matches %q", f.match)}
	}
	return nil
}

func printCoverage(w io.Writer, files []lua.FileCoverage) {
	for _, f := range files {
		fmt.Fprintf(w, "%5.1f %%  %s", policytest.Percent(f), f.Name)
		if missed := policytest.Missed(f); len(missed) > 0 {
			fmt.Fprintf(w, ": not run: %s", policytest.ShowLines(missed))
		}
		fmt.Fprintln(w)
	}
}

// writeFile writes a file whole, or says what is wrong.
func writeFile(name string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}
