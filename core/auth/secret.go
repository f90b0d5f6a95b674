package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/secure/precis"
)

// secret is what is stored of a password.
type secret interface {
	// verify compares in a time that does not depend on the password.
	verify(password []byte) bool
	// memory is how many bytes verify holds.
	memory() int64
}

// Bounds of what a stored hash may ask of us, so that a line of the file can't
// stop the server.
const (
	maxBcryptCost   = 16
	maxArgonMemory  = hashMemory >> 10 // KiB
	maxArgonTime    = 64
	maxArgonThreads = 64
	maxIterations   = 5_000_000
	maxPassword     = 1024 // octets
)

const schemes = "write a bcrypt ($2y$…), argon2id ($argon2id$v=19$…) or SCRAM ($scram-sha-256$…) hash, as `postern passwd` makes them"

// parseSecret reads a stored hash.
func parseSecret(s string) (secret, error) {
	switch {
	case strings.HasPrefix(s, "$2a$"), strings.HasPrefix(s, "$2b$"), strings.HasPrefix(s, "$2y$"):
		return parseBcrypt(s)
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon(s)
	case strings.HasPrefix(s, scramPrefix):
		return parseScram(strings.Split(s[len(scramPrefix):], "$"))
	case strings.HasPrefix(s, "SCRAM-SHA-256$"): // RFC 5803
		parts := strings.FieldsFunc(s[len("SCRAM-SHA-256$"):], func(r rune) bool { return r == '$' || r == ':' })
		return parseScram(parts)
	case strings.HasPrefix(s, "$"):
		scheme, _, _ := strings.Cut(s[1:], "$")
		return nil, fmt.Errorf("the scheme %q is not supported; %s", clip(scheme), schemes)
	}
	return nil, errors.New("not a hash; " + schemes) // what stands there may be a password: it is not shown
}

func clip(s string) string { return s[:min(len(s), 20)] }

type bcryptSecret []byte

func parseBcrypt(s string) (secret, error) {
	cost, err := bcrypt.Cost([]byte(s))
	switch {
	case err != nil || len(s) != 60:
		return nil, errors.New("a bcrypt hash that is cut or damaged; write all 60 characters of it")
	case cost > maxBcryptCost:
		return nil, fmt.Errorf("a bcrypt cost of %d would keep the server busy for seconds at each login; write a hash of at most %d", cost, maxBcryptCost)
	}
	return bcryptSecret(s), nil
}

// verify: bcrypt knows the first 72 octets of a password and no NUL.
func (s bcryptSecret) verify(password []byte) bool {
	return bcrypt.CompareHashAndPassword(s, password[:min(len(password), 72)]) == nil
}

func (bcryptSecret) memory() int64 { return 8 << 10 }

type argonSecret struct {
	kib, time  uint32
	threads    uint8
	salt, hash []byte
}

var errArgon = errors.New("an argon2id hash that is damaged; write it as $argon2id$v=19$m=65536,t=3,p=1$SALT$HASH")

// parseArgon reads the PHC string form.
func parseArgon(s string) (secret, error) {
	parts := strings.Split(s, "$") // "", argon2id, v=19, m=…, salt, hash
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errArgon
	}
	var n [3]uint64
	fields := strings.Split(parts[3], ",")
	if len(fields) != len(n) {
		return nil, errArgon
	}
	for i, f := range fields {
		digits, ok := strings.CutPrefix(f, [...]string{"m=", "t=", "p="}[i])
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			return nil, errArgon
		}
		n[i] = v
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	hash, err2 := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	switch {
	case err1 != nil, err2 != nil, len(salt) < 8, len(salt) > 64, len(hash) < 16, len(hash) > 64, n[1] == 0, n[2] == 0, n[0] < 8*n[2]:
		return nil, errArgon
	case n[0] > maxArgonMemory, n[1] > maxArgonTime, n[2] > maxArgonThreads:
		return nil, fmt.Errorf("an argon2id hash with m=%d,t=%d,p=%d would ask too much of the server at each login; write one of at most m=%d,t=%d,p=%d", n[0], n[1], n[2], maxArgonMemory, maxArgonTime, maxArgonThreads)
	}
	return &argonSecret{uint32(n[0]), uint32(n[1]), uint8(n[2]), salt, hash}, nil
}

func (s *argonSecret) verify(password []byte) bool {
	got := argon2.IDKey(password, s.salt, s.time, s.kib, s.threads, uint32(len(s.hash)))
	return subtle.ConstantTimeCompare(got, s.hash) == 1
}

func (s *argonSecret) memory() int64 { return int64(s.kib) << 10 }

// scramPrefix begins a SCRAM entry: $scram-sha-256$ITERATIONS$SALT$STOREDKEY$SERVERKEY,
// the last three in base64, named as in RFC 5802 section 3.
const scramPrefix = "$scram-sha-256$"

type scramSecret struct {
	iterations        int
	salt              []byte
	storedKey, server []byte
}

func parseScram(parts []string) (secret, error) {
	bad := errors.New("a SCRAM entry that is damaged; write it as $scram-sha-256$ITERATIONS$SALT$STOREDKEY$SERVERKEY")
	if len(parts) != 4 {
		return nil, bad
	}
	n, err := strconv.Atoi(parts[0])
	var raw [3][]byte
	for i, p := range parts[1:] {
		b, e := base64.StdEncoding.Strict().DecodeString(p)
		raw[i], err = b, errors.Join(err, e)
	}
	switch {
	case err != nil, n < 1, len(raw[0]) < 8, len(raw[0]) > 64, len(raw[1]) != sha256.Size, len(raw[2]) != sha256.Size:
		return nil, bad
	case n > maxIterations:
		return nil, fmt.Errorf("a SCRAM entry of %d iterations would keep the server busy at each login; write at most %d", n, maxIterations)
	}
	return &scramSecret{n, raw[0], raw[1], raw[2]}, nil
}

// scramKeys are the StoredKey and ServerKey of a password (RFC 5802 section 3).
func scramKeys(password, salt []byte, iterations int) (stored, server []byte) {
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		salted = make([]byte, sha256.Size) // not reached with SHA-256 and 32 octets; no password has this key
	}
	client := sha256.Sum256(mac(salted, []byte("Client Key")))
	return client[:], mac(salted, []byte("Server Key"))
}

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

func (s *scramSecret) verify(password []byte) bool {
	stored, _ := scramKeys(password, s.salt, s.iterations)
	return subtle.ConstantTimeCompare(stored, s.storedKey) == 1
}

func (*scramSecret) memory() int64 { return 4 << 10 }

// proves tells whether a client's proof fits an exchange (RFC 5802 section 3).
func (s *scramSecret) proves(proof, authMessage []byte) bool {
	signature := mac(s.storedKey, authMessage)
	if len(proof) != len(signature) {
		return false
	}
	key := make([]byte, len(proof))
	subtle.XORBytes(key, proof, signature)
	stored := sha256.Sum256(key)
	return subtle.ConstantTimeCompare(stored[:], s.storedKey) == 1
}

// prepare brings a password to the form that it was hashed in (RFC 8265 section
// 4, the successor of SASLprep). false: no password can be that; the octets are
// returned all the same, so that they cost what others do.
func prepare(s string) ([]byte, bool) {
	if s == "" || len(s) > maxPassword || strings.IndexByte(s, 0) >= 0 {
		return []byte(s[:min(len(s), maxPassword)]), false
	}
	if isPrintable(s) {
		return []byte(s), true
	}
	p, err := precis.OpaqueString.Bytes([]byte(s))
	if err != nil {
		return []byte(s), false
	}
	return p, true
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Schemes are the names that Hash takes, the one to prefer first.
func Schemes() []string { return []string{"argon2id", "bcrypt", "scram-sha-256"} }

// Cost of what Hash makes: RFC 9106 section 4, the second choice, with one lane;
// OWASP's figure for PBKDF2 is 600,000, RFC 7677's least 4,096: SCRAM makes the
// clients do it, small ones too.
const (
	newArgonMemory = 64 << 10 // KiB
	newArgonTime   = 3
	newBcryptCost  = 12
	newIterations  = 100_000
)

// Hash makes what stands behind the colon of a password file.
func Hash(scheme, password string) (string, error) {
	p, ok := prepare(password)
	if !ok {
		return "", fmt.Errorf("auth: a password has 1 to %d octets and no control characters", maxPassword)
	}
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	b64, raw := base64.StdEncoding.EncodeToString, base64.RawStdEncoding.EncodeToString
	switch scheme {
	case "argon2id":
		h := argon2.IDKey(p, salt[:], newArgonTime, newArgonMemory, 1, 32)
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", newArgonMemory, newArgonTime, raw(salt[:]), raw(h)), nil
	case "bcrypt":
		if len(p) > 72 {
			return "", errors.New("auth: bcrypt takes at most 72 octets of a password; take argon2id")
		}
		h, err := bcrypt.GenerateFromPassword(p, newBcryptCost)
		if err != nil {
			return "", fmt.Errorf("auth: bcrypt: %w", err)
		}
		return string(bytes.Replace(h, []byte("$2a$"), []byte("$2y$"), 1)), nil
	case "scram-sha-256":
		stored, server := scramKeys(p, salt[:], newIterations)
		return fmt.Sprintf("%s%d$%s$%s$%s", scramPrefix, newIterations, b64(salt[:]), b64(stored), b64(server)), nil
	}
	return "", fmt.Errorf("auth: unknown scheme %q; there are %s", scheme, strings.Join(Schemes(), ", "))
}
