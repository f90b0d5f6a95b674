package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
)

// scram is SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.
type scram struct {
	auth   *Authenticator
	step   int
	user   string
	secret *scramSecret
	known  bool
	gs2    string // the client's gs2-header
	nonce  string // the client's and ours
	text   string // client-first-message-bare "," server-first-message
	login  *Login // after the proof
}

// Bounds of a nonce of the client's, in octets.
const maxNonce = 256

// Next: client-first, client-final, and the empty response to server-final,
// since SMTP has no success with data (RFC 4954 section 4).
func (m *scram) Next(response []byte) ([]byte, *Login, error) {
	if response == nil && m.step == 0 {
		m.step = 1
		return []byte{}, nil, nil
	}
	if len(response) > MaxResponse {
		return nil, nil, errMalformed
	}
	switch {
	case m.login != nil && len(response) == 0:
		return nil, m.login, nil
	case m.login != nil:
		return nil, nil, errMalformed
	case m.nonce == "":
		return m.first(string(response))
	}
	return m.final(string(response))
}

// first: [gs2-header] n=user,r=nonce[,extensions].
func (m *scram) first(s string) ([]byte, *Login, error) {
	flag, rest, ok1 := strings.Cut(s, ",")
	actAs, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 || flag != "n" && flag != "y" || actAs != "" && !strings.HasPrefix(actAs, "a=") {
		return nil, nil, errMalformed // "p=": we offered no channel binding
	}
	m.gs2 = s[:len(s)-len(bare)]
	fields := strings.Split(bare, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !isNonce(fields[1]) {
		return nil, nil, errMalformed // "m=": an extension that must be understood
	}
	name, fine := saslName(fields[0][2:])
	if !fine {
		return nil, nil, errMalformed
	}
	if other, ok := saslName(strings.TrimPrefix(actAs, "a=")); actAs != "" && (!ok || other != name) {
		name = ""
	}
	m.find(name)
	var own [18]byte
	_, _ = rand.Read(own[:]) // never fails
	m.nonce = fields[1][2:] + base64.StdEncoding.EncodeToString(own[:])
	server := fmt.Sprintf("r=%s,s=%s,i=%d", m.nonce, base64.StdEncoding.EncodeToString(m.secret.salt), m.secret.iterations)
	m.text = bare + "," + server
	return []byte(server), nil, nil
}

// find takes the user's entry, or makes one up that nobody can prove, with the
// look of another's.
func (m *scram) find(name string) {
	a := m.auth
	if user, err := parseUser(name); err == nil {
		m.user = user
		if s, known := a.find(user); known {
			m.secret, m.known = s.(*scramSecret)
		}
	}
	if m.known {
		return
	}
	m.secret = &scramSecret{iterations: newIterations, salt: a.mock("salt", name)[:16], storedKey: a.mock("stored", name), server: a.mock("server", name)}
	for _, f := range *a.files.Load() {
		if list := f.current().scram; len(list) > 0 {
			like := list[a.pick(name, len(list))]
			m.secret.iterations = like.iterations
			m.secret.salt = a.mock("salt", name)
			for len(m.secret.salt) < len(like.salt) {
				m.secret.salt = append(m.secret.salt, a.mock("more", name)...)
			}
			m.secret.salt = m.secret.salt[:len(like.salt)]
			return
		}
	}
}

// final: c=gs2-header,r=nonce[,extensions],p=proof.
func (m *scram) final(s string) ([]byte, *Login, error) {
	i := strings.LastIndex(s, ",p=")
	if i < 0 {
		return nil, nil, errMalformed
	}
	bare, coded := s[:i], s[i+3:]
	fields := strings.Split(bare, ",")
	proof, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || len(fields) < 2 {
		return nil, nil, errMalformed
	}
	bound := fields[0] == "c="+base64.StdEncoding.EncodeToString([]byte(m.gs2)) && hmac.Equal([]byte(fields[1]), []byte("r="+m.nonce))
	m.text += "," + bare
	proven := m.secret.proves(proof, []byte(m.text)) && m.known && bound
	m.login = &Login{Mechanism: scramName, User: m.user, scram: true, proven: proven}
	if !proven {
		return nil, m.login, nil
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(m.secret.server, []byte(m.text)))), nil, nil
}

// isNonce: r= and printable octets but the comma.
func isNonce(s string) bool {
	return strings.HasPrefix(s, "r=") && len(s) > 2 && len(s) <= maxNonce && isPrintable(s) && !strings.Contains(s, " ")
}

// saslName undoes =2C and =3D (RFC 5802 section 5.1).
func saslName(s string) (string, bool) {
	var b strings.Builder
	for s != "" {
		part, rest, found := strings.Cut(s, "=")
		b.WriteString(part)
		if !found {
			break
		}
		switch {
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
	return b.String(), b.Len() > 0 && strings.IndexByte(b.String(), 0) < 0
}
