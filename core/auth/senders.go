package auth

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// SenderRule tells whether a user may send under an address. The null sender is
// everybody's (RFC 5321 section 4.5.5).
type SenderRule func(user string, from message.Address) bool

// OwnAddress lets a user send as the address that its name is; a name without a
// domain as that local part at a domain of ours. The case is no matter, and
// neither is a detail behind "+".
func OwnAddress(ours func(domain string) bool) SenderRule {
	return func(user string, from message.Address) bool {
		if from.IsNull() {
			return true
		}
		local, domain := user, ""
		if i := strings.LastIndexByte(user, '@'); i >= 0 {
			local, domain = user[:i], user[i+1:]
		}
		mine, _, _ := strings.Cut(from.Local, "+")
		if !strings.EqualFold(from.Local, local) && !strings.EqualFold(mine, local) {
			return false
		}
		if domain == "" {
			return ours(from.Domain)
		}
		return strings.EqualFold(from.Domain, domain)
	}
}

// ParseSenders reads a file of senders: USER and the addresses that it may send
// under, parted by blanks; @example.net is every address there, * any at all.
// Several lines for one user add up. Every wrong line is a *LineError.
func ParseSenders(name string, r io.Reader) (SenderRule, []error) {
	allowed := map[string]map[string]bool{}
	var bad []error
	scan := bufio.NewScanner(io.LimitReader(r, maxFile))
	scan.Buffer(make([]byte, 0, maxLine), 64<<10)
	n := 0
	for scan.Scan() && len(bad) < maxProblems {
		n++
		words := strings.Fields(string(bytes.TrimSpace(scan.Bytes())))
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if err := addSenders(allowed, words); err != nil {
			bad = append(bad, &LineError{name, n, err.Error()})
		}
	}
	if err := scan.Err(); err != nil {
		bad = append(bad, &LineError{name, n + 1, fmt.Sprintf("can't be read: %v", err)})
	}
	return func(user string, from message.Address) bool {
		if from.IsNull() {
			return true
		}
		set := allowed[user]
		return set["*"] || set["@"+strings.ToLower(from.Domain)] || set[strings.ToLower(from.String())]
	}, bad
}

func addSenders(allowed map[string]map[string]bool, words []string) error {
	user, err := parseUser(words[0])
	if err != nil {
		return fmt.Errorf("%q is no name of a user: %w", clip(words[0]), err)
	}
	if len(words) == 1 {
		return fmt.Errorf("%q may send as nobody; write the addresses behind the name, or @example.net, or *", user)
	}
	set := allowed[user]
	if set == nil {
		set = map[string]bool{}
		allowed[user] = set
	}
	for _, w := range words[1:] {
		w = strings.ToLower(w)
		if domain, whole := strings.CutPrefix(w, "@"); whole {
			_, err = message.ParseDomain(domain)
		} else if w != "*" {
			_, _, err = message.ParsePath("<" + w + ">")
			if err == nil && !strings.Contains(w, "@") {
				err = message.ErrSyntax
			}
		}
		if err != nil {
			return fmt.Errorf("%q is no sender: %w; write user@example.net, @example.net or *", w, err)
		}
		set[w] = true
	}
	return nil
}
