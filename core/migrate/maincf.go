package migrate

import "strings"

// setting is a parameter of main.cf, or of a -o of master.cf.
type setting struct {
	text string
	line int
}

// logical are the lines of a file of Postfix: a line that begins with a blank goes on
// with the one before; empty lines and comments between them don't end it.
func logical(text string) (list []line) {
	n := 0
	for l := range strings.Lines(text) {
		n++
		l = strings.TrimRight(l, " \t\r\n")
		trimmed := strings.TrimLeft(l, " \t")
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case len(trimmed) < len(l) && len(list) > 0:
			list[len(list)-1].text += " " + trimmed
		default:
			list = append(list, line{n, trimmed})
		}
	}
	return list
}

// readMain reads main.cf; of a parameter set twice the last counts. What is no setting
// is returned beside.
func readMain(text string) (set map[string]setting, order []string, wrong []line) {
	set = map[string]setting{}
	for _, l := range logical(text) {
		name, v, ok := strings.Cut(l.text, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			wrong = append(wrong, l)
			continue
		}
		if _, twice := set[name]; !twice {
			order = append(order, name)
		}
		set[name] = setting{strings.TrimSpace(v), l.number}
	}
	return set, order, wrong
}

// Bounds of an expansion, which may name itself.
const (
	maxExpansion = 20
	maxExpanded  = 1 << 16
)

// expand writes out $name, ${name}, $(name), ${name?text} and ${name:text}; of what is
// not set, get says "". $$ is a $.
func expand(s string, get func(string) string) string {
	return expandTo(s, get, 0)
}

func expandTo(s string, get func(string) string, depth int) string {
	if depth > maxExpansion || !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for s != "" && b.Len() < maxExpanded {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		switch {
		case s[0] == '$':
			b.WriteByte('$')
			s = s[1:]
		case s[0] == '{' || s[0] == '(':
			inside, rest := enclosed(s)
			b.WriteString(conditional(inside, get, depth))
			s = rest
		default:
			n := 0
			for n < len(s) && isName(s[n]) {
				n++
			}
			if n == 0 {
				b.WriteByte('$')
				continue
			}
			b.WriteString(expandTo(get(s[:n]), get, depth+1))
			s = s[n:]
		}
	}
	out := b.String()
	return out[:min(len(out), maxExpanded)]
}

// enclosed is what stands between the bracket that s begins with and its fellow.
func enclosed(s string) (inside, rest string) {
	open, closing := s[0], byte('}')
	if open == '(' {
		closing = ')'
	}
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case open:
			depth++
		case closing:
			if depth--; depth == 0 {
				return s[1:i], s[i+1:]
			}
		}
	}
	return s[1:], ""
}

// conditional is the value of what stands in ${}: name, name?text, name:text,
// name?{text}:{text}.
func conditional(s string, get func(string) string, depth int) string {
	n := 0
	for n < len(s) && isName(s[n]) {
		n++
	}
	v := expandTo(get(s[:n]), get, depth+1)
	if n == len(s) {
		return v
	}
	op, rest := s[n], s[n+1:]
	yes, no := rest, ""
	if strings.HasPrefix(rest, "{") {
		yes, rest = enclosed(rest)
		if other, ok := strings.CutPrefix(rest, ":"); ok {
			if no = other; strings.HasPrefix(other, "{") {
				no, _ = enclosed(other)
			}
		}
	}
	switch {
	case op == '?' && v != "", op == ':' && v == "":
		return expandTo(yes, get, depth+1)
	case op == '?':
		return expandTo(no, get, depth+1)
	}
	return ""
}

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// words are the parts of a list: by blanks and commas, braces keep together.
func words(s string) (list []string) {
	depth, from := 0, -1
	for i := range len(s) + 1 {
		c := byte(' ')
		if i < len(s) {
			c = s[i]
		}
		switch {
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
		if depth <= 0 && (c == ' ' || c == '\t' || c == ',') {
			if from >= 0 {
				list = append(list, s[from:i])
			}
			from = -1
		} else if from < 0 {
			from = i
		}
	}
	if from >= 0 {
		list = append(list, s[from:])
	}
	return list
}

// service is a line of master.cf.
type service struct {
	name, kind, command string
	args                []string
	line                int
}

// option are the -o name=value of a service.
func (s service) option(name string) (string, bool) {
	v, ok := "", false
	for i := 0; i < len(s.args); i++ {
		one := ""
		switch {
		case s.args[i] == "-o" && i+1 < len(s.args):
			i++
			one = strings.Trim(s.args[i], "{} ")
		case strings.HasPrefix(s.args[i], "-o"):
			one = s.args[i][2:]
		}
		if k, text, is := strings.Cut(one, "="); is && strings.TrimSpace(k) == name {
			v, ok = strings.TrimSpace(text), true
		}
	}
	return v, ok
}

// readMaster reads master.cf: name, type, six columns, command, arguments.
func readMaster(text string) (list []service, wrong []line) {
	for _, l := range logical(text) {
		f := words(strings.ReplaceAll(l.text, ",", "\x00"))
		for i := range f {
			f[i] = strings.ReplaceAll(f[i], "\x00", ",")
		}
		if len(f) < 8 {
			wrong = append(wrong, l)
			continue
		}
		list = append(list, service{f[0], f[1], f[7], f[8:], l.number})
	}
	return list, wrong
}
