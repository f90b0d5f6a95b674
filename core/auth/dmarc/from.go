package dmarc

import (
	"fmt"
	"net/mail"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// Bounds of a From field.
const (
	maxFrom      = 16 << 10 // bytes
	maxDomains   = 3        // different ones
	maxAddresses = 100
)

// FromDomains are the domains that the From fields of a message name, in A-labels,
// each once. wrong says why there are none that can be judged (RFC 9989 5.3.1, RFC
// 7489 6.6.1): no field, several, no address, or one that can't be read.
func FromDomains(fields []string) (domains []string, wrong string) {
	switch len(fields) {
	case 0:
		return nil, "there is no From field"
	case 1:
	default:
		return nil, fmt.Sprintf("there are %d From fields", len(fields))
	}
	if len(fields[0]) > maxFrom {
		return nil, "the From field is too long"
	}
	list, wrong := addresses(fields[0])
	if wrong != "" {
		return nil, wrong
	}
	for _, address := range list {
		at := strings.LastIndexByte(address, '@')
		domain, err := dns.Canonical(address[at+1:])
		if at < 1 || err != nil || strings.HasPrefix(domain, "[") || !strings.Contains(domain, ".") {
			return nil, "the From field has an address without a domain name"
		}
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
		if len(domains) > maxDomains {
			return nil, fmt.Sprintf("the From field has more than %d domains", maxDomains)
		}
	}
	return domains, ""
}

// addresses are those of a From field. Groups are opened; their names don't count.
func addresses(field string) (list []string, wrong string) {
	field = strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, field)
	if strings.Trim(field, " ") == "" {
		return nil, "the From field is empty"
	}
	parser := mail.AddressParser{WordDecoder: nil}
	parsed, err := parser.ParseList(field)
	if err != nil {
		// Display names of real mail often have characters that should be quoted: what
		// stands in angle brackets is read then, if there is one such part alone.
		one, ok := bracketed(field)
		if !ok {
			if strings.Contains(field, ":") && !strings.Contains(field, "@") {
				return nil, "the From field is a group without an address"
			}
			return nil, "the From field can't be read"
		}
		return []string{one}, ""
	}
	if len(parsed) == 0 {
		return nil, "the From field has no address"
	}
	if len(parsed) > maxAddresses {
		return nil, "the From field has too many addresses"
	}
	for _, a := range parsed {
		list = append(list, a.Address)
	}
	return list, ""
}

// bracketed is the address in the only pair of angle brackets outside of quotes and
// comments. Anything that could be another address behind it makes it none, and so does
// an address in a list before it, which readers may show for the author.
func bracketed(field string) (address string, ok bool) {
	start, one := -1, true
	listed, author := false, false // a separator, an address, before the brackets
	open := message.EachBare(field, func(i int, c byte) bool {
		switch {
		case c == '<' && (start >= 0 || ok || listed && author), c == '>' && start < 0:
			one = false
		case c == '<':
			start = i + 1
		case c == '>':
			address, ok, start = field[start:i], true, -1
		case start < 0 && !ok:
			listed = listed || c == ',' || c == ';'
			author = author || c == '@'
		case ok && (c == '@' || c == ',' || c == ';'):
			one = false
		}
		return one
	})
	if !one || open || start >= 0 || !ok {
		return "", false
	}
	a, err := mail.ParseAddress(strings.TrimSpace(address))
	if err != nil {
		return "", false
	}
	return a.Address, true
}
