package spf

import (
	"fmt"
	"strings"
)

// said is what the comment of a Received-SPF field says of a verdict.
var said = map[Verdict]string{
	None:      "domain of %s gives no SPF record",
	Neutral:   "domain of %s says nothing about %s",
	Pass:      "domain of %s designates %s as permitted sender",
	Fail:      "domain of %s does not designate %s as permitted sender",
	SoftFail:  "domain of %s probably does not designate %s as permitted sender",
	TempError: "domain of %s could not be asked about %s",
	PermError: "domain of %s has a record that can't be used",
}

// Field returns the value of the Received-SPF field that tells of r (RFC 7208 9.1):
// ASCII on one line, every value quoted where it needs to be. receiver is our name.
func (r Result) Field(by Client, receiver string) string {
	text := said[r.Verdict]
	if strings.Count(text, "%s") > 1 {
		text = fmt.Sprintf(text, r.Sender, by.IP)
	} else {
		text = fmt.Sprintf(text, r.Sender)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s) ", r.Verdict, comment(receiver+": "+text))
	from := by.Domain
	if by.Local != "" {
		from = by.Local + "@" + by.Domain
	}
	for i, pair := range [][2]string{
		{"receiver", receiver},
		{"client-ip", by.IP.Unmap().WithZone("").String()},
		{"envelope-from", from},
		{"helo", by.Helo},
		{"identity", string(r.Identity)},
		{"mechanism", r.Mechanism},
		{"problem", r.Problem},
	} {
		if pair[1] == "" && pair[0] != "envelope-from" {
			continue
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(pair[0] + "=" + word(pair[1]))
	}
	return b.String()
}

// maxWord bounds a value from outside in the field.
const maxWord = 320

// word is a value of the field: as it is where it is a dot-atom, else in quotes.
func word(s string) string {
	s = onlyASCII(s)
	atom := s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
	for i := 0; atom && i < len(s); i++ {
		atom = alpha(s[i]) || digit(s[i]) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", s[i]) >= 0
	}
	if atom {
		return s
	}
	return `"` + inQuotes.Replace(s) + `"`
}

// comment is a text inside parentheses.
func comment(s string) string { return inComment.Replace(onlyASCII(s)) }

// What stands for characters that would end a quoted string or a comment.
var (
	inQuotes  = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	inComment = strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`)
)

// onlyASCII is s, cut to what a field may bear, with a question mark for each
// character that it may not.
func onlyASCII(s string) string {
	s = s[:min(len(s), maxWord)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Claims tells whether a Received-SPF field says that host wrote it: by its receiver,
// or by the name before the colon at the start of its comment. Such a field in mail
// from elsewhere is forged.
func Claims(field, host string) bool {
	words, first := fieldWords(field)
	if name, _, ok := strings.Cut(first, ":"); ok && sameHost(name, host) {
		return true
	}
	for i, w := range words {
		if strings.EqualFold(w, "receiver") && i+2 < len(words) && words[i+1] == "=" && sameHost(words[i+2], host) {
			return true
		}
	}
	return false
}

func sameHost(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(strings.TrimSpace(a), "."), strings.TrimSuffix(b, "."))
}

// fieldWords splits a field into atoms, quoted strings without their quotes, and the
// characters ; and =, and returns its first comment apart.
func fieldWords(s string) (words []string, comment string) {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '(':
			text, n := enclosed(s[i:], ')')
			if i += n; comment == "" {
				comment = text
			}
		case c == '"':
			text, n := enclosed(s[i:], '"')
			i += n
			words = append(words, text)
		case c == ';' || c == '=':
			words = append(words, s[i:i+1])
			i++
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		default:
			n := strings.IndexAny(s[i:], "(\";= \t\r\n")
			if n < 0 {
				n = len(s) - i
			}
			words = append(words, s[i:i+n])
			i += n
		}
	}
	return words, comment
}

// enclosed reads a comment, which may hold others, or a quoted string; n is its
// length with the delimiters. One that does not end reaches to the end.
func enclosed(s string, end byte) (text string, n int) {
	var b []byte
	depth := 1
	for n = 1; n < len(s); n++ {
		switch c := s[n]; {
		case c == '\\' && n+1 < len(s):
			n++
			b = append(b, s[n])
			continue
		case c == end:
			depth--
		case c == '(' && end == ')':
			depth++
		}
		if depth == 0 {
			return string(b), n + 1
		}
		b = append(b, s[n])
	}
	return string(b), len(s)
}
