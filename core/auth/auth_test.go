package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/postern-mta/postern/core/message"
)

// cheapBcrypt and cheapScram make hashes that cost next to nothing.
func cheapBcrypt(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(h), "$2a$", "$2y$", 1)
}

func cheapScram(password string) string {
	salt := []byte("0123456789abcdef")
	stored, server := scramKeys([]byte(password), salt, 1000)
	b := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("$scram-sha-256$1000$%s$%s$%s", b(salt), b(stored), b(server))
}

func write(t testing.TB, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, lines ...string) *Authenticator {
	t.Helper()
	a, err := New(Options{Files: []string{write(t, lines...)}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var nowhere netip.Addr

// code is that of the reply an error is; 0 for none.
func code(err error) int {
	if r, ok := errors.AsType[message.Reply](err); ok {
		return r.Code
	}
	return 0
}

func TestEveryKindOfHash(t *testing.T) {
	a := open(t,
		"# users", "",
		"bea:"+cheapBcrypt(t, "secret"),
		"arno@example.net:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$+yXW1tr2nl1rPz4JYk7sHzdf0YcIvRDRwnVSz1qTqkk", // of another password
		"uwe:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",                                     // a vector of crypt_blowfish
		"sam:"+cheapScram("secret"),
		"pg:"+strings.NewReplacer("$scram-sha-256$1000$", "SCRAM-SHA-256$1000:").Replace(rfc5803(cheapScram("secret"))),
		"j\u00fcrgen:"+cheapBcrypt(t, "p\u00e4ss"),
	)
	for _, tc := range []struct {
		user, password string
		ok             bool
	}{
		{"bea", "secret", true},
		{"bea", "Secret", false},
		{"bea", "", false},
		{"Bea", "secret", false},
		{"sam", "secret", true},
		{"sam", "secre", false},
		{"pg", "secret", true},
		{"uwe", "U*U", true},
		{"uwe", "U*V", false},
		{"arno@example.net", "secret", false},
		{"nobody", "secret", false},
		{"", "secret", false},
		{"j\u00fcrgen", "p\u00e4ss", true},
		{"ju\u0308rgen", "pa\u0308ss", true}, // RFC 8265: composed
		{"bea", "secret\x00", false},
		{"bea", strings.Repeat("x", 5000), false},
	} {
		l := newLogin(plainName, "", tc.user, tc.password)
		user, err := check(t, a, l)
		if (err == nil) != tc.ok || tc.ok && user == "" || !tc.ok && code(err) != 535 {
			t.Errorf("%q with %q: %q, %v", tc.user, tc.password, user, err)
		}
	}
}

// check judges a login without waiting for real.
func check(t *testing.T, a *Authenticator, l *Login) (user string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { user, err = a.Check(t.Context(), nowhere, l, nil) })
	return user, err
}

// rfc5803 writes the last two "$" as RFC 5803 has them.
func rfc5803(s string) string {
	i := strings.LastIndexByte(s, '$')
	return s[:i] + ":" + s[i+1:]
}

func TestMadeHashesAreTaken(t *testing.T) {
	for _, scheme := range Schemes() {
		h, err := Hash(scheme, "a pass phrase")
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSecret(h)
		if err != nil || !s.verify([]byte("a pass phrase")) {
			t.Errorf("%s: %s: %v", scheme, h, err)
		}
	}
	for _, tc := range [][2]string{{"md5", "x"}, {"argon2id", ""}, {"argon2id", "a\x00b"}, {"bcrypt", strings.Repeat("x", 73)}} {
		if _, err := Hash(tc[0], tc[1]); err == nil {
			t.Errorf("Hash(%q) took %d octets", tc[0], len(tc[1]))
		}
	}
}

func TestPasswordFileRefusals(t *testing.T) {
	good := cheapBcrypt(t, "x")
	for line, want := range map[string]string{
		"anna":                             "no colon",
		"anna:secret":                      "not a hash; write a bcrypt",
		"anna:$1$abc$def":                  `the scheme "1" is not supported`,
		":" + good:                         `"" is no name of a user`,
		"an na:" + good:                    `"an na" is no name`,
		"anna:" + good[:40]:                "cut or damaged",
		"anna:$2y$31$" + good[7:]:          "a bcrypt cost of 31",
		"anna:$2x$" + good[4:]:             `the scheme "2x"`,
		"anna:$argon2id$v=19$m=64,t=1$x$y": "argon2id hash that is damaged",
		"anna:$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$+yXW1tr2nl1rPz4JYk7sHzdf0YcIvRDRwnVSz1qTqkk":      "damaged",
		"anna:$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$+yXW1tr2nl1rPz4JYk7sHzdf0YcIvRDRwnVSz1qTqkk": "ask too much",
		"anna:$argon2id$v=19$m=64,t=1,p=257$c29tZXNhbHQ$+yXW1tr2nl1rPz4JYk7sHzdf0YcIvRDRwnVSz1qTqkk":    "damaged",
		"anna:$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$+yXW1tr2nl1rPz4JYk7sHzdf0YcIvRDRwnVSz1qTqkk":      "damaged",
		"anna:$scram-sha-256$1000$x$y$z":                                              "SCRAM entry that is damaged",
		"anna:$scram-sha-256$99999999" + cheapScram("x")[len("$scram-sha-256$1000"):]: "99999999 iterations",
		"anna:" + strings.Repeat("x", 2000):                                           "can't be read",
		"bert:" + good + "\nbert:" + good:                                             `"bert" has an entry in line 2 already`,
	} {
		_, err := New(Options{Files: []string{write(t, "ok:"+good, line)}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "users:") {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is told: %v", err)
		}
	}
	if _, err := New(Options{Files: []string{"/nowhere/users"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := New(Options{Files: []string{t.TempDir()}}); err == nil {
		t.Error("a folder was read")
	}
	if n, bad := ParsePasswords("x", strings.NewReader(strings.Repeat("bad\n", 100))); n != 0 || len(bad) != maxProblems {
		t.Errorf("%d users, %d problems", n, len(bad))
	}
}

// TestReload: the file is read again when it changed, and what can't be read
// changes nothing.
func TestReload(t *testing.T) {
	a := open(t, "anna:"+cheapBcrypt(t, "one"))
	f := (*a.files.Load())[0]
	try := func(password string, ok bool) {
		t.Helper()
		f.mu.Lock()
		f.looked = time.Time{}
		f.mu.Unlock()
		if _, err := a.Check(t.Context(), nowhere, newLogin(plainName, "", "anna", password), nil); (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	try("one", true)
	put("anna:" + cheapBcrypt(t, "two"))
	try("two", true)
	try("one", false)
	put("anna:no hash\n")
	try("two", true)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	try("two", true)
	put("# nobody\n")
	try("two", false)
}

// TestSetFiles: a reload changes the files, or nothing.
func TestSetFiles(t *testing.T) {
	a, err := New(Options{})
	if err != nil || len(a.Offers(Mechanisms())) > 0 {
		t.Fatalf("without files: %v", err)
	}
	anna := newLogin(plainName, "", "anna", "secret")
	if _, err := check(t, a, anna); code(err) != 535 {
		t.Errorf("without files: %v", err)
	}
	if err := a.SetFiles([]string{write(t, "anna:"+cheapScram("secret"))}); err != nil {
		t.Fatal(err)
	}
	if err := a.SetFiles([]string{write(t, "anna:x")}); err == nil {
		t.Error("a bad file was taken")
	}
	if user, err := check(t, a, anna); user != "anna" || err != nil || len(a.Offers(Mechanisms())) != 3 {
		t.Errorf("%q, %v", user, err)
	}
}

// TestUnknownUsersCostTheSame: for a name that nobody has, always one and the
// same user's hash is computed.
func TestUnknownUsersCostTheSame(t *testing.T) {
	a := open(t, "a:"+cheapBcrypt(t, "x"), "b:"+cheapScram("x"), "c:"+cheapScram("y"))
	seen := map[secret]bool{}
	for i := range 50 {
		name := fmt.Sprint("nobody", i)
		s, known := a.find(name)
		again, _ := a.find(name)
		if known || s == nil {
			t.Fatalf("%s: %v, %v", name, s, known)
		}
		if one, ok := s.(*scramSecret); ok {
			if again != secret(one) {
				t.Errorf("%s: another hash the second time", name)
			}
			seen[one] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d of 2 entries stand in", len(seen))
	}
	if s, known := open(t).find("x"); s != nil || known {
		t.Error("an empty file has somebody")
	}
}

// TestGuessing: failures answer later and later, then a client is turned away,
// its /64 with it, and nobody else; in time it may try again.
func TestGuessing(t *testing.T) {
	a := open(t, "anna:"+cheapScram("right"))
	synctest.Test(t, func(t *testing.T) {
		ip := netip.MustParseAddr("2001:db8::1")
		try := func(ip netip.Addr, password string) (int, time.Duration) {
			start := time.Now()
			_, err := a.Check(t.Context(), ip, newLogin(plainName, "", "anna", password), nil)
			return code(err), time.Since(start)
		}
		for i, want := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second} {
			c, took := try(ip, "wrong")
			if c != 535 || took > want || took < want/2 {
				t.Errorf("failure %d: %d after %s, want %s", i+1, c, took, want)
			}
		}
		if c, took := try(ip, "right"); c != 0 || took != 0 {
			t.Errorf("the right one: %d after %s", c, took)
		}
		last := 0
		for range 30 {
			if last, _ = try(ip, "wrong"); last == 421 {
				break
			}
		}
		if last != 421 {
			t.Errorf("guessing goes on: %d", last)
		}
		if c, _ := try(netip.MustParseAddr("2001:db8::2"), "right"); c != 421 {
			t.Errorf("its neighbour in the /64: %d", c)
		}
		if c, _ := try(netip.MustParseAddr("2001:db8:0:1::1"), "right"); c != 0 {
			t.Errorf("somebody else: %d", c)
		}
		if c, _ := try(nowhere, "right"); c != 0 {
			t.Errorf("one without an address: %d", c)
		}
		time.Sleep(2 * forgetAfter)
		if c, _ := try(ip, "right"); c != 0 {
			t.Errorf("later: %d", c)
		}
	})
}

// TestGuessingAtOnce: tries under way count, so many connections gain nothing.
func TestGuessingAtOnce(t *testing.T) {
	var tr throttle
	ip := netip.MustParseAddr("192.0.2.1")
	let := 0
	for range 100 {
		if tr.enter(ip) {
			let++
		}
	}
	if let != maxStrikes {
		t.Errorf("%d let in at once", let)
	}
	for range let {
		tr.leave(ip, false)
	}
	if len(tr.clients) > 1 || !tr.enter(ip) {
		t.Errorf("%d clients kept", len(tr.clients))
	}
}

func TestThrottleIsBounded(t *testing.T) {
	var tr throttle
	for i := range maxClients + 1000 {
		ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		tr.enter(ip)
		tr.leave(ip, true)
	}
	if len(tr.clients) > maxClients {
		t.Errorf("%d clients are remembered", len(tr.clients))
	}
}

// TestHashingIsBounded: who can't have a turn hears 454, and the bound is given
// back.
func TestHashingIsBounded(t *testing.T) {
	a := open(t, "anna:"+cheapScram("right"))
	if err := a.work.Acquire(t.Context(), hashMemory); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := a.Check(ctx, nowhere, newLogin(plainName, "", "anna", "right"), nil); code(err) != 454 {
				t.Errorf("while all memory is taken: %v", err)
			}
		})
	}
	cancel()
	all.Wait()
	a.waiting.Store(maxWaiting)
	if _, err := a.Check(t.Context(), nowhere, newLogin(plainName, "", "anna", "right"), nil); code(err) != 454 {
		t.Errorf("behind a full queue: %v", err)
	}
	a.waiting.Store(0)
	a.work.Release(hashMemory)
	if user, err := a.Check(t.Context(), nowhere, newLogin(plainName, "", "anna", "right"), nil); user != "anna" || err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestSenders(t *testing.T) {
	at := func(s string) message.Address {
		a, _, err := message.ParsePath("<" + s + ">")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	own := OwnAddress(func(d string) bool { return d == "example.net" })
	listed, bad := ParseSenders("senders", strings.NewReader("# who may what\nanna anna@example.net @Example.org\nboss *\nanna News@example.net\n"))
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	for _, tc := range []struct {
		user, from  string
		own, listed bool
	}{
		{"anna", "", true, true},
		{"nobody", "", true, true},
		{"anna", "Anna@example.net", true, true},
		{"anna", "anna+list@example.net", true, false},
		{"anna", "anna@example.org", false, true},
		{"anna", "bert@example.net", false, false},
		{"anna@example.com", "anna@example.com", true, false},
		{"anna@example.com", "anna@example.net", false, false},
		{"anna", "news@example.net", false, true},
		{"boss", "any@where.example", false, true},
		{"", "x@example.net", false, false},
	} {
		if o, l := own(tc.user, at(tc.from)), listed(tc.user, at(tc.from)); o != tc.own || l != tc.listed {
			t.Errorf("%s as %s: own %v, listed %v", tc.user, tc.from, o, l)
		}
	}
	if _, bad := ParseSenders("s", strings.NewReader("anna\nanna x\nanna @\nanna <a@b>\n")); len(bad) != 4 {
		t.Errorf("problems %v", bad)
	}
}

func BenchmarkUnknownUser(b *testing.B) {
	a := open(b, "anna:"+cheapScram("right"))
	for b.Loop() {
		_, _ = a.verify(b.Context(), newLogin(plainName, "", "nobody", "x"))
	}
}
