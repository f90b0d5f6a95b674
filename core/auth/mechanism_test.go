package auth

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// TestScramExample: the exchange of RFC 7677 section 3.
func TestScramExample(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	stored, server := scramKeys([]byte("pencil"), salt, 4096)
	s := &scramSecret{4096, salt, stored, server}
	nonce := "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	m := &scram{
		secret: s, known: true, user: "user", gs2: "n,,", nonce: nonce,
		text: "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
	}
	got, l, err := m.Next([]byte("c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if string(got) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" || l != nil || err != nil {
		t.Fatalf("%q %v %v", got, l, err)
	}
	if _, l, err = m.Next([]byte{}); err != nil || !l.proven || l.User != "user" {
		t.Errorf("%+v %v", l, err)
	}
}

// scramClient is the other side, by the letter of RFC 5802 section 3.
func scramClient(t *testing.T, e Exchange, gs2, user, password string) *Login {
	t.Helper()
	bare := "n=" + user + ",r=clientnonce"
	challenge, l, err := e.Next([]byte(gs2 + bare))
	if err != nil || l != nil {
		t.Fatalf("client-first: %v %v", l, err)
	}
	fields := strings.Split(string(challenge), ",")
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	if err != nil || !strings.HasPrefix(fields[0], "r=clientnonce") || fields[2] != "i=1000" || len(salt) != 16 {
		t.Fatalf("server-first %q: %v", challenge, err)
	}
	salted := scramSalted(t, password, salt)
	key := mac(salted, []byte("Client Key"))
	stored, _ := scramKeys([]byte(password), salt, 1000)
	last := "c=" + base64.StdEncoding.EncodeToString([]byte(gs2)) + "," + fields[0]
	text := bare + "," + string(challenge) + "," + last
	for i, b := range mac(stored, []byte(text)) {
		key[i] ^= b
	}
	challenge, l, err = e.Next([]byte(last + ",p=" + base64.StdEncoding.EncodeToString(key)))
	if err != nil {
		t.Fatal(err)
	}
	if l != nil {
		return l
	}
	if want := "v=" + base64.StdEncoding.EncodeToString(mac(mac(salted, []byte("Server Key")), []byte(text))); string(challenge) != want {
		t.Errorf("server-final %q, want %q", challenge, want)
	}
	if _, l, err = e.Next([]byte{}); err != nil {
		t.Fatal(err)
	}
	return l
}

func scramSalted(t *testing.T, password string, salt []byte) []byte {
	t.Helper()
	salted, err := pbkdf2Key(password, salt)
	if err != nil {
		t.Fatal(err)
	}
	return salted
}

func TestScram(t *testing.T) {
	a := open(t, "sam:"+cheapScram("right"), "a,b=c:"+cheapScram("right"), "bea:"+cheapBcrypt(t, "right"))
	for _, tc := range []struct {
		gs2, user, password string
		ok                  bool
	}{
		{"n,,", "sam", "right", true},
		{"y,,", "sam", "right", true},
		{"n,a=sam,", "sam", "right", true},
		{"n,,", "a=2Cb=3Dc", "right", true},
		{"n,,", "sam", "wrong", false},
		{"n,,", "nobody", "right", false},
		{"n,a=boss,", "sam", "right", false},
		{"n,,", "bea", "right", false}, // has no entry for SCRAM
	} {
		l := scramClient(t, a.Begin(scramName), tc.gs2, tc.user, tc.password)
		user, err := check(t, a, l)
		if (err == nil) != tc.ok || tc.ok && strings.ReplaceAll(strings.ReplaceAll(tc.user, "=2C", ","), "=3D", "=") != user || !tc.ok && code(err) != 535 {
			t.Errorf("%+v: %q, %v", tc, user, err)
		}
	}
	salt := func() string {
		c, _, _ := a.Begin(scramName).Next([]byte("n,,n=nobody,r=x"))
		return strings.Split(string(c), ",")[1]
	}
	if first := salt(); salt() != first {
		t.Error("an unknown user's salt changes")
	}
}

// TestMalformedExchanges: what is no response ends the exchange with 501 (RFC
// 4954 section 4) and reaches no back-end.
func TestMalformedExchanges(t *testing.T) {
	a := open(t, "sam:"+cheapScram("right"))
	long := strings.Repeat("x", MaxResponse+1)
	for mechanism, responses := range map[string][]string{
		plainName: {"", "sam", "\x00sam", "\x00\x00right", "\x00sam\x00", "\x00sam\x00right\x00", "a\x00b\x00c\x00d", "\x00sam\x00" + long},
		loginName: {"", "sa\x00m", long},
		scramName: {
			"", "n", "n,", "p=tls-unique,,n=sam,r=x", "x,,n=sam,r=x", "n,b,n=sam,r=x", "n,,m=x,n=sam,r=x", "n,,n=sam", "n,,n=sam,r=", "n,,n=,r=x", "n,,r=x,n=sam",
			"n,,n=s=am,r=x", "n,,n=sam,r=a b", "n,,n=sam,r=" + strings.Repeat("x", maxNonce), "n,,n=sa\x00m,r=x", long,
		},
	} {
		for _, r := range responses {
			if _, l, err := a.Begin(mechanism).Next([]byte(r)); l != nil || code(err) != 501 {
				t.Errorf("%s %q: %v, %v", mechanism, r, l, err)
			}
		}
	}
	for _, last := range []string{"", "c=biws", "c=biws,r=x", "p=x", "c=biws,r=x,p=!!", ",p=AAAA"} {
		e := a.Begin(scramName)
		if _, _, err := e.Next([]byte("n,,n=sam,r=x")); err != nil {
			t.Fatal(err)
		}
		if _, l, err := e.Next([]byte(last)); l != nil || code(err) != 501 {
			t.Errorf("client-final %q: %v, %v", last, l, err)
		}
	}
	e := a.Begin(scramName)
	c, _, _ := e.Next([]byte("n,,n=sam,r=x"))
	nonce, _, _ := strings.Cut(string(c), ",")
	for _, last := range []string{"c=eSws," + nonce + ",p=AAAA", "c=biws,r=other,p=AAAA"} {
		e.(*scram).login = nil
		if _, l, err := e.Next([]byte(last)); err != nil || l.proven {
			t.Errorf("client-final %q: %v, %v", last, l, err)
		}
	}
}

// TestPlain: to act as another is nobody's right (RFC 4616 section 2).
func TestPlain(t *testing.T) {
	a := open(t, "sam:"+cheapScram("right"))
	for r, ok := range map[string]bool{"\x00sam\x00right": true, "sam\x00sam\x00right": true, "boss\x00sam\x00right": false, "\x00sam\x00wrong": false, "\x00sa:m\x00right": false} {
		_, l, err := a.Begin(plainName).Next([]byte(r))
		if err != nil {
			t.Fatal(err)
		}
		if user, err := check(t, a, l); (err == nil) != ok || (user == "sam") != ok {
			t.Errorf("%q: %q %v", r, user, err)
		}
	}
}

func TestLogin(t *testing.T) {
	a := open(t, "sam:"+cheapScram("right"))
	for _, initial := range []bool{false, true} {
		e := a.Begin(loginName)
		if !initial {
			if c, _, err := e.Next(nil); string(c) != "Username:" || err != nil {
				t.Errorf("%q %v", c, err)
			}
		}
		if c, _, err := e.Next([]byte("sam")); string(c) != "Password:" || err != nil {
			t.Errorf("%q %v", c, err)
		}
		_, l, err := e.Next([]byte("right"))
		if err != nil || l.User != "sam" || l.Password != "right" {
			t.Errorf("%+v %v", l, err)
		}
	}
}

func TestOffers(t *testing.T) {
	none := open(t, "bea:"+cheapBcrypt(t, "x"))
	if got := none.Offers(Mechanisms()); !slices.Equal(got, []string{"PLAIN", "LOGIN"}) || none.Begin("GSSAPI") != nil {
		t.Errorf("without an entry for SCRAM: %v", got)
	}
	all := open(t, "sam:"+cheapScram("x"))
	if got := all.Offers(Mechanisms()); !slices.Equal(got, []string{"SCRAM-SHA-256", "PLAIN", "LOGIN"}) {
		t.Errorf("offers %v", got)
	}
	if got := all.Offers([]string{"LOGIN", "SCRAM-SHA-256"}); !slices.Equal(got, []string{"SCRAM-SHA-256", "LOGIN"}) {
		t.Errorf("offers %v", got)
	}
}
