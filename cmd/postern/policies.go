package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/auth/feedback"
	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/geoip"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
	"github.com/postern-mta/postern/hooks/plugin"
	"github.com/postern-mta/postern/scripts"
)

// policyLoader turns [[policy]] entries into handlers. It alone knows where a
// name leads: to a site's script, a shipped one, or a plugin.
type policyLoader struct {
	log     *slog.Logger
	library lua.Library
	pool    *lua.Pool
	cache   lua.Cache // of scripts that did not change since an earlier generation
	plugins []string  // folders beside the binary
	places  *geoip.DB
	ledger  *feedback.Ledger // nil: nothing is counted for DMARC reports
	maps    *lookup.Set
	// coverage counts what runs of scripts in tests; nil: nothing is counted.
	coverage *lua.Coverage
}

// outside opens what scripts ask beside the DNS and the store: databases of
// addresses, and the authorities of certificates.
func (p *policyLoader) outside(c *config.Config) config.Problems {
	settings, err := remoteSettings(c)
	if err != nil {
		var found config.Problems
		if errors.As(err, &found) {
			return found
		}
		return config.Problems{c.Problem("tls.ca", err.Error())}
	}
	p.library.Roots, p.library.Hostname = settings.Roots, c.Server.Hostname
	p.library.Judged = nil
	if c.DMARC.Reports && p.ledger != nil {
		p.library.Judged = p.ledger
	}
	maps, found := p.openMaps(c)
	if len(found) > 0 {
		return found
	}
	p.maps, p.library.Maps = maps, maps
	p.library.SRS, p.library.BATV = rewriter(c), tagger(c)
	if p.library.Places = nil; len(c.GeoIP.Databases) == 0 {
		p.places = nil
		return nil
	}
	places, err := geoip.Open(c.GeoIP.Databases, p.places)
	if err != nil {
		return config.Problems{c.Problem("geoip.databases", err.Error()+"; write the path of a readable database (mmdb)")}
	}
	p.places, p.library.Places = places, places
	return nil
}

// openMaps opens the maps of [[lookup]]; those that were open stay so.
func (p *policyLoader) openMaps(c *config.Config) (*lookup.Set, config.Problems) {
	sources := make([]lookup.Source, len(c.Lookups))
	for i := range c.Lookups {
		sources[i] = lookupSource(&c.Lookups[i])
	}
	maps, failures := lookup.Open(sources, p.maps, lookup.Options{Log: p.log, Roots: p.library.Roots})
	var problems config.Problems
	for _, f := range failures {
		problems = append(problems, c.Lookups[f.Index].Problem(f.Key, f.Err.Error()))
	}
	return maps, problems
}

func newPolicyLoader(_ *global, log *slog.Logger, r dns.Resolver, s store.Store, ours func(string) bool) *policyLoader {
	p := &policyLoader{log: log, library: lua.Library{DNS: r, Store: s, Log: log, Ours: ours}, pool: lua.NewPool(0)}
	if exe, err := os.Executable(); err == nil {
		p.plugins = []string{filepath.Join(filepath.Dir(exe), "plugins")}
	}
	return p
}

// found is where a `use` leads.
type found struct {
	script []byte // source of a script, nil for a plugin
	path   string // of the script as messages name it, or of the plugin's executable
	dir    string // where a script's modules are
	files  string // the folder of the configuration, where its file settings begin
	site   bool   // not shipped
}

// shippedPlugins are the folders of plugins/.
func shippedPlugins() []string {
	return []string{"checker", "clamd", "policyservice", "rspamd", "scanner", "spamassassin"}
}

// find resolves a `use`: a path, else a script of the site's policy_dir, a
// shipped script, a plugin in plugin_dir, a plugin beside the binary.
func (p *policyLoader) find(c *config.Config, use, path string) (found, error) {
	f, err := p.look(c, use, path)
	f.files = c.Dir
	return f, err
}

func (p *policyLoader) look(c *config.Config, use, path string) (found, error) {
	if path != "" {
		if filepath.Ext(path) != ".lua" {
			return found{path: path, site: true}, checkExecutable(path)
		}
		return readScript(path)
	}
	if c.Server.PolicyDir != "" {
		f, err := readScript(filepath.Join(c.Server.PolicyDir, use+".lua"))
		// An empty file is what a shell makes before "policy show NAME --source"
		// fills it.
		if empty := err == nil && len(f.script) == 0; !empty && !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	if source, err := scripts.Files.ReadFile(use + ".lua"); err == nil {
		return found{script: source, path: "scripts/" + use + ".lua", dir: c.Dir}, nil
	}
	for _, dir := range p.pluginDirs(c) {
		exe := filepath.Join(dir, use)
		if err := checkExecutable(exe); !errors.Is(err, fs.ErrNotExist) {
			return found{path: exe}, err
		}
	}
	if slices.Contains(shippedPlugins(), use) {
		return found{}, fmt.Errorf("%s is a plugin, a program of its own, and is not in %s; `make build` puts it beside postern, go build -o DIR ./plugins/%s into any folder", use, strings.Join(p.pluginDirs(c), " or "), use)
	}
	names := p.names(c)
	if near := config.Suggest(use, names); near != "" {
		return found{}, fmt.Errorf("no policy is called %q; did you mean %q?", use, near)
	}
	return found{}, fmt.Errorf("no policy is called %q; write one of %s, or a path with a slash", use, strings.Join(names, ", "))
}

func (p *policyLoader) pluginDirs(c *config.Config) []string {
	if c.Server.PluginDir == "" {
		return p.plugins
	}
	return append([]string{c.Server.PluginDir}, p.plugins...)
}

func readScript(path string) (found, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return found{}, fmt.Errorf("the script can't be read: %w; write the path of a readable .lua file", err)
	}
	return found{script: source, path: path, dir: filepath.Dir(path), site: true}, nil
}

func checkExecutable(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("the plugin can't be found: %w; write the path of an executable, or of a .lua script", err)
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not an executable file; make it one with chmod +x, or write the path of a .lua script", path)
	}
	return nil
}

// names lists what `use` may say without a path.
func (p *policyLoader) names(c *config.Config) []string {
	var names []string
	add := func(f fs.FS, dir bool) {
		entries, _ := fs.ReadDir(f, ".")
		for _, e := range entries {
			name, script := strings.CutSuffix(e.Name(), ".lua")
			if !e.IsDir() && script != dir && !strings.HasSuffix(name, "_test") && e.Name() != "postern.lua" { // which policy stubs writes
				names = append(names, name)
			}
		}
	}
	add(scripts.Files, false)
	add(os.DirFS(c.Server.PolicyDir), false)
	for _, dir := range p.pluginDirs(c) {
		add(os.DirFS(dir), true)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// chain builds a generation: the configured policies, then the rules that are
// built in. All problems come at once; with an error among them nothing is left
// running, and the chain is nil.
func (p *policyLoader) chain(c *config.Config, o hooks.Options, last ...hooks.Handler) (*hooks.Chain, config.Problems) {
	_, problems := scoreRules(c)
	problems = append(problems, p.outside(c)...)
	entries, found := p.entries(c)
	problems = append(problems, found...)
	entries = append(blocked(c), entries...)
	for _, h := range last {
		// The recipient rule may ask a next hop, which bounds its own time.
		entries = append(entries, hooks.Entry{Handler: h, Timeout: max(hooks.DefaultTimeout, c.Callout.Timeout+5*time.Second)})
	}
	chain := hooks.NewChain(entries, o)
	problems = slices.Compact(problems.Sorted()) // a module's are found with each script that requires it
	if problems.Err() != nil {
		chain.Retire()
		return nil, problems
	}
	return chain, problems
}

// entries loads the configured policies, each under a name of its own: as many at
// a time as there are processors, in the order in which they stand.
func (p *policyLoader) entries(c *config.Config) (entries []hooks.Entry, problems config.Problems) {
	loaded := make([]*hooks.Entry, len(c.Policies))
	found := make([]config.Problems, len(c.Policies))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var loading sync.WaitGroup
	for i := range c.Policies {
		slots <- struct{}{}
		loading.Go(func() {
			loaded[i], found[i] = p.load(c, &c.Policies[i])
			<-slots
		})
	}
	loading.Wait()
	names := map[string]int{}
	for i, e := range loaded {
		problems = append(problems, found[i]...)
		if e == nil {
			continue
		}
		if names[e.Name]++; names[e.Name] > 1 {
			e.Name = fmt.Sprintf("%s-%d", e.Name, names[e.Name])
		}
		entries = append(entries, *e)
	}
	return entries, problems
}

// load makes one entry; nil where it has an error.
func (p *policyLoader) load(c *config.Config, pol *config.Policy) (*hooks.Entry, config.Problems) {
	f, err := p.find(c, pol.Use, pol.Path)
	if err != nil {
		return nil, config.Problems{pol.Problem("use", err.Error())}
	}
	e := &hooks.Entry{
		Name: pol.Name, Timeout: pol.Timeout, FailOpen: pol.OnFailure == "pass", Immune: pol.Immune, Sample: pol.Sample, Every: pol.Every,
		When: hooks.When{
			Listener: pol.When.Listener, Client: pol.When.Client, ClientNot: pol.When.ClientNot,
			RcptDomain: pol.When.RcptDomain, SenderDomain: pol.When.SenderDomain, Authenticated: pol.When.Authenticated,
		},
	}
	switch pol.Mode {
	case "shadow":
		e.Mode = hooks.Shadow
	case "off":
		e.Mode = hooks.Off
	}
	var problems config.Problems
	if f.script != nil {
		problems = append(forPlugins(pol), p.script(f, pol, e)...)
	} else {
		problems = p.plugin(c, f, pol, e)
	}
	if problems.Err() != nil {
		return nil, problems
	}
	if pol.DenyAt != "" {
		e.DenyAt, _ = hooks.ParseStage(pol.DenyAt)
	}
	problems = append(problems, stageProblems(pol, e)...)
	return e, problems
}

// stageProblems finds keys of an entry that its policy's stages leave without
// an effect.
func stageProblems(pol *config.Policy, e *hooks.Entry) (found config.Problems) {
	stages := e.Handler.Stages()
	if e.DenyAt != 0 && !slices.ContainsFunc(stages, func(at hooks.Stage) bool { return at < e.DenyAt }) {
		words := make([]string, 0, len(stages))
		for _, at := range stages {
			words = append(words, at.String())
		}
		found = append(found, pol.Problem("deny_at", fmt.Sprintf(
			"%q keeps nothing: the policy is asked at %s; write a later stage, or leave it out", e.DenyAt, strings.Join(words, ", "))))
	}
	switch ticks := slices.Contains(stages, hooks.Tick); {
	case ticks && e.Every == 0:
		found = append(found, pol.Problem("every", `missing: the policy has a handler of stage tick; write how often it is called, such as every = "1m"`))
	case !ticks && pol.Every != 0:
		found = append(found, pol.Problem("every", "the policy has no handler of stage tick; leave it out"))
	}
	return found
}

// scoreRules reads the conditions of [[score.rule]].
func scoreRules(c *config.Config) (rules []intake.ScoreRule, problems config.Problems) {
	for i := range c.Score.Rules {
		r := &c.Score.Rules[i]
		when, err := hooks.ParseRule(r.When)
		if err != nil {
			problems = append(problems, r.Problem("when", fmt.Sprintf("%v, in %q", err, r.When)))
			continue
		}
		rules = append(rules, intake.ScoreRule{When: when, Score: hooks.Score{Name: r.Name, Points: r.Points, Why: r.Why}})
	}
	return rules, problems
}

func (p *policyLoader) script(f found, pol *config.Policy, e *hooks.Entry) config.Problems {
	script, found := p.compile(f, pol.Mode)
	problems := f.problems(found)
	if lua.Failed(found) {
		return problems
	}
	policy, found := script.Instance(pol.Settings)
	for _, one := range found {
		q := pol.Problem(one.Key, one.Text)
		q.Warning = one.Warning
		problems = append(problems, q)
	}
	if lua.Failed(found) {
		return problems
	}
	e.Handler = policy
	if pol.OnFailure == "" {
		e.FailOpen = script.FailOpen()
	}
	if pol.Immune == nil {
		e.Immune = script.Immune()
	}
	if e.Timeout == 0 {
		e.Timeout = script.Timeout()
	}
	if e.Every == 0 {
		e.Every = script.Every()
	}
	e.DenyAt = script.DenyAt()
	return problems
}

func (p *policyLoader) compile(f found, mode string) (*lua.Script, []lua.Problem) {
	return lua.Compile(f.path, f.script, lua.Options{
		Library: p.library, Shadow: mode == "shadow", Modules: []fs.FS{os.DirFS(f.dir), modules()}, Dir: f.files, Pool: p.pool, Cache: &p.cache, Coverage: p.coverage,
	})
}

// modules are the shipped modules that every script may require.
func modules() fs.FS {
	lib, err := fs.Sub(scripts.Files, "lib")
	if err != nil {
		panic(err) // "lib" is a valid path
	}
	return lib
}

// problems are findings about a script and its modules.
func (f *found) problems(list []lua.Problem) config.Problems {
	var problems config.Problems
	for _, one := range list {
		path := f.path
		if one.File != "" {
			path = filepath.Join("scripts", "lib", one.File)
			if beside := filepath.Join(f.dir, one.File); exists(beside) {
				path = beside
			}
		}
		problems = append(problems, config.Problem{File: path, Line: max(one.Line, 1), Key: one.Key, Text: one.Text, Warning: one.Warning})
	}
	return problems
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// maxTemp is the longest folder under which a plugin's socket still has a path
// that the system takes.
const maxTemp = 40

// shortTemp is the folder for plugins' sockets: the system's, unless that is too
// long for them.
func shortTemp() string {
	if dir := os.TempDir(); len(dir) <= maxTemp {
		return dir
	}
	return "/tmp"
}

// forPlugins finds keys that say something about a plugin alone.
func forPlugins(pol *config.Policy) (found config.Problems) {
	for _, one := range []struct {
		key     string
		written bool
	}{{"sha256", pol.SHA256 != ""}, {"run_as", pol.RunAs != ""}, {"concurrency", pol.Concurrency > 0}} {
		if one.written {
			found = append(found, pol.Problem(one.key, pol.Use+" is a script, and this is for plugins; leave it out"))
		}
	}
	return found
}

func (p *policyLoader) plugin(c *config.Config, f found, pol *config.Policy, e *hooks.Entry) config.Problems {
	h, found, err := plugin.Load(f.path, plugin.Options{
		Name: pol.Name, Settings: pol.Settings, Dir: c.Dir, TempDir: shortTemp(), Log: p.log,
		SHA256: pol.SHA256, User: pol.RunAs, InFlight: pol.Concurrency, Store: p.library.Store, Metrics: p.library.Metrics, Now: p.library.Now,
	})
	switch {
	case errors.Is(err, plugin.ErrChecksum):
		return config.Problems{pol.Problem("sha256", err.Error())}
	case errors.Is(err, plugin.ErrAccount):
		return config.Problems{pol.Problem("run_as", err.Error())}
	case err != nil:
		return config.Problems{pol.Problem("use", err.Error())}
	}
	var problems config.Problems
	for _, one := range found {
		problems = append(problems, pol.Problem(one.Key, one.Text))
	}
	if len(problems) > 0 {
		return problems
	}
	about := h.Description()
	e.Handler = h
	if pol.OnFailure == "" {
		e.FailOpen = about.OnFailure == "pass"
	}
	if pol.Immune == nil {
		e.Immune = about.Immune
	}
	if e.Timeout == 0 {
		e.Timeout = about.Timeout
	}
	if e.Every == 0 {
		e.Every = about.Every
	}
	e.DenyAt = about.DenyAt
	return nil
}
