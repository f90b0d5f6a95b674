package remote

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/send"
)

// mechs is what the sink offers: "mechs" in users, else all.
func (s *sink) mechs() string {
	if m := s.users["mechs"]; m != "" {
		return m
	}
	return "LOGIN PLAIN SCRAM-SHA-256"
}

// ask sends a challenge and returns the answer.
func (ss *sinkSession) ask(challenge string) (string, bool) {
	if !ss.say("334 " + base64.StdEncoding.EncodeToString([]byte(challenge))) {
		return "", false
	}
	line, err := ss.r.ReadString('\n')
	if err != nil {
		return "", false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\r\n"))
	return string(b), err == nil
}

// auth takes AUTH (RFC 4954).
func (ss *sinkSession) auth(line string) bool {
	words := strings.Fields(line)
	initial := ""
	if len(words) > 2 {
		b, err := base64.StdEncoding.DecodeString(words[2])
		if err != nil {
			ss.complain(line)
		}
		initial = string(b)
	}
	user, ok := "", false
	switch words[1] {
	case "PLAIN":
		parts := strings.Split(initial, "\x00")
		user, ok = parts[1], len(parts) == 3 && ss.s.users[parts[1]] == parts[2]
	case "LOGIN":
		var secret string
		if user, ok = ss.ask("Username:"); !ok {
			return false
		}
		if secret, ok = ss.ask("Password:"); !ok {
			return false
		}
		ok = ss.s.users[user] == secret
	case "SCRAM-SHA-256":
		user, ok = ss.scram(initial)
	}
	if !ok {
		return ss.say("535 5.7.8 Error: authentication failed")
	}
	ss.user = user
	return ss.say("235 2.7.0 welcome")
}

// scram is the server's side of RFC 5802, written after the RFC's own text.
func (ss *sinkSession) scram(first string) (string, bool) {
	bare, _ := strings.CutPrefix(first, "n,,")
	name, nonce, _ := strings.Cut(bare, ",r=")
	user := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(strings.TrimPrefix(name, "n="))
	challenge := "r=" + nonce + "server,s=" + base64.StdEncoding.EncodeToString([]byte("salt")) + ",i=4096"
	answer, ok := ss.ask(challenge)
	if !ok {
		return "", false
	}
	without, proof, _ := strings.Cut(answer, ",p=")
	sent, _ := base64.StdEncoding.DecodeString(proof)
	salted, _ := pbkdf2.Key(sha256.New, ss.s.users[user], []byte("salt"), 4096, 32)
	h := func(key []byte, s string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(s))
		return m.Sum(nil)
	}
	signed := bare + "," + challenge + "," + without
	client := h(salted, "Client Key")
	stored := sha256.Sum256(client)
	if len(sent) != len(client) {
		return "", false
	}
	subtle.XORBytes(sent, sent, h(stored[:], signed))
	if !bytes.Equal(sent, client) || without != "c=biws,r="+nonce+"server" {
		return "", false
	}
	signature := h(h(salted, "Server Key"), signed)
	if ss.s.users["impostor"] != "" {
		signature[0] ^= 1
	}
	_, ok = ss.ask("v=" + base64.StdEncoding.EncodeToString(signature))
	return user, ok
}

func loginOf(t *testing.T, user, secret string) send.Login {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret+"\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return send.Login{User: user, PasswordFile: file}
}

// RFC 4954, RFC 4616, RFC 7677: who has a login uses it over TLS, and only there;
// a refusal puts the mail off.
func TestAuth(t *testing.T) {
	config := certificate(t)
	for _, test := range []struct {
		name          string
		user, secret  string
		users         map[string]string
		clear, refuse bool
		want, command string
	}{
		{"SCRAM is preferred", "a=b,c", "sécret", map[string]string{"a=b,c": "sécret"}, false, false, "delivered 250", "AUTH SCRAM-SHA-256"},
		{"PLAIN", "u", "p w", map[string]string{"u": "p w", "mechs": "LOGIN PLAIN"}, false, false, "delivered 250", "AUTH PLAIN"},
		{"LOGIN", "u", "p", map[string]string{"u": "p", "mechs": "DIGEST-MD5 login"}, false, false, "delivered 250", "AUTH LOGIN"},
		{"wrong by SCRAM", "u", "x", map[string]string{"u": "p"}, false, false, "deferred 451 4.7.8", "AUTH SCRAM"},
		{"wrong by PLAIN", "u", "secret-word", map[string]string{"u": "p", "mechs": "PLAIN"}, false, false, "deferred 451 4.7.8", "AUTH PLAIN"},
		{"an impostor", "u", "p", map[string]string{"u": "p", "impostor": "x"}, false, false, "deferred 451 4.7.8", "AUTH SCRAM"},
		{"nothing known", "u", "p", map[string]string{"u": "p", "mechs": "CRAM-MD5"}, false, false, "deferred 451 4.7.0", ""},
		{"without TLS", "u", "p", map[string]string{"u": "p"}, true, false, "deferred 451 4.7.4", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSink(t, func(s *sink) {
				s.users = test.users
				if !test.clear {
					s.tls = config
				}
			})
			var log bytes.Buffer
			c := newClient(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			j := jobTo(t, s, "\r\nx\r\n")
			j.TLS, j.Auth = "may", loginOf(t, test.user, test.secret)
			o := outcomes(t, j, c.Deliver(t.Context(), j))[0]
			if got := o.Result.String() + " " + o.Reply.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("%s; want %s", got, test.want)
			}
			if o.Result == send.Delivered && s.got()[0].login != test.user || o.Result != send.Delivered && (!o.Unreached || len(s.got()) > 0) {
				t.Errorf("%+v, %+v", o, s.got())
			}
			said := slices.DeleteFunc(s.said(), func(l string) bool { return !strings.HasPrefix(l, "AUTH") })
			if (test.command != "") != (len(said) == 1) || len(said) > 0 && !strings.HasPrefix(said[0], test.command) {
				t.Errorf("it said %q", said)
			}
			if strings.Contains(log.String()+o.Reply.String(), test.secret) && len(test.secret) > 3 {
				t.Errorf("the password is in %s", log.String())
			}
		})
	}
}

// A challenge is outside bytes: none of them crashes us, or makes us answer to a
// server that did not take our nonce on, or hash for ever.
func FuzzScram(f *testing.F) {
	f.Add("r=noncex,s=c2FsdA==,i=4096", "v=eA==")
	f.Add("r=nonce,s=,i=1", "e=other-error")
	f.Add("m=x,r=noncex,s=c2FsdA==,i=999999999", "")
	f.Fuzz(func(t *testing.T, first, last string) {
		if strings.Contains(first, "i=") && len(first) > 60 {
			return // much to hash
		}
		s := scram("user", "secret", "nonce")
		answer, err := s.steps[1]([]byte(first))
		if err == nil && (!strings.Contains(first, "r=nonce") || !strings.HasPrefix(string(answer), "c=biws,r=nonce")) {
			t.Fatalf("%q is answered with %q", first, answer)
		}
		if _, err := s.steps[2]([]byte(last)); err == nil || s.final() == nil {
			t.Fatalf("%q proves that it knows the password", last)
		}
	})
}
