package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one finding about the configuration.
type Problem struct {
	File string
	Line int    // from 1
	Key  string // dotted, such as "limits.hops"; empty where a whole file is meant
	Text string // what is wrong; what to write
	// Warning marks what a server may start with.
	Warning bool
}

// String is FILE:LINE: key: what is wrong; what to write, on one line.
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", p.File, p.Line)
	if p.Warning {
		b.WriteString("warning: ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return oneLine(b.String())
}

// Problems are findings; as an error it prints them all, one a line.
type Problems []Problem

// Error prints every problem on a line of its own.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// Errors returns the findings that forbid a start.
func (p Problems) Errors() Problems { return p.only(false) }

// Warnings returns the findings that a start may ignore.
func (p Problems) Warnings() Problems { return p.only(true) }

// Err is nil where nothing forbids a start, else the Problems that do.
func (p Problems) Err() error {
	if errs := p.Errors(); len(errs) > 0 {
		return errs
	}
	return nil
}

// Sorted returns the findings by file, line and key.
func (p Problems) Sorted() Problems {
	return slices.SortedStableFunc(slices.Values(p), func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
}

func (p Problems) only(warning bool) Problems {
	var out Problems
	for _, x := range p {
		if x.Warning == warning {
			out = append(out, x)
		}
	}
	return out
}

// Pos is where an entry or a key stands in a file.
type Pos struct {
	File string
	Line int // from 1

	section string // prefix of the keys below, such as "policy"
	node    *node
}

// Problem makes a finding about a key of the entry, such as "zones" or "zones[2]" or "when.client", at the line where
// that key stands; an empty key, or one that is not written, is reported at the entry's first line.
func (p Pos) Problem(key, text string) Problem {
	line := p.Line
	if n := p.node.find(key); n != nil && n.line > 0 {
		line = n.line
	}
	return Problem{File: p.File, Line: line, Key: join(p.section, key), Text: text}
}

// locate makes a finding about a key outside of any [[entry]]: at the nearest of its prefixes that stands in a file.
func locate(keys map[string]Pos, main Pos, key, text string) Problem {
	for prefix := key; prefix != ""; {
		if at, ok := keys[prefix]; ok {
			found := at.Problem(strings.TrimPrefix(key[len(prefix):], "."), text)
			found.Key = key
			return found
		}
		prefix = prefix[:max(0, strings.LastIndexAny(prefix, ".["))]
	}
	return Problem{File: main.File, Line: max(1, main.Line), Key: key, Text: text}
}

// join makes a dotted key of a section and a key, either of which may be empty.
func join(section, key string) string {
	if section == "" || key == "" || strings.HasPrefix(key, "[") {
		return section + key
	}
	return section + "." + key
}

// oneLine keeps a text that quotes foreign bytes from breaking the line it is printed on.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
