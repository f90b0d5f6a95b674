package message

import "strings"

// A variable envelope return path: a sender that is another one for each recipient,
// so that a bounce tells whose it is. It is written as qmail has it (addresses(5)):
// list-owner-@example.net-@[] stands for list-owner-user=example.org@example.net in
// what user@example.org gets, and bounces of our own go to list-owner-@example.net.
// Kept as an Address, its Domain is verpDomain.
const (
	verpDomain = "[]"
	verpSuffix = "-@" + verpDomain
)

// IsVERP tells whether a stands for a sender of its own for each recipient.
func (a Address) IsVERP() bool { return a.Domain == verpDomain }

// Owner is whom a bounce of ours about a message from a goes to: a itself, but for
// one that IsVERP.
func (a Address) Owner() Address {
	if !a.IsVERP() {
		return a
	}
	whole := strings.TrimSuffix(a.Local, "-")
	at := strings.LastIndexByte(whole, '@')
	return Address{whole[:max(at, 0)], whole[at+1:]}
}

// For is the sender of what one recipient gets: a itself, but for one that IsVERP.
func (a Address) For(rcpt Address) Address {
	if !a.IsVERP() {
		return a
	}
	owner := a.Owner()
	owner.Local += rcpt.Local + "=" + rcpt.Domain
	return owner
}

// ParseReversePath is ParsePath for the path of MAIL, which may be one that IsVERP.
func ParseReversePath(s string) (a Address, rest string, err error) {
	// The suffix may also stand within a quoted local part; then what is before it is
	// no address.
	if i := strings.Index(s, verpSuffix+">"); i > 0 && s[0] == '<' {
		if a, err := verpOf(s[1:i]); err == nil {
			return a, s[i+len(verpSuffix)+1:], nil
		}
	}
	return ParsePath(s)
}

// ParseSender is ParseAddress for a reverse-path, which may be one that IsVERP.
func ParseSender(s string) (Address, error) {
	if inner, ok := strings.CutSuffix(s, verpSuffix); ok {
		if a, err := verpOf(inner); err == nil {
			return a, nil
		}
	}
	return ParseAddress(s)
}

// verpOf makes the address that IsVERP of what stands before its suffix.
func verpOf(s string) (Address, error) {
	owner, err := ParseAddress(s)
	switch {
	case err != nil:
		return Address{}, err
	case owner.Domain == "" || owner.Domain[0] == '[' || !owner.IsASCII():
		return Address{}, ErrBadDomain
	}
	return Address{owner.Local + "@" + owner.Domain + "-", verpDomain}, nil
}
