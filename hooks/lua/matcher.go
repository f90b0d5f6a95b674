package lua

import "strings"

// capture is where a capture begins and ends; end is -1 for a position.
type capture struct{ start, end int }

const openEnd = -2 // of a capture that is not closed yet

// matcher matches one pattern against one text. spend is told of the steps, and
// may panic to end the match.
type matcher struct {
	p        *pattern
	s        string
	captures [maxCaptures]capture
	spend    func(int)
	steps    int
}

// step counts work in handfuls.
func (m *matcher) step(n int) {
	if m.steps += n; m.steps >= 256 {
		m.spend(m.steps)
		m.steps = 0
	}
}

// find looks for the first match at or behind from.
func (m *matcher) find(from int) (start, end int, ok bool) {
	if m.p.plain {
		m.step((len(m.s) - from) >> 6)
		i := strings.Index(m.s[from:], m.p.literal)
		return from + i, from + i + len(m.p.literal), i >= 0
	}
	for start = from; start <= len(m.s); start++ {
		if m.p.first != "" && !m.p.anchored {
			i := strings.Index(m.s[start:], m.p.first)
			if i < 0 {
				return 0, 0, false
			}
			m.step(i >> 6)
			start += i
		}
		m.step(1)
		if end = m.match(0, start); end >= 0 {
			return start, end, true
		}
		if m.p.anchored {
			break
		}
	}
	return 0, 0, false
}

// match matches the items from i on at pos and returns the end, or -1.
func (m *matcher) match(i, pos int) int {
	for ; i < len(m.p.items); i++ {
		it := &m.p.items[i]
		m.step(1)
		switch it.kind {
		case itemSet:
			if it.repeat != 0 {
				return m.repeat(it, i, pos)
			}
			if pos >= len(m.s) || !it.set.has(m.s[pos]) {
				return -1
			}
			pos++
		case itemOpen, itemPosition:
			old := m.captures[it.index]
			m.captures[it.index] = capture{pos, openEnd}
			if it.kind == itemPosition {
				m.captures[it.index].end = -1
			}
			end := m.match(i+1, pos)
			if end < 0 {
				m.captures[it.index] = old
			}
			return end
		case itemClose:
			old := m.captures[it.index].end
			m.captures[it.index].end = pos
			end := m.match(i+1, pos)
			if end < 0 {
				m.captures[it.index].end = old
			}
			return end
		default:
			if pos = m.special(it, pos); pos < 0 {
				return -1
			}
		}
	}
	return pos
}

// special matches what is neither a set nor a bracket.
func (m *matcher) special(it *item, pos int) int {
	switch it.kind {
	case itemEnd:
		if pos == len(m.s) {
			return pos
		}
	case itemBack:
		c := m.captures[it.index]
		if c.end < 0 {
			return -1
		}
		text := m.s[c.start:c.end]
		m.step(len(text) >> 4)
		if strings.HasPrefix(m.s[pos:], text) {
			return pos + len(text)
		}
	case itemBalance:
		return m.balance(it, pos)
	case itemFrontier:
		var before, after byte
		if pos > 0 {
			before = m.s[pos-1]
		}
		if pos < len(m.s) {
			after = m.s[pos]
		}
		if !it.set.has(before) && it.set.has(after) {
			return pos
		}
	}
	return -1
}

func (m *matcher) balance(it *item, pos int) int {
	if pos >= len(m.s) || m.s[pos] != it.x {
		return -1
	}
	depth := 1
	for i := pos + 1; i < len(m.s); i++ {
		m.step(1)
		switch m.s[i] {
		case it.y:
			if depth--; depth == 0 {
				return i + 1
			}
		case it.x:
			depth++
		}
	}
	return -1
}

// repeat matches a set with * + - or ?, and all that follows.
func (m *matcher) repeat(it *item, i, pos int) int {
	if it.repeat == '-' {
		for {
			if end := m.match(i+1, pos); end >= 0 {
				return end
			}
			m.step(1)
			if pos >= len(m.s) || !it.set.has(m.s[pos]) {
				return -1
			}
			pos++
		}
	}
	least, most := 0, len(m.s)-pos
	switch it.repeat {
	case '+':
		least = 1
	case '?':
		most = min(most, 1)
	}
	n := 0
	for n < most && it.set.has(m.s[pos+n]) {
		n++
	}
	m.step(n >> 2)
	if i+1 == len(m.p.items) {
		if n < least {
			return -1
		}
		return pos + n
	}
	for ; n >= least; n-- {
		if end := m.match(i+1, pos+n); end >= 0 {
			return end
		}
		m.step(1)
	}
	return -1
}
