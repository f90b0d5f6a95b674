package remote

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// maxSecret bounds a password.
const maxSecret = 4 << 10

// authenticate says who we are (RFC 4954). A refusal is a matter between us and
// the next hop that no sender can mend: mail waits, and the log says why. What
// was sent for a password stands in neither.
func (c *Client) authenticate(cn *conn) error {
	login := cn.way.auth
	fail := func(enhanced, text string, args ...any) error {
		f := failure{reply: message.NewReply(451, enhanced, cn.host.name+": "+text, args...), peer: cn.peer()}
		c.o.Log.Warn("authentication to a next hop failed", "peer", f.peer, "user", login.User, "error", f.reply.Text)
		return f
	}
	secret, err := readSecret(login)
	if err != nil {
		return fail("4.3.5", "the password to authenticate with can't be read")
	}
	mech := mechanism(cn.ext.auth, login, secret)
	if mech == nil {
		return fail("4.7.0", "no way to authenticate is offered that is known here (offered: %s)", strings.Join(cn.ext.auth, " "))
	}
	r, err := mech.run(c, cn)
	switch {
	case errors.Is(err, errServerProof):
		return fail("4.7.8", "%v", err)
	case err != nil:
		return failure{reply: message.NewReply(451, "4.4.2", "%s: AUTH: %s", cn.host.name, plainError(err)), reached: true, peer: cn.peer()}
	case r.Code != 235:
		return fail("4.7.8", "authentication refused: %s", bound(r).String())
	}
	return nil
}

// readSecret is the first line of the password file.
func readSecret(l send.Login) (string, error) {
	f, err := os.Open(l.PasswordFile)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || strings.Contains(line, "\x00") {
		return "", errors.New("no password in the file")
	}
	return line, nil
}

// sasl is one SASL mechanism at work: its name, and what it says to each
// challenge. The first step gets none.
type sasl struct {
	name  string
	first bool // the first message goes with AUTH
	steps []func(challenge []byte) ([]byte, error)
	// final looks at what the server said last, where that is the proof that it
	// knows the password, too.
	final func() error
}

// mechanism is the best that is offered: SCRAM-SHA-256 tells the password to
// nobody, PLAIN and LOGIN to the other side, over TLS.
func mechanism(offered []string, l send.Login, secret string) *sasl {
	switch {
	case slices.Contains(offered, "SCRAM-SHA-256"):
		return scram(l.User, secret, rand.Text())
	case slices.Contains(offered, "PLAIN"): // RFC 4616
		return &sasl{name: "PLAIN", first: true, steps: []func([]byte) ([]byte, error){say("\x00" + l.User + "\x00" + secret)}}
	case slices.Contains(offered, "LOGIN"):
		return &sasl{name: "LOGIN", steps: []func([]byte) ([]byte, error){say(l.User), say(secret)}}
	}
	return nil
}

func say(s string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(s), nil }
}

// run speaks AUTH. A reply that is no challenge ends it.
func (s *sasl) run(c *Client, cn *conn) (r message.Reply, err error) {
	timeout := c.o.Timeouts.Command
	steps := s.steps
	if s.first {
		msg, err := steps[0](nil)
		if err != nil {
			return r, err
		}
		steps = steps[1:]
		r, err = cn.wire.exchange(timeout, "AUTH ", s.name, " ", base64.StdEncoding.EncodeToString(msg))
		if err != nil {
			return r, err
		}
	} else if r, err = cn.wire.exchange(timeout, "AUTH ", s.name); err != nil {
		return r, err
	}
	for _, step := range steps {
		if r.Code != 334 {
			break
		}
		challenge, err := base64.StdEncoding.DecodeString(r.Text)
		var msg []byte
		if err == nil {
			msg, err = step(challenge)
		}
		if err != nil {
			_, _ = cn.wire.exchange(timeout, "*") // cancel (RFC 4954 section 4); the connection is given up
			return r, fmt.Errorf("%w: %w", errServerProof, err)
		}
		if r, err = cn.wire.exchange(timeout, base64.StdEncoding.EncodeToString(msg)); err != nil {
			return r, err
		}
	}
	if r.Code == 235 && s.final != nil {
		err = s.final()
	}
	return r, err
}

// errServerProof: the other side does not know the password itself, or talks
// nonsense.
var errServerProof = errors.New("the next hop failed to authenticate itself")

// maxIterations is how many rounds of hashing a server may ask us for.
const maxIterations = 1 << 20

// scram is SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.
func scram(user, secret, nonce string) *sasl {
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
	bare := "n=" + name + ",r=" + nonce
	var proof []byte // the server's, as it must be
	proven := false
	answer := func(challenge []byte) ([]byte, error) {
		var salt []byte
		var full string
		var rounds int
		for field := range strings.SplitSeq(string(challenge), ",") {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "r":
				full = value
			case "s":
				salt, _ = base64.StdEncoding.DecodeString(value)
			case "i":
				rounds, _ = strconv.Atoi(value)
			case "m":
				return nil, errors.New("an extension that is not known")
			}
		}
		if !strings.HasPrefix(full, nonce) || len(full) == len(nonce) || len(salt) == 0 || rounds < 4096 || rounds > maxIterations {
			return nil, errors.New("a challenge that makes no sense")
		}
		salted, err := pbkdf2.Key(sha256.New, secret, salt, rounds, sha256.Size)
		if err != nil {
			return nil, err
		}
		final := "c=biws,r=" + full // biws: "n,,"
		signed := bare + "," + string(challenge) + "," + final
		key := mac(salted, "Client Key")
		stored := sha256.Sum256(key)
		subtle.XORBytes(key, key, mac(stored[:], signed))
		proof = mac(mac(salted, "Server Key"), signed)
		return []byte(final + ",p=" + base64.StdEncoding.EncodeToString(key)), nil
	}
	check := func(challenge []byte) ([]byte, error) {
		got, ok := strings.CutPrefix(string(challenge), "v=")
		said, err := base64.StdEncoding.DecodeString(got)
		if !ok || err != nil || len(proof) == 0 || !hmac.Equal(said, proof) {
			return nil, errors.New("its proof is wrong")
		}
		proven = true
		return nil, nil
	}
	return &sasl{
		name: "SCRAM-SHA-256", first: true,
		steps: []func([]byte) ([]byte, error){say("n,," + bare), answer, check},
		final: func() error {
			if !proven {
				return errServerProof
			}
			return nil
		},
	}
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
