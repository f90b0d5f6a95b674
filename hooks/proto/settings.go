package proto

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// settingTypes says what each type of a setting takes, for texts of problems.
func settingTypes() map[string]string {
	return map[string]string{
		"string": `a text, such as "word"`, "integer": "a whole number, such as 5", "number": "a number, such as 2.5",
		"boolean": "true or false", "duration": `a duration, such as "5m"`, "size": `a size, such as "50MiB"`,
		"address": `an address, such as "user@example.net"`, "cidrs": `a list of networks, such as ["192.0.2.0/24"]`,
		"domains": `a list of domains, such as ["example.net", "*.example.org"]`, "regexp": `a regular expression, such as "^spam"`,
		"enum": "one of its words", "file": `the path of a file, such as "words.txt"`, "secret": "a text",
		"list": `a list, such as ["word"]`, "map": `a table, such as { key = "word" }`,
	}
}

// Sound tells what is wrong with the declaration of a setting itself.
func (x *Setting) Sound() error {
	types := settingTypes()
	if _, ok := types[x.GetType()]; !ok {
		return fmt.Errorf("setting %q has the unknown type %q", x.GetName(), x.GetType())
	}
	if x.nested() {
		if _, ok := types[x.GetOf()]; !ok || x.GetOf() == "list" || x.GetOf() == "map" {
			return fmt.Errorf("setting %q is a %s of the unknown type %q", x.GetName(), x.GetType(), x.GetOf())
		}
	}
	if (x.GetType() == "enum" || x.nested() && x.GetOf() == "enum") && len(x.GetChoices()) == 0 {
		return fmt.Errorf("setting %q is an enum without choices", x.GetName())
	}
	if x.GetDefault() == nil {
		return nil
	}
	v, err := x.GetDefault().Plain()
	if err == nil {
		c := check{setting: x}
		if c.value(x.GetName(), x.GetType(), v); len(c.problems) > 0 {
			err = fmt.Errorf("%s: %s", c.problems[0].Key, c.problems[0].Text)
		}
	}
	if err != nil {
		return fmt.Errorf("default of setting %q: %w", x.GetName(), err)
	}
	return nil
}

func (x *Setting) nested() bool { return x.GetType() == "list" || x.GetType() == "map" }

// CheckSettings holds what a [[policy]] entry gives, as a TOML decoder reads it,
// against what the policy declared. It returns every declared setting in the
// form of ConfigureRequest: defaults filled in, durations as seconds, sizes as
// bytes, relative paths under dir. Keys of problems are as Pos.Problem of the
// configuration takes them: "words", "words[2]", "limits.high".
func (x *Description) CheckSettings(given map[string]any, dir string) (map[string]*Value, []*Problem) {
	settings := make(map[string]*Value, len(x.GetSettings()))
	var names []string
	var problems []*Problem
	for _, s := range x.GetSettings() {
		names = append(names, s.GetName())
		v, ok := given[s.GetName()]
		if !ok {
			if s.GetDefault() == nil {
				problems = append(problems, &Problem{Key: s.GetName(), Text: "missing; write " + settingTypes()[s.GetType()]})
				continue
			}
			if v, _ = s.GetDefault().Plain(); v == nil {
				continue
			}
		}
		c := check{setting: s, dir: dir}
		settings[s.GetName()] = c.value(s.GetName(), s.GetType(), v)
		problems = append(problems, c.problems...)
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, key) {
			problems = append(problems, &Problem{Key: key, Text: unknownSetting(key, names)})
		}
	}
	return settings, problems
}

func unknownSetting(key string, names []string) string {
	if near := nearest(key, names); near != "" {
		return fmt.Sprintf("unknown setting; did you mean %q?", near)
	}
	if len(names) == 0 {
		return "unknown setting; this policy has none"
	}
	return "unknown setting; there are " + strings.Join(names, ", ")
}

// check reads one setting and collects what is wrong with it.
type check struct {
	setting  *Setting
	dir      string
	problems []*Problem
}

func (c *check) fail(key, format string, args ...any) *Value {
	c.problems = append(c.problems, &Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	return &Value{}
}

// expected is the problem of a value that has the wrong type. A secret's value
// is never repeated.
func (c *check) expected(key, kind string, v any) *Value {
	shown := fmt.Sprintf("%#v", v)
	if s, ok := v.(string); ok {
		shown = strconv.Quote(s)
	}
	if kind == "secret" || len(shown) > 60 {
		shown = "this value"
	}
	return c.fail(key, "%s does not fit; write %s", shown, settingTypes()[kind])
}

func (c *check) value(key, kind string, v any) *Value {
	switch kind {
	case "list":
		return c.list(key, c.setting.GetOf(), v)
	case "cidrs":
		return c.list(key, "cidr", v)
	case "domains":
		return c.list(key, "domain", v)
	case "map":
		table, ok := v.(map[string]any)
		if !ok {
			return c.expected(key, kind, v)
		}
		out := make(map[string]*Value, len(table))
		for _, k := range slices.Sorted(maps.Keys(table)) {
			out[Text(k)] = c.value(key+"."+k, c.setting.GetOf(), table[k])
		}
		return &Value{Kind: &Value_Map{&Map{Values: out}}}
	case "integer", "number", "duration", "size":
		return c.number(key, kind, v)
	case "boolean":
		if _, ok := v.(bool); !ok {
			return c.expected(key, kind, v)
		}
		return NewValue(v)
	}
	s, ok := v.(string)
	if !ok {
		return c.expected(key, kind, v)
	}
	return c.text(key, kind, s)
}

func (c *check) list(key, of string, v any) *Value {
	var list []any
	switch v := v.(type) {
	case []any:
		list = v
	case []map[string]any:
		for _, table := range v {
			list = append(list, table)
		}
	default:
		return c.expected(key, c.setting.GetType(), v)
	}
	out := make([]*Value, len(list))
	for i := range list {
		out[i] = c.value(fmt.Sprintf("%s[%d]", key, i), of, list[i])
	}
	return &Value{Kind: &Value_List{&List{Values: out}}}
}

func (c *check) number(key, kind string, v any) *Value {
	switch n := v.(type) {
	case string:
		if kind == "duration" {
			d, err := ParseDuration(n)
			if err != nil {
				return c.fail(key, "%v", err)
			}
			return NewValue(d.Seconds())
		}
		if kind == "size" {
			size, err := ParseSize(n)
			if err != nil {
				return c.fail(key, "%v", err)
			}
			return NewValue(size)
		}
	case int64:
		if kind == "number" || kind == "integer" || n >= 0 {
			return NewValue(n)
		}
	case float64:
		whole := n == math.Trunc(n) && math.Abs(n) <= 1<<53
		if !math.IsNaN(n) && !math.IsInf(n, 0) && (kind == "number" || whole && (kind == "integer" || n >= 0) || kind == "duration" && n >= 0) {
			return NewValue(n)
		}
	}
	return c.expected(key, kind, v)
}

func (c *check) text(key, kind, s string) *Value {
	switch kind {
	case "string", "secret":
		return NewValue(s)
	case "enum":
		if slices.Contains(c.setting.GetChoices(), s) {
			return NewValue(s)
		}
		return c.fail(key, "%q is unknown; write one of %s", s, strings.Join(c.setting.GetChoices(), ", "))
	case "file":
		if s != "" && !filepath.IsAbs(s) && c.dir != "" {
			s = filepath.Join(c.dir, s)
		}
		return NewValue(s)
	case "address":
		a, err := message.ParseAddress(s)
		if err != nil {
			return c.fail(key, "%q: %v; write %s", s, err, settingTypes()[kind])
		}
		return NewValue(a.String())
	case "regexp":
		if _, err := regexp.Compile(s); err != nil {
			return c.fail(key, "%q: %v", s, err)
		}
		return NewValue(s)
	case "cidr":
		p, err := netip.ParsePrefix(s)
		if addr, bad := netip.ParseAddr(s); bad == nil && addr.Zone() == "" {
			p, err = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
		}
		if err != nil {
			return c.fail(key, `%q is not a network; write something like "192.0.2.0/24" or "2001:db8::1"`, s)
		}
		return NewValue(p.Masked().String())
	case "domain":
		name, wild := strings.CutPrefix(s, "*.")
		name, err := message.ParseDomain(name)
		if err != nil && s != "*" {
			return c.fail(key, `%q is not a domain; write "example.net", "*.example.net" or "*"`, s)
		}
		if wild {
			name = "*." + name
		}
		if s == "*" {
			name = s
		}
		return NewValue(name)
	}
	return c.fail(key, "a setting of type %q can't be given", kind)
}

// nearest is the name that word was probably meant to be, "" where none is near:
// at most one letter changed, or pair of letters swapped, for each three.
func nearest(word string, names []string) string {
	best, least := "", 1+max(1, len(word)/3)
	if len(word) > 64 {
		return ""
	}
	for _, name := range names {
		if d := distance(word, name); d < least && d < len(name) {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with the next to
// make b of a.
func distance(a, b string) int {
	before, above := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 0
			if a[i] != b[j] {
				cost = 1
			}
			row[j+1] = min(above[j]+cost, row[j]+1, above[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
