package lua

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/hooks"
)

// Setting is one setting of a policy, for tools and documents.
type Setting struct {
	Name     string
	Type     string // as the script writes it: duration, list(string)
	About    string
	Default  any // plain value; nil where there is none
	Required bool
	Secret   bool // its value must not be shown
	Choices  []string
	Range    string // bounds in words, such as "0 to 32"; "": none
}

// settingDecl is a setting as the script declares it.
type settingDecl struct {
	name  string
	kind  *kind
	about string
	given bool // has a default
	value any  // the default as given, a plain value
	ready any  // the default, checked

	low, high float64 // bounds of a number or a time; high: +Inf for none
	bounded   bool
}

func (*settingDecl) luaKind() string { return "a setting" }

// declaration is what policy{…} said.
type declaration struct {
	table    *lua.LTable
	about    string
	settings []*settingDecl
	failOpen bool
	immune   []string
	timeout  time.Duration
	denyAt   hooks.Stage
	every    time.Duration
	problems []Problem
}

// policyKeys are the keys of policy{…}.
var policyKeys = [...]string{"about", "settings", "on_failure", "immune", "timeout", "deny_at", "every"}

// entryKeys are the keys of a [[policy]] entry, which no setting may have.
var entryKeys = [...]string{"use", "name", "mode", "timeout", "on_failure", "when", "immune", "deny_at", "sample", "isolate", "sha256", "about", "settings", "every"}

// declare is the function policy of scripts.
func (st *state) declare(L *lua.LState) int {
	t := L.CheckTable(1)
	if st.declared != nil {
		L.RaiseError("policy { } stands in the script twice: a file is one policy")
	}
	if !st.loading {
		L.RaiseError("policy { } belongs to the top of the file")
	}
	d := &declaration{table: L.CreateTable(0, 16)}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		d.key(st, k.String(), v)
	}
	for _, s := range d.settings {
		value, ok := st.values[s.name]
		if !ok {
			value = s.ready
		}
		d.table.RawSetString(s.name, st.kindValue(s.kind, value))
	}
	st.declared = d
	L.Push(d.table)
	return 1
}

func (d *declaration) complain(st *state, key, format string, args ...any) {
	line := 0
	if c := st.script.chunk; c != nil {
		line = c.lines[key]
	}
	d.problems = append(d.problems, Problem{Line: line, Text: fmt.Sprintf(format, args...)})
}

// key takes one key of policy{…}.
func (d *declaration) key(st *state, key string, v lua.LValue) {
	text, isText := v.(lua.LString)
	switch key {
	case "about":
		if !isText {
			d.complain(st, key, "about must be a text")
		}
		d.about = string(text)
	case "on_failure":
		if text != "defer" && text != "pass" {
			d.complain(st, key, `on_failure must be "defer" or "pass"`)
		}
		d.failOpen = text == "pass"
	case "timeout":
		seconds, err := spanOf(v)
		if err == nil && seconds <= 0 {
			err = fmt.Errorf("write a time such as %q", "10s")
		}
		if err != nil {
			d.complain(st, key, "timeout: %s", err)
		}
		d.timeout = toDuration(seconds)
	case "immune":
		list, _ := toPlain(v)
		items, _ := list.([]any)
		for _, item := range items {
			if item != "relaying" && item != "authenticated" {
				d.complain(st, key, `immune takes "relaying" and "authenticated", not %v`, item)
				continue
			}
			d.immune = append(d.immune, item.(string))
		}
		if list != nil && items == nil {
			d.complain(st, key, `immune must be a list, such as { "relaying", "authenticated" }`)
		}
	case "settings":
		t, ok := v.(*lua.LTable)
		if !ok {
			d.complain(st, key, "settings must be a table of settings")
			return
		}
		for k, item := t.Next(lua.LNil); k != lua.LNil; k, item = t.Next(k) {
			d.setting(st, k, item)
		}
	case "deny_at":
		at, _ := hooks.ParseStage(string(text))
		if !slices.Contains(hooks.DenyStages(), at) {
			d.complain(st, key, "deny_at takes one of %s, not %s", stageNames(hooks.DenyStages()), v)
		}
		d.denyAt = at
	case "every":
		seconds, err := spanOf(v)
		if err == nil && seconds < 1 {
			err = fmt.Errorf("write a time of a second or more, such as %q", "1m")
		}
		if err != nil {
			d.complain(st, key, "every: %s", err)
		}
		d.every = toDuration(seconds)
	default:
		d.complain(st, key, "policy { } has no key %q%s", key, didYouMean(key, policyKeys[:]))
	}
}

func stageNames(list []hooks.Stage) string {
	words := make([]string, 0, len(list))
	for _, at := range list {
		words = append(words, strconv.Quote(at.String()))
	}
	return strings.Join(words, ", ")
}

func (d *declaration) setting(st *state, k, v lua.LValue) {
	name, ok := k.(lua.LString)
	at := "settings." + k.String()
	if !ok || !isName(string(name)) {
		d.complain(st, at, "a setting's name is made of letters, digits and _: %s is none", k)
		return
	}
	if _, stage := hooks.ParseStage(string(name)); stage {
		d.complain(st, at, "a setting can't have the name %q: it is a stage's", name)
		return
	}
	if slices.Contains(entryKeys[:], string(name)) {
		d.complain(st, at, "a setting can't have the name %q: it is a key of every [[policy]]", name)
		return
	}
	s := declOf(st, v)
	if s == nil {
		d.complain(st, at, "setting %q must be a type, such as string \"x\", integer(3) or list(string) {}", name)
		return
	}
	one := *s
	s = &one
	s.name = string(name)
	var err error
	if s.given {
		s.ready, _, err = s.read(st.script.options.Dir, s.value)
	} else {
		s.ready = s.kind.placeholder()
	}
	if err != nil {
		d.complain(st, at, "the default of %q: %s", name, err)
		s.ready = s.kind.zero()
	}
	d.settings = append(d.settings, s)
}

// declOf is a setting, or a type without a default.
func declOf(st *state, v lua.LValue) *settingDecl {
	switch v := v.(type) {
	case *lua.LUserData:
		switch o := v.Value.(type) {
		case *settingDecl:
			return o
		case *kind:
			return &settingDecl{kind: o}
		}
	case *lua.LTable:
		if v == st.textLib {
			return &settingDecl{kind: &kind{name: "string"}}
		}
	}
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// read makes the typed value out of a plain one, and knows its bounds.
func (d *settingDecl) read(dir string, v any) (value any, f *fileValue, err error) {
	value, f, err = d.kind.read(dir, v)
	if n, ok := value.(float64); ok && err == nil && d.bounded && (n < d.low || n > d.high) {
		return d.kind.zero(), nil, fmt.Errorf("%v is out of range; write %s", v, d.bounds())
	}
	return value, f, err
}

// bounds are the bounds of a number or a time, in words, "" where it has none.
func (d *settingDecl) bounds() string {
	if !d.bounded {
		return ""
	}
	show := func(n float64) string {
		if d.kind.name == "duration" {
			return formatSeconds(n)
		}
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	if math.IsInf(d.high, 1) {
		return show(d.low) + " or more"
	}
	return show(d.low) + " to " + show(d.high)
}

// check makes the values of all settings out of those given and the defaults. files are
// those that settings were read from.
func (s *Script) check(given map[string]any) (values map[string]any, files map[string]*fileValue, problems []Problem) {
	files = map[string]*fileValue{}
	names := make([]string, 0, len(s.settings))
	values = make(map[string]any, len(s.settings))
	for _, d := range s.settings {
		names = append(names, d.name)
		v, ok := given[d.name]
		if !ok {
			if !d.given {
				problems = append(problems, Problem{Key: d.name, Text: "missing; it expects " + d.kind.expects()})
			}
			values[d.name] = d.ready
			continue
		}
		value, file, err := d.read(s.options.Dir, v)
		if err != nil {
			problems = append(problems, Problem{Key: d.name, Text: err.Error()})
		}
		values[d.name] = value
		if file != nil {
			files[d.name] = file
		}
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if slices.Contains(names, key) {
			continue
		}
		text := "unknown setting" + didYouMean(key, names)
		if len(names) == 0 {
			text = "unknown setting; the policy has none"
		} else if nearest(key, names) == "" {
			text += "; there are " + strings.Join(names, ", ")
		}
		problems = append(problems, Problem{Key: key, Text: text})
	}
	return values, files, problems
}

// maxComplaints bounds the problems that one script may tell of its settings.
const maxComplaints = 50

// complaints are what a script said about its settings when it was loaded: a line for
// each problem, which begins with the setting's name. "item N" of a setting that was
// read from a file becomes the file's line.
func (s *Script) complaints(text string, files map[string]*fileValue, warning bool) []Problem {
	var problems []Problem
	for line := range strings.Lines(text) {
		p := Problem{Text: strings.TrimSpace(line), Warning: warning}
		if key, rest, ok := strings.Cut(p.Text, ": "); ok && s.setting(key) != nil {
			p.Key, p.Text = key, rest
			if f := files[key]; f != nil {
				p.Text = f.place(rest)
			}
		}
		if problems = append(problems, p); len(problems) == maxComplaints {
			break
		}
	}
	return problems
}
