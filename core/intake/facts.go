package intake

import (
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Variables of connection rules that have a meaning here, as for qmail-smtpd.
const (
	sizeVariable  = "DATABYTES"   // bytes of a message, in place of the configured bound; 0: none
	relayVariable = "RELAYCLIENT" // what stands behind each recipient; the gate lets the client relay
)

// Limits are the bounds that the protocol tells a client; 0: none.
func (in *Intake) Limits(s *hooks.Session) (messageSize int64) {
	return in.set.Load().messageSize(s)
}

// messageSize is the bound for the messages of a session.
func (s *Settings) messageSize(of *hooks.Session) int64 {
	if v, ok := of.Env[sizeVariable]; ok {
		if n, err := ParseDatabytes(v); err == nil {
			return n
		}
	}
	return s.MessageSize
}

// ParseDatabytes reads the value of the variable DATABYTES.
func ParseDatabytes(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// Meant is the recipient that an address means in a session: where its domain is a
// literal of the address that the client is connected to, our host is meant (RFC 5321
// section 4.1.3); and behind each recipient of a client whose connection rule gives
// RELAYCLIENT a value that value is put, as qmail-smtpd does.
func (in *Intake) Meant(s *hooks.Session, a message.Address) (message.Address, error) {
	if ip, ok := a.Literal(); ok && s.Local.IsValid() && ip.Unmap() == s.Local.Addr().Unmap() {
		set := in.set.Load()
		if a.Domain = set.LiteralHost; a.Domain == "" {
			a.Domain = set.Hostname
		}
	}
	suffix := s.Env[relayVariable]
	if suffix == "" {
		return a, nil
	}
	return WithSuffix(a, suffix)
}

// WithSuffix is an address with the value of RELAYCLIENT behind it: ".example.net"
// makes its domain longer, "@relay.example" makes it a local part there.
func WithSuffix(a message.Address, suffix string) (message.Address, error) {
	whole := a.Local + "@" + a.Domain + suffix
	at := strings.LastIndexByte(whole, '@')
	domain, err := message.ParseDomain(whole[at+1:])
	if err != nil {
		return message.Address{}, err
	}
	if at > message.MaxLocal {
		return message.Address{}, message.ErrTooLong
	}
	return Canonical(message.Address{Local: whole[:at], Domain: domain})
}

// recipientMeant brings a recipient that was handed over to the form in which it is judged.
func (in *Intake) recipientMeant(s *hooks.Session, r *hooks.Recipient) error {
	err := canonicalRecipient(r)
	if err == nil {
		r.Address, err = in.Meant(s, r.Address)
	}
	return err
}
