// Package srs rewrites the senders of forwarded mail by the Sender Rewriting
// Scheme, so that SPF passes at the next hop and bounces find their way back.
//
// A sender user@example.org becomes SRS0=HASH=DAY=example.org=user@gw.example, and
// one that another forwarder made already SRS1=HASH=there.example==…@gw.example,
// which leads straight back to that forwarder. The hash is the begin of an
// HMAC-SHA1 over what follows it, so that nobody else can make such addresses, and
// the day bounds how long they count. Letter case does not count. What is made
// here is understood by libsrs2, postsrsd and others with the same secret.
package srs

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// DefaultMaxAge is how long an address counts, as others have it too.
const DefaultMaxAge = 21 * 24 * time.Hour

const (
	day       = 24 * time.Hour
	days      = 1 << 10 // that a day stamp tells apart
	hashChars = 4
	maxLocal  = 4 << 10 // of an address that is read
)

// What is wrong with an address. The texts are fit to be sent to a client.
var (
	ErrNotSRS    = errors.New("it is no address of the Sender Rewriting Scheme")
	ErrForged    = errors.New("its hash is not one of ours")
	ErrExpired   = errors.New("it has expired")
	ErrNoDay     = errors.New("it has no day stamp")
	ErrNoHost    = errors.New("it has no host")
	ErrNoUser    = errors.New("it has no user")
	ErrNoSender  = errors.New("a sender without a domain can't be rewritten")
	ErrTooLong   = fmt.Errorf("rewritten, the local part would have more than %d bytes", message.MaxLocal)
	ErrNoSecrets = errors.New("there is no secret")
)

// Options of New.
type Options struct {
	Domain string // of rewritten addresses, in lower case
	// Secrets: the first makes hashes, all are good in a check, so that one can follow
	// another.
	Secrets []string
	MaxAge  time.Duration // whole days are counted; 0: DefaultMaxAge
	// Base64 has hashes hold + and / as RFC 4648 section 4 has it, and as postsrsd 1
	// wants it; else - and _ stand in their place. Both are good in a check.
	Base64 bool
}

// Rewriter makes and reads addresses. It is safe for concurrent use.
type Rewriter struct {
	o      Options
	maxAge int64 // days
	code   *base64.Encoding
}

// New makes a rewriter.
func New(o Options) (*Rewriter, error) {
	if len(o.Secrets) == 0 {
		return nil, ErrNoSecrets
	}
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	r := &Rewriter{o: o, maxAge: int64(o.MaxAge / day), code: base64.RawURLEncoding}
	if o.MaxAge >= days*day/2 {
		return nil, fmt.Errorf("an age of over %d days can't be told from a younger one", days/2)
	}
	if o.Base64 {
		r.code = base64.RawStdEncoding
	}
	return r, nil
}

// Domain is that of rewritten addresses.
func (r *Rewriter) Domain() string { return r.o.Domain }

// Is tells whether a local part is one of an address of the scheme, good or not.
func Is(local string) bool {
	form, _ := split(local)
	return form != ""
}

// split takes the form, "SRS0" or "SRS1", from a local part, and gives what
// stands behind it, its separator first.
func split(local string) (form, rest string) {
	if len(local) < 6 || strings.IndexByte("=+-", local[4]) < 0 {
		return "", ""
	}
	if form = strings.ToUpper(local[:4]); form != "SRS0" && form != "SRS1" {
		return "", ""
	}
	return form, local[4:]
}

// Forward is the sender that forwarded mail from a goes on with. The null path
// stays, and so does an address of ours that was rewritten already.
func (r *Rewriter) Forward(a message.Address, now time.Time) (message.Address, error) {
	switch {
	case a.IsNull() || a.Domain == r.o.Domain && Is(a.Local):
		return a, nil
	case a.Local == "" || a.Domain == "":
		return a, ErrNoSender
	}
	form, rest := split(a.Local)
	if form == "SRS1" {
		// SRS1=hash=first=opaque, where opaque begins with a separator of its own.
		if p := strings.SplitN(rest[1:], "=", 3); len(p) == 3 && p[1] != "" && len(p[2]) > 1 && strings.IndexByte("=+-", p[2][0]) >= 0 {
			return r.made("SRS1=" + r.hash(0, p[1], p[2]) + "=" + p[1] + "=" + p[2])
		}
	}
	if form == "SRS0" {
		return r.made("SRS1=" + r.hash(0, a.Domain, rest) + "=" + a.Domain + "=" + rest)
	}
	stamp := stampOf(now)
	return r.made("SRS0=" + r.hash(0, stamp, a.Domain, a.Local) + "=" + stamp + "=" + a.Domain + "=" + a.Local)
}

func (r *Rewriter) made(local string) (message.Address, error) {
	if len(local) > message.MaxLocal {
		return message.Address{}, ErrTooLong
	}
	return message.Address{Local: local, Domain: r.o.Domain}, nil
}

// Parts are what a rewritten address says.
type Parts struct {
	Form   string // "SRS0" or "SRS1"
	Hash   string
	Stamp  string    // SRS0: the two characters of the day
	Made   time.Time // SRS0: that day, the youngest it can be
	Host   string    // SRS0: of the sender; SRS1: of the first forwarder
	User   string    // SRS0: of the sender; SRS1: what stands behind SRS0 there
	Secret int       // whose hash it is, from 0; -1: nobody's
}

// Reverse is whom a bounce to a rewritten address is for. The domain of a is not
// looked at. The error is one of this package's; what comes back is as long and as
// odd as what was signed, so check it with message.ParseAddress before use.
func (r *Rewriter) Reverse(a message.Address, now time.Time) (message.Address, error) {
	p, err := r.Inspect(a.Local, now)
	if err != nil {
		return message.Address{}, err
	}
	if p.Form == "SRS1" {
		return message.Address{Local: "SRS0" + p.User, Domain: strings.ToLower(p.Host)}, nil
	}
	return message.Address{Local: p.User, Domain: strings.ToLower(p.Host)}, nil
}

// Inspect reads and checks a local part: nil where Reverse takes it. The parts
// are filled in as far as they can be read.
func (r *Rewriter) Inspect(local string, now time.Time) (p Parts, err error) {
	p.Secret = -1
	var rest string
	if p.Form, rest = split(local); p.Form == "" || len(local) > maxLocal {
		return p, ErrNotSRS
	}
	var signed []string
	if p.Form == "SRS0" {
		err = p.read(rest[1:], &p.Hash, &p.Stamp, &p.Host, &p.User)
		signed = []string{p.Stamp, p.Host, p.User}
	} else {
		if err = p.read(rest[1:], &p.Hash, &p.Host, &p.User); err == nil && (len(p.User) < 2 || strings.IndexByte("=+-", p.User[0]) < 0) {
			err = ErrNoUser
		}
		signed = []string{p.Host, p.User}
	}
	if err != nil {
		return p, err
	}
	given := strings.ToLower(plain.Replace(p.Hash))
	for i := range r.o.Secrets {
		want := strings.ToLower(plain.Replace(r.hash(i, signed...)))
		if p.Secret < 0 && hmac.Equal([]byte(given), []byte(want)) {
			p.Secret = i
		}
	}
	if p.Secret < 0 {
		return p, ErrForged
	}
	if p.Form == "SRS1" {
		return p, nil // its age is for the first forwarder to judge
	}
	age, err := ageOf(p.Stamp, now)
	if err != nil {
		return p, err
	}
	p.Made = now.UTC().Truncate(day).Add(-time.Duration(age) * day)
	if age > r.maxAge {
		return p, ErrExpired
	}
	return p, nil
}

// plain makes one alphabet of two.
var plain = strings.NewReplacer("-", "+", "_", "/")

// read takes the fields of an address apart; the last one may hold separators.
func (p *Parts) read(rest string, fields ...*string) error {
	missing := []error{ErrNoDay, ErrNoHost, ErrNoUser}
	missing = missing[len(missing)-(len(fields)-1):]
	parts := strings.SplitN(rest, "=", len(fields))
	for i, f := range fields {
		if i < len(parts) {
			*f = parts[i]
		}
		if i > 0 && *f == "" {
			return missing[i-1]
		}
	}
	return nil
}

// hash is over fields in lower case; the texts go into it one behind another.
func (r *Rewriter) hash(secret int, fields ...string) string {
	h := hmac.New(sha1.New, []byte(r.o.Secrets[secret]))
	for _, f := range fields {
		h.Write([]byte(lower(f)))
	}
	return r.code.EncodeToString(h.Sum(nil))[:hashChars]
}

// lower is for ASCII alone, as others have it.
func lower(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, s)
}

const stampChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// stampOf is the day, modulo 1024.
func stampOf(now time.Time) string {
	d := dayOf(now) % days
	return string([]byte{stampChars[d>>5], stampChars[d&31]})
}

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// ageOf is how many days a stamp is old, at the least. A clock that goes a little
// wrong, here or at another node that signs with the same secret, may put it a day
// ahead.
func ageOf(stamp string, now time.Time) (int64, error) {
	if len(stamp) != 2 {
		return 0, ErrNoDay
	}
	hi, lo := strings.IndexByte(stampChars, upper(stamp[0])), strings.IndexByte(stampChars, upper(stamp[1]))
	if hi < 0 || lo < 0 {
		return 0, ErrNoDay
	}
	age := (dayOf(now) - int64(hi<<5|lo)) % days
	if age < 0 {
		age += days
	}
	if age == days-1 {
		age = -1
	}
	return age, nil
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
