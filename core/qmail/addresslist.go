package qmail

import (
	"errors"
	"strings"
)

// errList says that a field is no list of addresses.
var errList = errors.New("it is no list of addresses (RFC 822)")

// A token of a structured field (RFC 822 section 3.3), as it is written.
type token struct {
	kind  byte // 'w' atom or quoted string, 'c' comment, 'l' domain literal, else the special itself
	text  string
	space bool // white space stood before it
}

// tokens takes a field's body apart.
func tokens(s string) (list []token, err error) {
	for i, space := 0, false; i < len(s); {
		start := i
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			space = true
			continue
		case c == '(':
			if i, err = closing(s, i, '(', ')'); err != nil {
				return nil, err
			}
			list = append(list, token{'c', s[start:i], space})
		case c == '"':
			if i, err = closing(s, i, 0, '"'); err != nil {
				return nil, err
			}
			list = append(list, token{'w', s[start:i], space})
		case c == '[':
			if i, err = closing(s, i, 0, ']'); err != nil {
				return nil, err
			}
			list = append(list, token{'l', s[start:i], space})
		case strings.IndexByte("<>@,;:.", c) >= 0:
			i++
			list = append(list, token{c, s[start:i], space})
		case c == ')' || c == ']':
			return nil, errList
		default:
			for i < len(s) && strings.IndexByte(" \t\r\n()<>@,;:.\"[]", s[i]) < 0 {
				if s[i] == '\\' {
					i++
				}
				i++
			}
			i = min(i, len(s))
			list = append(list, token{'w', s[start:i], space})
		}
		space = false
	}
	return list, nil
}

// closing is behind what closes the quoted string, comment or literal at i. open is
// what opens another one inside; 0: nothing does.
func closing(s string, i int, open, end byte) (int, error) {
	depth := 0
	for first := i; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == end && i > first:
			if depth--; depth <= 0 {
				return i + 1, nil
			}
		case c == open && open != 0:
			depth++
		}
	}
	return 0, errList
}

// listed is one of a list of addresses, as it is to be written: text before it, such
// as a phrase, the address, if it is one, and text behind.
type listed struct {
	before  string
	address *addrSpec
	behind  string
	joined  bool // no comma stands behind it: it opens a group, or another one closes it
}

// addrSpec is an address in its two parts.
type addrSpec struct{ local, domain string }

// written is the address as a field has it.
func (a *addrSpec) written() string {
	if a.domain == "" {
		return a.local
	}
	return a.local + "@" + a.domain
}

// raw is the address as an envelope has it, without quotes.
func (a *addrSpec) raw() string {
	var b strings.Builder
	list, err := tokens(a.local)
	if err != nil {
		return a.written()
	}
	for _, t := range list {
		text := t.text
		if strings.HasPrefix(text, `"`) {
			text = text[1 : len(text)-1]
		}
		for i := 0; i < len(text); i++ {
			if text[i] == '\\' && i+1 < len(text) {
				i++
			}
			b.WriteByte(text[i])
		}
	}
	if a.domain == "" {
		return b.String()
	}
	return b.String() + "@" + a.domain
}

// parseList takes a list of addresses apart. Addresses that only spaces keep apart are
// several.
func parseList(s string) (list []listed, err error) {
	p := listParser{}
	if p.tokens, err = tokens(s); err != nil {
		return nil, err
	}
	for len(p.tokens) > 0 {
		if err := p.one(); err != nil {
			return nil, err
		}
	}
	if p.group {
		return nil, errList
	}
	return p.list, nil
}

type listParser struct {
	tokens []token
	list   []listed
	group  bool
}

// one reads what is between two separators.
func (p *listParser) one() error {
	n := 0
	for n < len(p.tokens) && strings.IndexByte(",;:<", p.tokens[n].kind) < 0 {
		if p.tokens[n].kind == '>' {
			return errList
		}
		n++
	}
	run, stop := p.tokens[:n], byte(',')
	p.tokens = p.tokens[n:]
	if len(p.tokens) > 0 {
		stop = p.tokens[0].kind
		p.tokens = p.tokens[1:]
	}
	switch stop {
	case ':':
		if p.group || len(run) == 0 {
			return errList
		}
		p.group = true
		p.list = append(p.list, listed{before: phrase(run) + ":", joined: true})
		return nil
	case '<':
		return p.angle(run)
	}
	if err := p.bare(run); err != nil {
		return err
	}
	if stop == ';' {
		if !p.group {
			return errList
		}
		p.group = false
		if last := len(p.list) - 1; p.list[last].joined {
			p.list[last].before += " ;"
			p.list[last].joined = false
		} else {
			p.list[last].behind += ";"
		}
	}
	return nil
}

// angle reads a route address, of which < was read, and what stands behind it.
func (p *listParser) angle(before []token) error {
	n := 0
	for n < len(p.tokens) && p.tokens[n].kind != '>' {
		n++
	}
	if n == len(p.tokens) {
		return errList
	}
	inside := p.tokens[:n]
	p.tokens = p.tokens[n+1:]
	if n > 0 && inside[0].kind == '@' { // a source route is dropped
		at := 0
		for at < n && inside[at].kind != ':' {
			at++
		}
		if at == n {
			return errList
		}
		inside = inside[at+1:]
	}
	one := listed{before: phrase(before) + "<", behind: ">"}
	if len(before) > 0 {
		one.before = phrase(before) + " <"
	}
	if len(inside) > 0 {
		list, err := specs(inside)
		if err != nil || len(list) != 1 {
			return errList
		}
		one.address = list[0].address
	}
	for len(p.tokens) > 0 && p.tokens[0].kind == 'c' {
		one.behind += " " + p.tokens[0].text
		p.tokens = p.tokens[1:]
	}
	p.list = append(p.list, one)
	if len(p.tokens) > 0 && p.tokens[0].kind == ',' {
		p.tokens = p.tokens[1:]
	}
	return nil
}

func (p *listParser) bare(run []token) error {
	list, err := specs(run)
	p.list = append(p.list, list...)
	return err
}

// specs reads addresses without brackets; comments go with the address before.
func specs(run []token) (list []listed, err error) {
	var now *addrSpec
	domain, joins := false, true
	lead := ""
	for i, t := range run {
		switch t.kind {
		case 'c':
			if len(list) > 0 {
				list[len(list)-1].behind += " " + t.text
			} else {
				lead += t.text + " "
			}
			continue
		case '@':
			if now == nil || domain || i == len(run)-1 {
				return nil, errList
			}
			domain, joins = true, true
		case '.', 'w', 'l':
			if t.kind == '.' && now == nil || t.kind == 'l' && !domain {
				return nil, errList
			}
			if now == nil || t.kind != '.' && !joins {
				now, domain = &addrSpec{}, false
				list = append(list, listed{before: lead, address: now})
				lead = ""
			}
			if domain {
				now.domain += t.text
			} else {
				now.local += t.text
			}
			joins = t.kind == '.'
		default:
			return nil, errList
		}
	}
	for _, one := range list {
		if one.address.local == "" {
			return nil, errList
		}
	}
	return list, nil
}

// phrase is words as they are to be written.
func phrase(run []token) string {
	var b strings.Builder
	for i, t := range run {
		if i > 0 && t.space {
			b.WriteByte(' ')
		}
		b.WriteString(t.text)
	}
	return b.String()
}

// writeList is a list as a field has it, an address a line.
func writeList(list []listed) string {
	var b strings.Builder
	for i, one := range list {
		if i > 0 {
			if list[i-1].joined {
				b.WriteByte(' ')
			} else {
				b.WriteString(",\n  ")
			}
		}
		b.WriteString(one.before)
		if one.address != nil {
			b.WriteString(one.address.written())
		}
		b.WriteString(one.behind)
	}
	return b.String()
}
