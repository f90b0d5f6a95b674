package dkim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

func signWith(t *testing.T, k *Keyring, m, sender string, now time.Time) string {
	t.Helper()
	from, err := message.ParseSender(sender)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := k.Sign(message.Bytes(m), from, now)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(fields), "\r\n") {
		if len(line) > 78 {
			t.Errorf("a line of %d: %s", len(line), line)
		}
	}
	return string(fields)
}

func ring() *Keyring {
	k := testKeys()
	return NewKeyring([]*SigningKey{
		{Domain: "example.org", Selector: "rsa", Private: k.rsa, Expire: 24 * time.Hour},
		{Domain: "example.org", Selector: "ed", Private: k.ed},
		{Domain: "example.org", Selector: "big", Private: k.big, From: at.Add(time.Hour)},
		{Domain: "mail.example.net", Selector: "x", Private: k.ed, Until: at},
	})
}

func TestSign(t *testing.T) {
	fields := signWith(t, ring(), letter, "", at)
	r := check(t, nil, fields+letter)
	if words(r) != "pass pass" || r.Results[0].Selector != "rsa" || r.Results[1].Selector != "ed" || r.Results[0].Expires.Sub(at) != 24*time.Hour || !r.Results[0].Signed.Equal(at) {
		t.Errorf("%+v", r)
	}
	// Fields that count cannot be added; others can.
	for add, want := range map[string]string{
		"Received: x\r\n": "pass pass", "X-Spam: no\r\n": "pass pass", "List-Id: <l.example.org>\r\n": "pass pass", "Sender: x@example.org\r\n": "pass pass",
		"From: x@example.com\r\n": "fail fail", "Subject: other\r\n": "fail fail", "Reply-To: x@example.com\r\n": "fail fail", "Cc: x@example.com\r\n": "fail fail",
		"Content-Type: text/html\r\n": "fail fail", "Date: today\r\n": "fail fail",
	} {
		if got := words(check(t, nil, add+fields+letter)); got != want {
			t.Errorf("%s: %s", add, got)
		}
	}
	if got := words(check(t, nil, fields+letter+"more\r\n")); got != "fail fail" {
		t.Error(got)
	}
	// Lists of many names, and messages of every form.
	many := strings.Repeat("To: a@example.org\r\n", 200) + letter
	if got := words(check(t, nil, signWith(t, ring(), many, "", at)+many)); got != "pass pass" {
		t.Error(got)
	}
	for _, m := range []string{"From: a@example.org\r\n", "From: a@example.org", "From: a@example.org\r\n\r\n", "From: a@example.org\r\n\r\nx\r\ny", "From: =?utf-8?q?=C3=A4?= <a@EXAMPLE.org>\r\n\r\n\r\n"} {
		fields := signWith(t, ring(), m, "", at)
		if got := words(check(t, nil, fields+m)); got != "pass pass" {
			t.Errorf("%q: %s", m, got)
		}
	}
}

func TestWhoSigns(t *testing.T) {
	for _, test := range []struct {
		from, sender string
		now          time.Time
		want         string
	}{
		{"From: a@example.org", "", at, "rsa ed"},
		{"From: a@Sub.Example.ORG", "", at, "rsa ed"}, // DMARC's relaxed alignment
		{"From: a@example.org", "", at.Add(time.Hour), "rsa ed big"},
		{"From: a@badexample.org", "", at, ""},
		{"From: a@mail.example.net", "", at.Add(-time.Second), "x"},
		{"From: a@mail.example.net", "", at, ""},
		{"From: a@example.com", "bounce@example.org", at, "rsa ed"},
		{"From: a@example.com", "bounce@example.com", at, ""},
		{"From: a@example.org, b@example.org", "", at, ""},
		{"From: a@example.org\r\nFrom: b@example.org", "b@example.org", at, ""},
		{"From: nobody", "", at, ""},
		{"Subject: x", "", at, ""},
	} {
		m := test.from + "\r\n\r\nx\r\n"
		fields := signWith(t, ring(), m, test.sender, test.now)
		var got []string
		opened, _ := Open(message.Bytes(fields + m))
		for f := range opened.Named("dkim-signature") {
			s, fault := parseSignature(f)
			if fault != nil {
				t.Fatal(fault)
			}
			got = append(got, s.Selector)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s by %s: %v; want %s", test.from, test.sender, got, test.want)
		}
	}
	var none *Keyring
	if fields, err := none.Sign(message.Bytes(letter), message.Address{}, at); fields != nil || err != nil {
		t.Error(fields, err)
	}
}

func TestChosenHeaders(t *testing.T) {
	k := NewKeyring([]*SigningKey{{Domain: "example.org", Selector: "ed", Private: testKeys().ed, Headers: []string{"subject", "x-own"}}})
	r := check(t, nil, signWith(t, k, letter, "", at)+letter)
	if got := strings.Join(r.Results[0].Fields, " "); got != "from from subject subject" || r.Word() != Pass {
		t.Error(got, r)
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"rsa", "ed25519"} {
		key, err := GenerateKey(kind, 2048)
		if err != nil {
			t.Fatal(err)
		}
		data, err := EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadKey(write(kind, data, 0o600))
		if err != nil {
			t.Fatal(err)
		}
		public, err := ParseKey(record(t, key))
		if err != nil || !public.SameKey(loaded) || public.SameKey(testKeys().ed) || public.SameKey(testKeys().rsa) {
			t.Errorf("%s: %v %v", kind, public, err)
		}
		if _, err := LoadKey(write(kind+"-group", data, 0o640)); err != nil {
			t.Error(err)
		}
		for _, mode := range []os.FileMode{0o644, 0o620, 0o666, 0o601} {
			if _, err := LoadKey(write(kind+"-open", data, mode)); !errors.Is(err, ErrOpen) {
				t.Errorf("%o: %v", mode, err)
			}
		}
	}
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(short)})
	if _, err := LoadKey(write("old", old, 0o600)); err != nil {
		t.Error(err)
	}
	if _, err := LoadKey(write("empty", nil, 0o600)); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if _, err := LoadKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := LoadKey(dir); err == nil {
		t.Error("a folder")
	}
	for _, bits := range []int{512, 1023, 100_000} {
		if _, err := GenerateKey("rsa", bits); err == nil {
			t.Error(bits)
		}
	}
	if _, err := GenerateKey("dsa", 0); err == nil {
		t.Error("dsa")
	}
}
