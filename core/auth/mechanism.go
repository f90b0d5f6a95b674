package auth

import (
	"bytes"
	"slices"
)

// Names of the mechanisms (RFC 4616; a draft that many clients know; RFC 7677).
const (
	plainName = "PLAIN"
	loginName = "LOGIN"
	scramName = "SCRAM-SHA-256"
)

// Mechanisms are the names that there are, the one to prefer first.
func Mechanisms() []string { return []string{scramName, plainName, loginName} }

// MaxResponse bounds a decoded response, in octets: names and a password fit.
const MaxResponse = 2*maxUser + maxPassword + 2

// Exchange is the server's side of one run of a mechanism (RFC 4422 section 3).
// It belongs to one goroutine.
type Exchange interface {
	// Next takes the client's response, nil where the client began without one,
	// and returns either the challenge to send or the finished login for Check. An
	// error is the message.Reply to send; the exchange is over then.
	Next(response []byte) (challenge []byte, l *Login, err error)
}

// Offers are the mechanisms to list of those that are allowed, in the order to
// prefer: none without a password file; SCRAM where a user has an entry for it.
func (a *Authenticator) Offers(allowed []string) []string {
	if len(*a.files.Load()) == 0 {
		return nil
	}
	return slices.DeleteFunc(Mechanisms(), func(name string) bool {
		return !slices.Contains(allowed, name) || name == scramName && !a.hasScram()
	})
}

// ByPassword are those of the allowed mechanisms that tell the password, in the order
// to prefer: whoever can judge one needs no entry in a file.
func ByPassword(allowed []string) []string {
	return slices.DeleteFunc([]string{plainName, loginName}, func(name string) bool { return !slices.Contains(allowed, name) })
}

func (a *Authenticator) hasScram() bool {
	return slices.ContainsFunc(*a.files.Load(), func(f *passwordFile) bool { return len(f.current().scram) > 0 })
}

// Begin starts an exchange; nil where there is no such mechanism.
func (a *Authenticator) Begin(mechanism string) Exchange {
	switch mechanism {
	case plainName:
		return plain{}
	case loginName:
		return &login{}
	case scramName:
		return &scram{auth: a}
	}
	return nil
}

// plain: RFC 4616.
type plain struct{}

func (plain) Next(response []byte) ([]byte, *Login, error) {
	if response == nil {
		return []byte{}, nil, nil
	}
	parts := bytes.Split(response, []byte{0}) // authzid NUL authcid NUL password
	if len(response) > MaxResponse || len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return nil, nil, errMalformed
	}
	return nil, newLogin(plainName, string(parts[0]), string(parts[1]), string(parts[2])), nil
}

// newLogin is a login by password. To act as somebody else than who one is, is
// nobody's right here: such a login has no user.
func newLogin(mechanism, actAs, name, password string) *Login {
	user, err := parseUser(name)
	if other, e := parseUser(actAs); actAs != "" && (e != nil || other != user) {
		err = errUser
	}
	if err != nil {
		user = ""
	}
	return &Login{Mechanism: mechanism, User: user, Password: password}
}

// login asks for the name and the password in turn.
type login struct {
	name  []byte
	asked int
}

func (m *login) Next(response []byte) ([]byte, *Login, error) {
	if response == nil && m.asked == 0 {
		m.asked = 1
		return []byte("Username:"), nil, nil
	}
	if len(response) == 0 || len(response) > MaxResponse || bytes.IndexByte(response, 0) >= 0 {
		return nil, nil, errMalformed
	}
	if m.name == nil {
		m.name = bytes.Clone(response)
		return []byte("Password:"), nil, nil
	}
	return nil, newLogin(loginName, "", string(m.name), string(response)), nil
}
