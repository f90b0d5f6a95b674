package intake

import (
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/postern-mta/postern/core/message"
)

// Canonical is a with its domain in the form in which domains are compared,
// routed and looked up: A-labels in lower case (RFC 5891 section 4, RFC 6531
// section 3.2). So bücher.example and xn--bcher-kva.example are one domain to
// everyone behind the protocol engine. Literals, and names in ASCII, stay as
// they are. The error is message.ErrBadDomain.
func Canonical(a message.Address) (message.Address, error) {
	domain, err := canonicalDomain(a.Domain)
	if err != nil {
		return message.Address{}, err
	}
	a.Domain = domain
	return a, nil
}

func canonicalDomain(domain string) (string, error) {
	if isASCII(domain) {
		return domain, nil
	}
	// The conversion takes more than linear time, and a stray byte for U+FFFD.
	if len(domain) > message.MaxDomain || !utf8.ValidString(domain) {
		return "", message.ErrBadDomain
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", message.ErrBadDomain
	}
	// The mapping can bring dots and letters forth that no check has seen.
	if ascii, err = message.ParseDomain(ascii); err != nil || ascii[0] == '[' || !isASCII(ascii) {
		return "", message.ErrBadDomain
	}
	return ascii, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// spelled is an address in its canonical form, and its domain as the client gave
// it where that has U-labels, for next hops that know them. A domain that a
// policy made and that can't be converted stays: its delivery will say so.
func spelled(a, given message.Address) (canonical message.Address, unicode string) {
	canonical, err := Canonical(a)
	if err != nil {
		return a, ""
	}
	if canonical != a {
		return canonical, a.Domain
	}
	if g, err := Canonical(given); err == nil && g == canonical && given != canonical {
		return canonical, given.Domain
	}
	return canonical, ""
}
