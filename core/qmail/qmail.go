// Package qmail is the border at which programs hand mail to qmail's queue: the
// message on descriptor 0, the envelope on descriptor 1, an exit status, and words
// for the client on descriptor 6. Postern stands on both sides of it:
//
//   - envelope.go reads and writes envelopes, and has addresses as qmail spells them.
//   - status.go is the exit statuses, what they mean and what a client is told.
//   - compose.go completes a message as qmail-inject does, with the lists of addresses
//     of RFC 822 (addresslist.go).
//   - spool.go is a message that waits for its envelope, which comes behind it.
//   - caller.go runs such a program: the $QMAILQUEUE of our own injectors.
//
// The program itself is `postern queue-in`, also called qmail-queue.
package qmail

import (
	"strings"
	"unicode/utf8"

	"github.com/postern-mta/postern/core/message"
)

// Address is an address as qmail has it, without quotes: everything before the last @
// is the local part. One without a domain is of host. An empty text is the null path,
// for a sender alone; "#@[]" is the sender of a double bounce, and one that ends in
// "-@[]" is another one for each recipient (message.Address.IsVERP). The errors are
// those of package message.
func Address(raw, host string) (message.Address, error) {
	switch {
	case raw == "":
		return message.Address{}, nil
	case raw == DoubleBounce:
		return message.Address{}, nil
	case strings.HasSuffix(raw, "-@[]"):
		return message.ParseSender(raw)
	}
	a := message.Address{Local: raw, Domain: host}
	if at := strings.LastIndexByte(raw, '@'); at >= 0 {
		a.Local, a.Domain = raw[:at], raw[at+1:]
	}
	switch {
	case len(a.Local) > message.MaxLocal:
		return message.Address{}, message.ErrTooLong
	case a.Local == "", !utf8.ValidString(a.Local), strings.ContainsFunc(a.Local, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return message.Address{}, message.ErrSyntax
	}
	var err error
	if a.Domain, err = message.ParseDomain(a.Domain); err != nil {
		return message.Address{}, err
	}
	return a, nil
}

// DoubleBounce is the sender of a bounce of a bounce: nobody is told where that fails.
const DoubleBounce = "#@[]"

// Text is an address as qmail has it.
func Text(a message.Address) string {
	switch {
	case a.IsNull():
		return ""
	case a.Domain == "":
		return a.Local
	}
	return a.Local + "@" + a.Domain
}
