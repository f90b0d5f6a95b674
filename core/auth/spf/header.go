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
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// comment is a text inside parentheses.
func comment(s string) string {
	return strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(onlyASCII(s))
}

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
