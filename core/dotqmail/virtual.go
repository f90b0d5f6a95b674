package dotqmail

import (
	"errors"
	"fmt"
	"strings"
)

// Virtual is a table of virtualdomains: whose the mail of a domain or an address is,
// by a name that is put in front of local parts. It does not change.
type Virtual struct {
	prepend map[string]string
}

// Add takes a line: user@dom:prepend, dom:prepend, .dom:prepend for all below dom, or
// :prepend for all other mail. Without a prepend it is an exception, whose local parts
// stay. Of lines with the same key the last counts.
func (v *Virtual) Add(line string) error {
	key, prepend, ok := strings.Cut(line, ":")
	switch {
	case !ok:
		return fmt.Errorf("%q has no colon; write domain:name, user@domain:name, .domain:name or :name", line)
	case strings.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("holds a space or a control character; write domain:name")
	case strings.ContainsAny(prepend, "@:"):
		return fmt.Errorf("%q can't stand in front of local parts; write a name", prepend)
	}
	if v.prepend == nil {
		v.prepend = map[string]string{}
	}
	v.prepend[lowerASCII(key)] = prepend
	return nil
}

// Rewrite is the local part that an address counts as. The whole address is looked up
// first, then its domain, then .parents of it from the longest, then the empty key.
func (v *Virtual) Rewrite(local, domain string) string {
	if v == nil || len(v.prepend) == 0 {
		return local
	}
	domain = lowerASCII(domain)
	put := func(key string) (string, bool) {
		prepend, ok := v.prepend[key]
		if ok && prepend != "" {
			return prepend + "-" + local, true
		}
		return local, ok
	}
	if got, ok := put(lowerASCII(local) + "@" + domain); ok {
		return got
	}
	if got, ok := put(domain); ok {
		return got
	}
	for i := range len(domain) {
		if domain[i] == '.' {
			if got, ok := put(domain[i:]); ok {
				return got
			}
		}
	}
	got, _ := put("")
	return got
}
