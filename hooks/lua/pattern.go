package lua

import (
	"errors"
	"strings"
)

// Patterns of Lua 5.1 (reference manual, section 5.4.1): compiled once into a
// list of items, matched by backtracking with a count of steps, so that the
// budget of a call bounds it.

const (
	maxCaptures = 32
	maxPattern  = 8 << 10
)

// set is a set of bytes.
type set [4]uint64

func (s *set) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *set) has(c byte) bool { return s[c>>6]&(1<<(c&63)) != 0 }

func (s *set) join(o set) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s *set) invert() {
	for i := range s {
		s[i] = ^s[i]
	}
}

type itemKind uint8

const (
	itemSet      itemKind = iota // one byte of a set, with repeat
	itemOpen                     // (
	itemPosition                 // ()
	itemClose                    // )
	itemBack                     // %1
	itemBalance                  // %bxy
	itemFrontier                 // %f[set]
	itemEnd                      // $ at the end
)

// item is one part of a pattern.
type item struct {
	kind   itemKind
	repeat byte // 0, '*', '+', '-', '?'
	index  int  // of a capture
	x, y   byte
	single bool // the set holds x alone
	set    set
}

// pattern is a compiled pattern; it never changes.
type pattern struct {
	anchored bool
	items    []item
	captures int
	literal  string // the whole pattern where nothing in it is special
	plain    bool   // literal is set
	first    string // literal text every match begins with
}

// compilePattern reads a pattern. With anchors false, "^" is a plain character,
// as gmatch wants it.
func compilePattern(text string, anchors bool) (*pattern, error) {
	if len(text) > maxPattern {
		return nil, errors.New("pattern too long")
	}
	p := &pattern{}
	if !strings.ContainsAny(text, "^$*+?.([%-)") {
		p.plain, p.literal = true, text
		return p, nil
	}
	rest := text
	if anchors && strings.HasPrefix(rest, "^") {
		p.anchored, rest = true, rest[1:]
	}
	var open []int
	for rest != "" {
		var it item
		var err error
		switch c := rest[0]; {
		case c == '(':
			if p.captures == maxCaptures {
				return nil, errors.New("too many captures")
			}
			it = item{kind: itemOpen, index: p.captures}
			p.captures++
			if strings.HasPrefix(rest, "()") {
				it.kind, rest = itemPosition, rest[2:]
				break
			}
			open = append(open, it.index)
			rest = rest[1:]
		case c == ')':
			if len(open) == 0 {
				return nil, errors.New("invalid pattern capture")
			}
			it = item{kind: itemClose, index: open[len(open)-1]}
			open, rest = open[:len(open)-1], rest[1:]
		case rest == "$":
			it, rest = item{kind: itemEnd}, ""
		default:
			it, rest, err = p.parseItem(rest, open)
		}
		if err != nil {
			return nil, err
		}
		p.items = append(p.items, it)
	}
	if len(open) > 0 {
		return nil, errors.New("unfinished capture")
	}
	p.findFirst()
	return p, nil
}

// findFirst sets the literal text that a match begins with, which lets a search
// skip ahead.
func (p *pattern) findFirst() {
	var b strings.Builder
	for _, it := range p.items {
		if it.kind != itemSet || !it.single || it.repeat != 0 {
			break
		}
		b.WriteByte(it.x)
	}
	p.first = b.String()
}

func (p *pattern) parseItem(rest string, open []int) (item, string, error) {
	if rest[0] == '%' && len(rest) > 1 {
		switch c := rest[1]; {
		case c == 'b':
			if len(rest) < 4 {
				return item{}, "", errors.New("unbalanced pattern")
			}
			return item{kind: itemBalance, x: rest[2], y: rest[3]}, rest[4:], nil
		case c == 'f':
			if len(rest) < 3 || rest[2] != '[' {
				return item{}, "", errors.New("missing '[' after '%f' in pattern")
			}
			it := item{kind: itemFrontier}
			var err error
			it.set, rest, err = parseSet(rest[2:])
			return it, rest, err
		case c >= '0' && c <= '9':
			index := int(c) - '1'
			if index < 0 || index >= p.captures {
				return item{}, "", errors.New("invalid capture index")
			}
			for _, o := range open {
				if o == index {
					return item{}, "", errors.New("invalid capture index")
				}
			}
			return item{kind: itemBack, index: index}, rest[2:], nil
		}
	}
	it := item{kind: itemSet}
	var err error
	if it, rest, err = parseSingle(it, rest); err != nil {
		return item{}, "", err
	}
	if rest != "" && strings.IndexByte("*+-?", rest[0]) >= 0 {
		it.repeat, rest = rest[0], rest[1:]
	}
	return it, rest, nil
}

// parseSingle reads one class: a character, %x, . or [set].
func parseSingle(it item, rest string) (item, string, error) {
	switch c := rest[0]; c {
	case '.':
		it.set.invert()
		return it, rest[1:], nil
	case '[':
		var err error
		it.set, rest, err = parseSet(rest)
		return it, rest, err
	case '%':
		if len(rest) < 2 {
			return it, "", errors.New("malformed pattern (ends with '%')")
		}
		it.set = classOf(rest[1])
		if !isLetter(rest[1]) || it.set.has(rest[1]) && isOnly(it.set, rest[1]) {
			it.single, it.x = true, rest[1]
		}
		return it, rest[2:], nil
	default:
		it.set.add(c)
		it.single, it.x = true, c
		return it, rest[1:], nil
	}
}

func isOnly(s set, c byte) bool {
	var one set
	one.add(c)
	return s == one
}

// parseSet reads [set] from the start of s.
func parseSet(s string) (set, string, error) {
	var out set
	malformed := errors.New("malformed pattern (missing ']')")
	i := 1
	negated := i < len(s) && s[i] == '^'
	if negated {
		i++
	}
	for first := true; ; first = false {
		if i >= len(s) {
			return out, "", malformed
		}
		if s[i] == ']' && !first {
			break
		}
		switch {
		case s[i] == '%':
			if i+1 >= len(s) {
				return out, "", errors.New("malformed pattern (ends with '%')")
			}
			out.join(classOf(s[i+1]))
			i += 2
		case i+2 < len(s) && s[i+1] == '-' && s[i+2] != ']':
			for c := int(s[i]); c <= int(s[i+2]); c++ {
				out.add(byte(c))
			}
			i += 3
		default:
			out.add(s[i])
			i++
		}
	}
	if negated {
		out.invert()
	}
	return out, s[i+1:], nil
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// classOf is the set of %c: a class, its complement for an upper-case letter, or
// the character itself.
func classOf(c byte) set {
	var out set
	var in func(byte) bool
	switch c | 0x20 {
	case 'a':
		in = isLetter
	case 'c':
		in = func(b byte) bool { return b < ' ' || b == 0x7f }
	case 'd':
		in = func(b byte) bool { return b >= '0' && b <= '9' }
	case 'g':
		in = func(b byte) bool { return b > ' ' && b < 0x7f }
	case 'l':
		in = func(b byte) bool { return b >= 'a' && b <= 'z' }
	case 'p':
		in = func(b byte) bool { return b > ' ' && b < 0x7f && !isLetter(b) && (b < '0' || b > '9') }
	case 's':
		in = func(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }
	case 'u':
		in = func(b byte) bool { return b >= 'A' && b <= 'Z' }
	case 'w':
		in = func(b byte) bool { return isLetter(b) || b >= '0' && b <= '9' }
	case 'x':
		in = func(b byte) bool { return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'f' }
	case 'z':
		in = func(b byte) bool { return b == 0 }
	}
	if in == nil || !isLetter(c) {
		out.add(c)
		return out
	}
	for b := range 256 {
		if in(byte(b)) {
			out.add(byte(b))
		}
	}
	if c >= 'A' && c <= 'Z' {
		out.invert()
	}
	return out
}

var errSteps = errors.New("the pattern takes too many steps")

// MatchPattern tells whether a Lua pattern matches somewhere in the text.
func MatchPattern(text, patternText string) (ok bool, err error) {
	p, err := compilePattern(patternText, true)
	if err != nil {
		return false, err
	}
	defer func() {
		if r := recover(); r == errSteps {
			ok, err = false, errSteps
		} else if r != nil {
			panic(r)
		}
	}()
	steps := 0
	m := matcher{p: p, s: text, spend: func(n int) {
		if steps += n; steps > maxUnits {
			panic(errSteps)
		}
	}}
	_, _, ok = m.find(0)
	return ok, nil
}
