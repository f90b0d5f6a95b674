package lookup

import (
	"fmt"
	"strings"
)

// fields are what a query has places for.
type fields struct{ key, user, domain string }

func fieldsOf(key string) fields {
	f := fields{key: key, user: key}
	if i := strings.LastIndexByte(key, '@'); i >= 0 {
		f.user, f.domain = key[:i], key[i+1:]
	}
	return f
}

func (f *fields) get(name string) string {
	switch name {
	case "user":
		return f.user
	case "domain":
		return f.domain
	}
	return f.key
}

// piece is a part of a template: a text, or a place.
type piece struct{ text, place string }

// template is a text with places for a key and its parts.
type template []piece

// parseTemplate reads a text with {key}, {user} and {domain}. Other braces are
// texts.
func parseTemplate(s string) (t template) {
	for s != "" {
		at, name := len(s), ""
		for _, one := range [...]string{"key", "user", "domain"} {
			if i := strings.Index(s, "{"+one+"}"); i >= 0 && i < at {
				at, name = i, one
			}
		}
		if at > 0 {
			t = append(t, piece{text: s[:at]})
		}
		if name == "" {
			return t
		}
		t = append(t, piece{place: name})
		s = s[at+len(name)+2:]
	}
	return t
}

// places is how many places there are.
func (t template) places() (n int) {
	for _, p := range t {
		if p.place != "" {
			n++
		}
	}
	return n
}

// fill puts the parts of a key into the places, each as escape has it.
func (t template) fill(f fields, escape func(string) string) string {
	var b strings.Builder
	for _, p := range t {
		if p.place == "" {
			b.WriteString(p.text)
		} else {
			b.WriteString(escape(f.get(p.place)))
		}
	}
	return b.String()
}

// bound is an SQL statement whose places are parameters, and which part of the key
// each parameter is. mark writes the n-th parameter. A place within quotes would be
// a text, and is refused.
func (t template) bound(mark func(n int) string) (statement string, params []string, err error) {
	var b strings.Builder
	quote := byte(0)
	for _, p := range t {
		if p.place == "" {
			for i := range len(p.text) {
				switch c := p.text[i]; {
				case quote == c:
					quote = 0
				case quote == 0 && (c == '\'' || c == '"' || c == '`'):
					quote = c
				}
			}
			b.WriteString(p.text)
			continue
		}
		if quote != 0 {
			return "", nil, fmt.Errorf("{%s} stands within quotes; write it without, it is passed on as a parameter", p.place)
		}
		params = append(params, p.place)
		b.WriteString(mark(len(params)))
	}
	return b.String(), params, nil
}

// args are the values of parameters.
func (f *fields) args(params []string) []any {
	list := make([]any, len(params))
	for i, name := range params {
		list[i] = f.get(name)
	}
	return list
}
