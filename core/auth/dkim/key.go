package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/dns"
)

// Key is a key record (RFC 6376 section 3.6.1).
type Key struct {
	Type     string // k=: "rsa" or "ed25519"
	Public   crypto.PublicKey
	Bits     int
	Hashes   []string // h=; nil: any
	Services []string // s=; nil: any
	Notes    string   // n=
	Revoked  bool     // p= is empty
	Testing  bool     // t=y
	Strict   bool     // t=s: i= has no subdomain of d=
}

// What is wrong with a key record.
var (
	errNoKey    = errors.New("p= is missing")
	errVersion  = errors.New("v= is not the first tag, or not DKIM1")
	errKeyData  = errors.New("p= is no public key of its kind")
	errNoBase64 = errors.New("p= is not base64")
)

// ParseKey reads a key record. One that is revoked is no error.
func ParseKey(record string) (*Key, error) {
	tags, err := ParseTags(record)
	if err != nil {
		return nil, err
	}
	if v := tags.Find("v"); v != nil && (v != &tags[0] || v.Value != "DKIM1") {
		return nil, errVersion
	}
	k := &Key{Type: "rsa", Notes: tags.Get("n")}
	if tags.has("k") {
		k.Type = strings.ToLower(tags.Get("k"))
	}
	if tags.has("h") {
		k.Hashes = List(strings.ToLower(tags.Get("h")))
	}
	if tags.has("s") {
		k.Services = List(strings.ToLower(tags.Get("s")))
	}
	for _, flag := range List(tags.Get("t")) {
		k.Testing = k.Testing || flag == "y"
		k.Strict = k.Strict || flag == "s"
	}
	if k.Type != "rsa" && k.Type != "ed25519" {
		return nil, fmt.Errorf("k=%s is a kind of key that is not known", short(k.Type))
	}
	p := tags.Find("p")
	if p == nil {
		return nil, errNoKey
	}
	data, err := Decode64(p.Value)
	switch {
	case err != nil:
		return nil, errNoBase64
	case len(data) == 0:
		k.Revoked = true
		return k, nil
	case k.Type == "ed25519":
		if len(data) != ed25519.PublicKeySize {
			return nil, errKeyData
		}
		k.Public, k.Bits = ed25519.PublicKey(data), 256
		return k, nil
	}
	pub, err := parseRSA(data)
	if err != nil {
		return nil, err
	}
	k.Public, k.Bits = pub, pub.N.BitLen()
	return k, nil
}

// maxKeyData bounds what is parsed as a public key: more than 16,384 bits of one.
const maxKeyData = 4 << 10

// parseRSA reads a SubjectPublicKeyInfo, or the RSAPublicKey that RFC 6376 speaks of
// (RFC Errata 3017: both are used).
func parseRSA(data []byte) (*rsa.PublicKey, error) {
	if len(data) > maxKeyData {
		return nil, errKeyData
	}
	pub, err := x509.ParsePKIXPublicKey(data)
	if err != nil {
		pub, err = x509.ParsePKCS1PublicKey(data)
	}
	key, ok := pub.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, errKeyData
	}
	return key, nil
}

// Decode64 reads base64 that may be folded; the filling at its end may lack.
func Decode64(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(compact(s), "="))
}

// fits tells why the key can't be that of a signature by algorithm, "" where it can.
func (k *Key) fits(algorithm string) string {
	kind, hash, _ := strings.Cut(algorithm, "-")
	switch {
	case k.Revoked:
		return "the key is revoked"
	case k.Type != kind:
		return fmt.Sprintf("the key is of kind %s, the signature of kind %s", k.Type, kind)
	case k.Hashes != nil && !slices.Contains(k.Hashes, hash):
		return "the key is not for signatures with " + hash
	case k.Services != nil && !slices.Contains(k.Services, "*") && !slices.Contains(k.Services, "email"):
		return "the key is not for mail"
	}
	return ""
}

// verify tells whether sig is the key's signature of what has the SHA-256 sum digest.
func (k *Key) verify(digest, sig []byte) bool {
	switch pub := k.Public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest, sig) == nil
	case ed25519.PublicKey: // RFC 8463 section 3: of the hash, not of the text
		return ed25519.Verify(pub, digest, sig)
	}
	return false
}

// KeyName is where a key is published.
func KeyName(selector, domain string) string { return selector + "._domainkey." + domain }

// found is the answer to the question for a key.
type found struct {
	key    *Key
	record string
	word   Word // of every signature that needs it, "" where there is a key
	reason string
}

// findKey asks for a key. Of several records, which RFC 6376 section 3.6.2.2 leaves
// undefined, the first that can be read counts.
func findKey(ctx context.Context, r dns.Resolver, name string) found {
	records, err := r.LookupTXT(ctx, name)
	switch {
	case dns.IsNone(err):
		return found{word: PermError, reason: "there is no key at " + name}
	case err != nil && !dns.IsTemporary(err):
		return found{word: PermError, reason: "no key can be at " + short(name)}
	case err != nil:
		return found{word: TempError, reason: "the key can't be looked up now: " + err.Error()}
	}
	var f found
	for _, record := range records[:min(len(records), 10)] {
		key, err := ParseKey(record)
		if err == nil {
			return found{key: key, record: record}
		}
		if f.word == "" {
			f = found{record: record, word: PermError, reason: "the key record is wrong: " + err.Error()}
		}
	}
	return f
}
