package config

import (
	"strconv"
	"strings"
)

// maxDepth bounds how deep tables and lists may nest; the schema needs four levels.
const maxDepth = 32

// node says where a key, a table or a list element begins. The tree of nodes has the shape of the decoded tree.
type node struct {
	line   int
	keys   map[string]*node
	items  []*node
	tables bool // items are the [[tables]] of that name
}

// child returns what stands under name, and nil where nothing does.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	return n.keys[name]
}

// item returns the i-th element, and nil where there is none.
func (n *node) item(i int) *node {
	if n == nil || i < 0 || i >= len(n.items) {
		return nil
	}
	return n.items[i]
}

// find follows a path such as "when.client[1]" as far as it goes; nil where not even its first step is there.
func (n *node) find(path string) *node {
	var found *node
	for n != nil && path != "" {
		step, rest := path, ""
		if i := strings.IndexAny(path[1:], ".["); i >= 0 {
			step, rest = path[:i+1], path[i+1:]
		}
		if index, isIndex := strings.CutPrefix(step, "["); isIndex {
			i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil {
				return found
			}
			n = n.item(i)
		} else {
			n = n.child(strings.TrimPrefix(step, "."))
		}
		if n != nil {
			found = n
		}
		path = rest
	}
	return found
}

// below returns the table under name for writing keys into it, made where it is new: of [[tables]], the last.
func (n *node) below(name string, line int) *node {
	if n.keys == nil {
		n.keys = map[string]*node{}
	}
	next := n.keys[name]
	if next == nil {
		next = &node{line: line}
		n.keys[name] = next
	}
	if next.tables && len(next.items) > 0 {
		return next.items[len(next.items)-1]
	}
	return next
}

// scan finds the lines of all keys in a TOML text. It expects the decoder to judge the text: what is not TOML it steps
// over. Where nesting exceeds maxDepth it stops and returns the line.
func scan(text string) (root *node, tooDeep int) {
	s := &scanner{text: strings.TrimPrefix(text, "\ufeff"), line: 1}
	root = &node{line: 1}
	table := root
	for s.deep == 0 {
		s.blank()
		if s.at >= len(s.text) {
			break
		}
		if s.peek() == '[' {
			table = s.header(root)
		} else {
			s.pair(table, 0)
		}
		s.restOfLine()
	}
	return root, s.deep
}

// scanner is a position in a text.
type scanner struct {
	text string
	at   int
	line int
	deep int // line where nesting went too deep
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// skip moves on by n bytes and counts the line ends among them.
func (s *scanner) skip(n int) {
	n = min(n, len(s.text)-s.at)
	s.line += strings.Count(s.text[s.at:s.at+n], "\n")
	s.at += n
}

// space moves over spaces and tabs.
func (s *scanner) space() {
	for c := s.peek(); c == ' ' || c == '\t'; c = s.peek() {
		s.at++
	}
}

// blank moves over white space, line ends and comments.
func (s *scanner) blank() {
	for {
		switch s.peek() {
		case ' ', '\t', '\r', '\n':
			s.skip(1)
		case '#':
			s.restOfLine()
		default:
			return
		}
	}
}

// restOfLine moves behind the next line end.
func (s *scanner) restOfLine() {
	if i := strings.IndexByte(s.text[s.at:], '\n'); i >= 0 {
		s.skip(i + 1)
	} else {
		s.at = len(s.text)
	}
}

// header reads [a.b] or [[a.b]] and returns the table that the keys below it belong to.
func (s *scanner) header(root *node) *node {
	line := s.line
	s.skip(1)
	tables := s.peek() == '['
	if tables {
		s.skip(1)
	}
	path := s.key()
	if len(path) > maxDepth {
		s.deep = line
	}
	n := root
	for i, name := range path {
		if !tables || i < len(path)-1 {
			n = n.below(name, line)
			continue
		}
		list := n.child(name)
		if list == nil {
			n.below(name, line)
			list = n.child(name)
		}
		list.tables = true
		list.items = append(list.items, &node{line: line})
		n = list.items[len(list.items)-1]
	}
	return n
}

// pair reads key = value into the table n.
func (s *scanner) pair(n *node, depth int) {
	line := s.line
	path := s.key()
	if depth+len(path) > maxDepth {
		s.deep = line
		return
	}
	for _, name := range path {
		n = n.below(name, line)
	}
	s.space()
	if s.peek() != '=' {
		return
	}
	s.skip(1)
	s.space()
	s.value(n, depth+len(path))
}

// key reads a dotted key; it stops before what can't belong to one.
func (s *scanner) key() (path []string) {
	for {
		s.space()
		switch c := s.peek(); c {
		case '"', '\'':
			from := s.at
			s.quoted(c)
			path = append(path, unquote(s.text[from:s.at]))
		default:
			rest := s.text[s.at:]
			n := strings.IndexAny(rest, " \t\r\n.=[]{},#\"'")
			if n < 0 {
				n = len(rest)
			}
			path = append(path, rest[:n])
			s.skip(n)
		}
		s.space()
		if s.peek() != '.' || len(path) > maxDepth {
			return path
		}
		s.skip(1)
	}
}

// unquote takes a quoted key apart; what Go's rules don't read stays as written.
func unquote(s string) string {
	if strings.HasPrefix(s, `"`) {
		if u, err := strconv.Unquote(s); err == nil {
			return u
		}
	}
	return strings.Trim(s, `"'`)
}

// value reads one value; the lines of what is inside go into n.
func (s *scanner) value(n *node, depth int) {
	if depth > maxDepth {
		s.deep = s.line
		return
	}
	switch c := s.peek(); c {
	case '"', '\'':
		s.quoted(c)
	case '[':
		s.list(n, depth)
	case '{':
		s.table(n, depth)
	default:
		i := strings.IndexAny(s.text[s.at:], ",]}#\r\n")
		if i < 0 {
			i = len(s.text) - s.at
		}
		s.skip(i)
	}
}

// list reads [ … ], which may go over several lines.
func (s *scanner) list(n *node, depth int) {
	s.skip(1)
	for s.deep == 0 && s.at < len(s.text) {
		s.blank()
		switch s.peek() {
		case ']':
			s.skip(1)
			return
		case ',', '}', '=':
			s.skip(1)
		default:
			item := &node{line: s.line}
			n.items = append(n.items, item)
			s.value(item, depth+1)
		}
	}
}

// table reads { … }, which may go over several lines.
func (s *scanner) table(n *node, depth int) {
	s.skip(1)
	for s.deep == 0 && s.at < len(s.text) {
		s.blank()
		from := s.at
		switch s.peek() {
		case '}':
			s.skip(1)
			return
		case ',':
			s.skip(1)
		default:
			s.pair(n, depth+1)
		}
		if s.at == from {
			s.skip(1) // not TOML: get on
		}
	}
}

// quoted moves over a string of one of the four kinds.
func (s *scanner) quoted(quote byte) {
	mark := string(quote)
	if strings.HasPrefix(s.text[s.at:], strings.Repeat(mark, 3)) {
		mark = strings.Repeat(mark, 3)
	}
	s.skip(len(mark))
	for s.at < len(s.text) {
		switch c := s.peek(); {
		case c == '\\' && quote == '"':
			s.skip(2)
		case c == '\n' && len(mark) == 1:
			return // not TOML: a string of one line ends with it
		case strings.HasPrefix(s.text[s.at:], mark):
			s.skip(len(mark))
			for range 2 { // up to two quotes may stand right before the closing three
				if len(mark) == 3 && s.peek() == quote {
					s.skip(1)
				}
			}
			return
		default:
			s.skip(1)
		}
	}
}
