package message

import (
	"errors"
	"net/mail"
	"strings"
)

// Mailbox is who a field such as From names.
type Mailbox struct {
	Name    string // as readers show it, decoded; "" where there is none
	Address Address
}

// Bounds of a list of mailboxes.
const (
	maxMailboxField = 64 << 10
	maxMailboxes    = 1000
)

var errMailboxes = errors.New("the field is no list of addresses")

// ParseMailboxes reads the list of addresses in a field (RFC 5322 section 3.4), as it
// stands in the message: names may hold encoded words. Groups are opened. Names of real
// mail often have characters that should be quoted: where the grammar is not kept, the
// one pair of angle brackets outside of quotes and comments is read, and what stands
// around it is the name: addresses in it are seen by those who look at names.
func ParseMailboxes(field string) ([]Mailbox, error) {
	if len(field) > maxMailboxField {
		return nil, errMailboxes
	}
	field = strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, field)
	parser := mail.AddressParser{}
	parsed, err := parser.ParseList(field)
	if err != nil {
		name, address, ok := bracketed(field)
		if !ok {
			return nil, errMailboxes
		}
		a, err := ParseAddress(address)
		if err != nil {
			return nil, errMailboxes
		}
		return []Mailbox{{Name: DecodeWords(strings.Trim(strings.TrimSpace(name), `"`)), Address: a}}, nil
	}
	list := make([]Mailbox, 0, min(len(parsed), maxMailboxes))
	for _, one := range parsed[:min(len(parsed), maxMailboxes)] {
		if a, err := ParseAddress(one.Address); err == nil {
			list = append(list, Mailbox{Name: DecodeWords(one.Name), Address: a})
		}
	}
	if len(list) == 0 {
		return nil, errMailboxes
	}
	return list, nil
}

// bracketed takes apart a field with one pair of angle brackets outside of quotes and
// comments.
func bracketed(field string) (name, address string, ok bool) {
	start, one := -1, true
	EachBare(field, func(i int, c byte) bool {
		switch {
		case c == '<' && (start >= 0 || ok), c == '>' && start < 0:
			one = false
		case c == '<':
			start = i + 1
		case c == '>':
			name, address, ok, start = field[:start-1]+field[i+1:], field[start:i], true, -1
		}
		return one
	})
	if !one {
		return "", "", false
	}
	return name, strings.TrimSpace(address), ok && start < 0
}

// EachBare calls each for the bytes of a field that stand outside of quoted strings,
// comments and quoted pairs (RFC 5322 sections 3.2.1, 3.2.2 and 3.2.4), with their
// places, until it returns false. open tells whether a quoted string has no end.
func EachBare(field string, each func(i int, c byte) bool) (open bool) {
	depth := 0
	for i := 0; i < len(field); i++ {
		switch c := field[i]; {
		case c == '\\':
			i++
		case c == '"' && depth == 0:
			open = !open
		case open:
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
		case !each(i, c):
			return open
		}
	}
	return open
}
