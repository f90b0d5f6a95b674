package lua

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/hooks"
)

// Script is a compiled policy script. It is safe for concurrent use and never
// changes.
type Script struct {
	name    string
	short   string
	options Options
	chunk   *chunk
	known   []string

	about    string
	settings []*settingDecl
	stages   []hooks.Stage
	failOpen bool
	immune   []string
	timeout  time.Duration
	denyAt   hooks.Stage
	every    time.Duration

	mu      sync.Mutex
	modules map[string]*chunk
	exports map[string][]string // names in the tables of modules, for the analysis
	client  *http.Client        // made on first use
}

// Compile reads a policy script. name is what errors call it, such as
// "site/hello.lua". Where a problem is more than a warning, the Script is nil.
func Compile(name string, source []byte, o Options) (*Script, []Problem) {
	o = o.filled()
	if o.Cache == nil || o.Coverage != nil {
		return compile(name, source, o)
	}
	key := cacheKey{name, sha256.Sum256(source)}
	if s, problems := o.Cache.recall(key, o); s != nil {
		return s, problems
	}
	s, problems := compile(name, source, o)
	if s != nil {
		o.Cache.keep(key, s, problems)
	}
	return s, problems
}

func compile(name string, source []byte, o Options) (*Script, []Problem) {
	s := &Script{name: name, short: strings.TrimSuffix(path.Base(name), ".lua"), options: o, known: knownGlobals(), modules: map[string]*chunk{}}
	c, problem := o.Cache.chunk(name, source, s.known, o.Coverage)
	if problem != nil {
		return nil, []Problem{*problem}
	}
	s.chunk = c
	st, err := newState(context.Background(), s, nil, nil)
	if err != nil {
		return nil, append([]Problem{s.problem(err)}, c.warnings...)
	}
	defer st.L.Close()
	problems := append(s.inspect(st), c.warnings...)
	s.exports = exports(st.modules)
	if Failed(problems) {
		return nil, problems
	}
	return s, append(problems, s.lint(source, c.lines)...)
}

func (o Options) filled() Options {
	if o.Library.Log == nil {
		o.Library.Log = slog.New(slog.DiscardHandler)
	}
	if o.Library.Now == nil {
		o.Library.Now = time.Now
	}
	if o.Library.Ours == nil {
		o.Library.Ours = func(string) bool { return false }
	}
	if o.Pool == nil {
		o.Pool = NewPool(0)
	}
	if o.LuaTime <= 0 {
		o.LuaTime = DefaultLuaTime
	}
	return o
}

// knownGlobals lists the globals that every script finds.
var knownGlobals = sync.OnceValue(func() []string {
	st := bareState(&Script{options: Options{}.filled()})
	defer st.L.Close()
	st.open()
	st.openLibraries(allLibraries)
	return globalNames(st)
})

// problem finds the line in an error of the script.
func (s *Script) problem(err error) Problem {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, s.name+":"); ok {
		number, message, _ := strings.Cut(rest, ":")
		if line, err := strconv.Atoi(number); err == nil {
			return Problem{Line: line, Text: strings.TrimSpace(message)}
		}
	}
	return Problem{Text: text}
}

// inspect takes over what the script declared and says what is wrong with it.
func (s *Script) inspect(st *state) []Problem {
	d := st.declared
	s.about, s.settings, s.failOpen, s.immune, s.timeout = d.about, d.settings, d.failOpen, d.immune, d.timeout
	s.denyAt, s.every = d.denyAt, d.every
	problems := d.problems
	var names []string
	for _, row := range hooks.Stages() {
		names = append(names, row.Name)
		if st.handlers[row.Stage] != nil {
			s.stages = append(s.stages, row.Stage)
		}
	}
	d.table.ForEach(func(k, v lua.LValue) {
		name := k.String()
		fn, ok := v.(*lua.LFunction)
		stage := slices.Contains(names, name)
		line := 0
		if ok && fn.Proto != nil {
			line = fn.Proto.LineDefined
		}
		switch {
		case s.setting(name) != nil:
		case stage && !ok:
			problems = append(problems, Problem{Text: fmt.Sprintf("%s is a stage, so it must be a function", name)})
		case ok && !stage && nearest(name, names) != "":
			problems = append(problems, Problem{Line: line, Text: fmt.Sprintf("%q is no stage%s", name, didYouMean(name, names))})
		}
	})
	if len(s.stages) == 0 && len(problems) == 0 {
		problems = append(problems, Problem{Text: "the policy has no function that is named after a stage, such as rcpt or message"})
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	return problems
}

func (s *Script) setting(name string) *settingDecl {
	for _, d := range s.settings {
		if d.name == name {
			return d
		}
	}
	return nil
}

// module compiles what require asks for, once for all states.
func (s *Script) module(name string) (*chunk, *Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.modules[name]; c != nil {
		return c, nil
	}
	source, file, problem := s.options.moduleSource(name)
	if problem != nil {
		return nil, problem
	}
	c, problem := s.options.Cache.chunk(file, source, s.known, s.options.Coverage)
	if problem != nil {
		return nil, &Problem{Text: fmt.Sprintf("module %q: %s:%s", name, file, problem)}
	}
	s.modules[name] = c
	return c, nil
}

// moduleSource finds a module in the first folder that has it; file is its name
// there.
func (o Options) moduleSource(name string) (source []byte, file string, problem *Problem) {
	file = strings.ReplaceAll(name, ".", "/") + ".lua"
	if !fs.ValidPath(file) {
		return nil, "", &Problem{Text: fmt.Sprintf("%q is no module's name", name)}
	}
	for _, folder := range o.Modules {
		source, err := fs.ReadFile(folder, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", &Problem{Text: fmt.Sprintf("module %q: %s", name, err)}
		}
		return source, file, nil
	}
	return nil, "", &Problem{Text: fmt.Sprintf("module %q is neither beside the policy nor in scripts/lib", name)}
}

// Name is the name given to Compile.
func (s *Script) Name() string { return s.name }

// About is the policy's doc line.
func (s *Script) About() string { return s.about }

// Stages lists the stages that the script has functions for, in their order.
func (s *Script) Stages() []hooks.Stage { return slices.Clone(s.stages) }

// FailOpen tells whether the script declares on_failure = "pass".
func (s *Script) FailOpen() bool { return s.failOpen }

// Immune lists the clients that the script declares it leaves alone:
// "relaying", "authenticated".
func (s *Script) Immune() []string { return slices.Clone(s.immune) }

// Timeout of one call as the script declares it; 0: none declared.
func (s *Script) Timeout() time.Duration { return s.timeout }

// DenyAt is the stage until which the script declares that its refusals are kept;
// 0: they are said at once.
func (s *Script) DenyAt() hooks.Stage { return s.denyAt }

// Every is the time between two calls of stage tick as the script declares it;
// 0: none declared.
func (s *Script) Every() time.Duration { return s.every }

// Settings lists the settings in the order of the script.
func (s *Script) Settings() []Setting {
	list := make([]Setting, 0, len(s.settings))
	for _, d := range s.settings {
		list = append(list, Setting{
			Name: d.name, Type: d.kind.String(), About: d.about, Default: d.value,
			Required: !d.given, Secret: d.kind.secret(), Choices: slices.Clone(d.kind.choices), Range: d.bounds(),
		})
	}
	return list
}

// Instance binds settings as the configuration's decoder gives them (string,
// int64, float64, bool, []any, map[string]any) and loads the script with them.
// Each [[policy]] entry has one of its own. The Policy is nil where a problem is
// more than a warning.
func (s *Script) Instance(settings map[string]any) (*Policy, []Problem) {
	values, files, problems := s.check(settings)
	if Failed(problems) {
		return nil, problems
	}
	p := &Policy{script: s, values: values, pool: s.options.Pool, stages: s.Stages()}
	for _, at := range p.stages {
		p.asked[at] = true
	}
	st, err := newState(context.Background(), s, p, values)
	if err != nil {
		if one := s.problem(err); one.Line > 0 {
			return nil, append(problems, one)
		}
		return nil, append(problems, s.complaints(err.Error(), files, false)...)
	}
	for _, text := range st.warned {
		problems = append(problems, s.complaints(text, files, true)...)
	}
	p.pool.join(p, st)
	return p, problems
}
