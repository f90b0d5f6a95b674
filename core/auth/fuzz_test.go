package auth

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"strings"
	"testing"
)

func pbkdf2Key(password string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, password, salt, 1000, sha256.Size)
}

// FuzzExchange: whatever a client answers, an exchange ends, and only the right
// password is one.
func FuzzExchange(f *testing.F) {
	a := open(f, "sam:"+cheapScram("right"))
	for _, s := range []string{"\x00sam\x00right", "sam\nright", "n,,n=sam,r=x\nc=biws,r=x,p=AAAA\n", "n,a=2C=3D,n==2C,r=x", "y,,n=sam,r=,\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, all string) {
		for _, name := range Mechanisms() {
			e := a.Begin(name)
			for _, r := range strings.SplitN(all, "\n", 8) {
				_, l, err := e.Next([]byte(r))
				if err != nil {
					if code(err) != 501 {
						t.Fatalf("%s %q: %v", name, r, err)
					}
					break
				}
				if l != nil {
					if l.scram && l.proven {
						t.Fatalf("%q proves a password", all)
					}
					if l.User != "" && len(l.User) > 4*maxUser {
						t.Fatalf("a user of %d octets", len(l.User))
					}
					break
				}
			}
		}
	})
}

// FuzzPasswords: any file is read, or refused line by line.
func FuzzPasswords(f *testing.F) {
	f.Add("anna:$2y$04$aaaaaaaaaaaaaaaaaaaaaeaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n")
	f.Add("sam:" + cheapScram("x") + "\r\n# x\n\n")
	f.Add("pg:" + rfc5803(strings.Replace(cheapScram("x"), "$scram-sha-256$1000$", "SCRAM-SHA-256$1000:", 1)))
	f.Add("arno:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$+yXW1tr2nl1rPz4JYk7sHzdf0YcIvRDRwnVSz1qTqkk")
	f.Fuzz(func(t *testing.T, text string) {
		table, bad := parsePasswords("users", strings.NewReader(text))
		for user, s := range table.secrets {
			if user == "" || strings.ContainsAny(user, ":\n") || s.memory() > hashMemory {
				t.Fatalf("user %q, %d bytes", user, s.memory())
			}
		}
		for _, err := range bad {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q", err)
			}
		}
	})
}

// FuzzSenders: any file is read, or refused line by line.
func FuzzSenders(f *testing.F) {
	f.Add("anna anna@example.net @example.org *\n")
	f.Fuzz(func(t *testing.T, text string) {
		rule, _ := ParseSenders("senders", strings.NewReader(text))
		if rule == nil {
			t.Fatal("no rule")
		}
	})
}
