package lua

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// maxFile is the size of the largest file that a file setting can name.
const maxFile = 16 << 20

// kind is the type of a setting. It never changes.
type kind struct {
	name    string
	elem    *kind    // of list and map
	choices []string // of enum
}

func (*kind) luaKind() string { return "a setting's type" }

// kindNames are the types without arguments; string is not among them, since it
// is the library of that name too.
var kindNames = [...]string{"integer", "number", "boolean", "duration", "size", "address", "cidrs", "domains", "regexp", "file", "secret"}

// String is the type as scripts write it.
func (k *kind) String() string {
	switch k.name {
	case "list", "map":
		return k.name + "(" + k.elem.String() + ")"
	case "enum":
		return "enum{" + strings.Join(quoted(k.choices), ", ") + "}"
	}
	return k.name
}

func quoted(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return out
}

func (k *kind) secret() bool {
	return k.name == "secret" || k.elem != nil && k.elem.secret()
}

// expects tells what to write, with an example.
func (k *kind) expects() string {
	switch k.name {
	case "string", "secret":
		return `a text`
	case "integer":
		return "a whole number"
	case "number":
		return "a number"
	case "boolean":
		return "true or false"
	case "duration":
		return `a duration such as "30s", "5m" or "7d"`
	case "size":
		return `a size such as "50MiB" or "4KiB"`
	case "address":
		return `an address such as "user@example.net"`
	case "cidrs":
		return `a list of networks such as ["192.0.2.0/24", "2001:db8::/32"]`
	case "domains":
		return `a list of domains such as ["example.net", "*.example.org"]`
	case "regexp":
		return `a regular expression (RE2) such as "^casino[0-9]+$"`
	case "enum":
		return strings.Join(quoted(k.choices), " or ")
	case "file":
		return "the path of a file"
	case "list":
		if k.listed() {
			return "a list, each " + k.elem.expects() + `; or "@file.txt", a file with one on each line`
		}
		return "a list, each " + k.elem.expects()
	}
	return "a table of names, each " + k.elem.expects()
}

// zero stands for a value that is not known yet.
func (k *kind) zero() any {
	switch k.name {
	case "integer", "number", "duration", "size":
		return 0.0
	case "boolean":
		return false
	case "address":
		return message.Address{}
	case "cidrs":
		return []netip.Prefix(nil)
	case "domains":
		return []string(nil)
	case "regexp":
		return (*regexp.Regexp)(nil)
	case "enum":
		return k.choices[0]
	case "file":
		return (*fileValue)(nil)
	case "list":
		return []any(nil)
	case "map":
		return map[string]any(nil)
	}
	return ""
}

// placeholder stands for a required value while Compile looks at the script.
func (k *kind) placeholder() any {
	switch k.name {
	case "regexp":
		return regexp.MustCompile("")
	case "file":
		return &fileValue{}
	}
	return k.zero()
}

// fileValue is what a file setting names.
type fileValue struct {
	path, text string
	lines      []string
	numbers    []int // of the lines, in the file
}

// place puts the file's path and the line's number into a text about "item N: …" of its
// lines.
func (f *fileValue) place(text string) string {
	rest, ok := strings.CutPrefix(text, "item ")
	number, rest, cut := strings.Cut(rest, ": ")
	if n, err := strconv.Atoi(number); ok && cut && err == nil && n >= 1 && n <= len(f.numbers) {
		return fmt.Sprintf("%s:%d: %s", f.path, f.numbers[n-1], rest)
	}
	return text
}

// listed tells whether "@file.txt" may stand in the place of the list.
func (k *kind) listed() bool {
	switch k.name {
	case "cidrs", "domains":
		return true
	case "list":
		return k.elem.elem == nil && k.elem.name != "integer" && k.elem.name != "number" && k.elem.name != "boolean" && k.elem.name != "secret"
	}
	return false
}

// read is check of what the configuration says: "@file.txt" in the place of a list is
// the lines of that file. The file, of a setting that is one or is read from one, tells
// where its lines stand.
func (k *kind) read(dir string, v any) (value any, f *fileValue, err error) {
	if name, ok := v.(string); ok && k.listed() && strings.HasPrefix(name, "@") {
		if f, err = readFile(dir, name[1:]); err != nil {
			return k.zero(), nil, fmt.Errorf("%w; it expects %s", err, k.expects())
		}
		v = f.lines
	}
	value, err = k.check(dir, v)
	if one, ok := value.(*fileValue); ok {
		f = one
	}
	if err != nil && f != nil {
		err = errors.New(f.place(err.Error()))
	}
	return value, f, err
}

// check makes the typed value out of a plain one. dir is what relative paths
// belong to.
func (k *kind) check(dir string, v any) (any, error) {
	switch k.name {
	case "integer", "number":
		return k.checkNumber(v)
	case "boolean":
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case "list", "map":
		return k.checkMany(dir, v)
	case "cidrs", "domains":
		return k.checkNames(v)
	case "duration", "size":
		if f, ok := toFloat(v); ok && f >= 0 {
			return f, nil
		}
	}
	s, ok := v.(string)
	if !ok {
		return k.zero(), k.wrong(v)
	}
	var err error
	value := k.zero()
	switch k.name {
	case "string", "secret":
		return s, nil
	case "duration":
		value, err = parseSpan(s)
	case "size":
		value, err = parseSize(s)
	case "address":
		value, err = message.ParseAddress(s)
	case "regexp":
		if s != "" {
			value, err = compileRegex(s)
		}
	case "file":
		if s != "" {
			value, err = readFile(dir, s)
		}
	case "enum":
		if !slices.Contains(k.choices, s) {
			return value, fmt.Errorf("%q is unknown%s; it expects %s", s, didYouMean(s, k.choices), k.expects())
		}
		return s, nil
	default:
		return value, k.wrong(v)
	}
	if err != nil && strings.Contains(err.Error(), "; write ") {
		return k.zero(), err // it tells what to write
	}
	if err != nil {
		return k.zero(), fmt.Errorf("%w; it expects %s", err, k.expects())
	}
	return value, nil
}

func (k *kind) wrong(v any) error {
	if k.secret() {
		return fmt.Errorf("this is no such value; it expects %s", k.expects())
	}
	return fmt.Errorf("%s is no such value; it expects %s", describe(v), k.expects())
}

// describe names a plain value.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("the text %q", v)
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	if f, ok := toFloat(v); ok {
		return fmt.Sprintf("the number %v", f)
	}
	return fmt.Sprintf("%v", v)
}

func toFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case int64:
		return float64(v), true
	case int:
		return float64(v), true
	}
	return 0, false
}

func (k *kind) checkNumber(v any) (any, error) {
	f, ok := toFloat(v)
	if !ok || k.name == "integer" && (f != math.Trunc(f) || math.Abs(f) > 1<<53) {
		return 0.0, k.wrong(v)
	}
	return f, nil
}

// checkMany checks lists and maps, item by item.
func (k *kind) checkMany(dir string, v any) (any, error) {
	if items, ok := asList(v); ok && (k.name == "list" || len(items) == 0) {
		if k.name == "map" {
			return map[string]any{}, nil
		}
		out := make([]any, 0, len(items))
		for i, item := range items {
			value, err := k.elem.check(dir, item)
			if err != nil {
				return k.zero(), fmt.Errorf("item %d: %w", i+1, err)
			}
			out = append(out, value)
		}
		return out, nil
	}
	if fields, ok := v.(map[string]any); ok && k.name == "map" {
		out := make(map[string]any, len(fields))
		for _, name := range sortedKeys(fields) {
			value, err := k.elem.check(dir, fields[name])
			if err != nil {
				return k.zero(), fmt.Errorf("%s: %w", name, err)
			}
			out[name] = value
		}
		return out, nil
	}
	return k.zero(), k.wrong(v)
}

func asList(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case []string:
		out := make([]any, len(v))
		for i, s := range v {
			out[i] = s
		}
		return out, true
	}
	return nil, false
}

// checkNames checks lists of networks and of domains.
func (k *kind) checkNames(v any) (any, error) {
	items, ok := asList(v)
	if s, one := v.(string); one {
		items, ok = []any{s}, true
	}
	if !ok {
		return k.zero(), k.wrong(v)
	}
	var nets []netip.Prefix
	var names []string
	for i, item := range items {
		s, ok := item.(string)
		if !ok {
			return k.zero(), fmt.Errorf("item %d: %s is no text; it expects %s", i+1, describe(item), k.expects())
		}
		var err error
		if k.name == "cidrs" {
			var p netip.Prefix
			p, err = parsePrefix(s)
			nets = append(nets, p)
		} else {
			name := strings.TrimPrefix(s, "*.")
			if s != "*" {
				name, err = message.ParseDomain(name)
			}
			if strings.HasPrefix(s, "*.") {
				name = "*." + name
			}
			names = append(names, name)
		}
		if err != nil {
			return k.zero(), fmt.Errorf("item %d: %q: %w", i+1, s, err)
		}
	}
	if k.name == "cidrs" {
		return nets, nil
	}
	return names, nil
}

var errPrefix = errors.New(`no address or network; write something like "192.0.2.0/24", "192.0.2.1" or "2001:db8::/32"`)

// parsePrefix reads a network, or an address as the network of it alone.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, errPrefix
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errPrefix
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, errPrefix
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func readFile(dir, name string) (*fileValue, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s: not a plain file of at most %d MiB", name, maxFile>>20)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f := &fileValue{path: name, text: string(b)}
	number := 0
	for line := range strings.Lines(f.text) {
		number++
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			f.lines, f.numbers = append(f.lines, line), append(f.numbers, number)
		}
	}
	return f, nil
}
