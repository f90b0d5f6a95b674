// Package batv tags the senders of our own mail by Bounce Address Tag Validation
// (draft-levine-smtp-batv, method prvs), so that a bounce of mail that we never
// sent can be told from one of mail that we did.
//
// A sender user@example.net becomes prvs=KDDDSSSSSS=user@example.net: the number of
// the key, the last three digits of the day until which the tag counts, and the
// begin of an HMAC-SHA1 over these and the address.
package batv

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// DefaultMaxAge is how long a tag counts, as the draft has it.
const DefaultMaxAge = 7 * 24 * time.Hour

const (
	day    = 24 * time.Hour
	days   = 1000 // that a tag tells apart
	prefix = "prvs="
	tagLen = 1 + 3 + 6
)

// What is wrong with an address. The texts are fit to be sent to a client.
var (
	ErrNoTag   = errors.New("it has no tag")
	ErrForged  = errors.New("its tag is not one of ours")
	ErrExpired = errors.New("its tag has expired")
	ErrTooLong = fmt.Errorf("tagged, the local part would have more than %d bytes", message.MaxLocal)
	ErrSender  = errors.New("a sender without a domain can't be tagged")
	ErrNoKeys  = errors.New("there is no key")
)

// Key is a secret and the number that tags name it by.
type Key struct {
	ID     int // 0 to 9
	Secret string
}

// Tagger makes and checks tags. It is safe for concurrent use.
type Tagger struct {
	keys   []Key
	maxAge int64 // days
}

// New makes a tagger. The first key makes tags, all are good in a check, so that
// one can follow another. maxAge is counted in whole days; 0: DefaultMaxAge.
func New(keys []Key, maxAge time.Duration) (*Tagger, error) {
	if len(keys) == 0 {
		return nil, ErrNoKeys
	}
	for i, k := range keys {
		if k.ID < 0 || k.ID > 9 {
			return nil, fmt.Errorf("a key's number is a digit, not %d", k.ID)
		}
		for _, other := range keys[:i] {
			if other.ID == k.ID {
				return nil, fmt.Errorf("two keys have the number %d", k.ID)
			}
		}
	}
	if maxAge <= 0 {
		maxAge = DefaultMaxAge
	}
	if maxAge < day || maxAge >= days*day/2 {
		return nil, fmt.Errorf("tags count for 1 to %d days", days/2-1)
	}
	return &Tagger{keys: keys, maxAge: int64(maxAge / day)}, nil
}

// split takes a tag from a local part.
func split(local string) (tag, user string, ok bool) {
	if len(local) <= len(prefix)+tagLen+1 || !strings.EqualFold(local[:len(prefix)], prefix) || local[len(prefix)+tagLen] != '=' {
		return "", "", false
	}
	tag, user = local[len(prefix):len(prefix)+tagLen], local[len(prefix)+tagLen+1:]
	for i := range tag {
		c := tag[i] | 0x20
		if !(tag[i] >= '0' && tag[i] <= '9' || i >= 4 && c >= 'a' && c <= 'f') {
			return "", "", false
		}
	}
	return tag, user, true
}

// Is tells whether a local part has a tag, good or not.
func Is(local string) bool {
	_, _, ok := split(local)
	return ok
}

// Untagged is a without its tag, whatever that is worth; a itself where it has none.
func Untagged(a message.Address) message.Address {
	if _, user, ok := split(a.Local); ok {
		a.Local = user
	}
	return a
}

// Sign is a with a tag. The null path, and an address that has a tag, stay.
func (t *Tagger) Sign(a message.Address, now time.Time) (message.Address, error) {
	switch {
	case a.IsNull() || Is(a.Local):
		return a, nil
	case a.Local == "" || a.Domain == "":
		return a, ErrSender
	}
	k := t.keys[0]
	stamp := fmt.Sprintf("%d%03d", k.ID, (dayOf(now)+t.maxAge)%days)
	local := prefix + stamp + mac(k, stamp, folded(a)) + "=" + a.Local
	if len(local) > message.MaxLocal {
		return a, ErrTooLong
	}
	return message.Address{Local: local, Domain: a.Domain}, nil
}

// Check is a without its tag, if that is one of ours that still counts. On its way
// the local part may have lost its capitals.
func (t *Tagger) Check(a message.Address, now time.Time) (message.Address, error) {
	tag, _, ok := split(a.Local)
	if !ok {
		return a, ErrNoTag
	}
	plain := Untagged(a)
	stamp, sum := tag[:4], strings.ToLower(tag[4:])
	good := false
	for _, k := range t.keys {
		if int(stamp[0]-'0') == k.ID {
			// Others hash the address as it is.
			good = hmac.Equal([]byte(sum), []byte(mac(k, stamp, folded(plain)))) || hmac.Equal([]byte(sum), []byte(mac(k, stamp, plain)))
		}
	}
	if !good {
		return plain, ErrForged
	}
	if left := t.left(tag, now); left < 0 || left > t.maxAge+1 {
		return plain, ErrExpired
	}
	return plain, nil
}

// left is for how many days more a tag counts; less than 0: it has expired.
func (t *Tagger) left(tag string, now time.Time) int64 {
	end := int64(tag[1]-'0')*100 + int64(tag[2]-'0')*10 + int64(tag[3]-'0')
	left := (end - dayOf(now)%days + days) % days
	if left >= days/2 {
		left -= days
	}
	return left
}

// Last is the end of the last day on which the tag of a local part counts, the
// nearest it can be to now, whoever made it; the zero time where there is no tag.
func (t *Tagger) Last(local string, now time.Time) time.Time {
	tag, _, ok := split(local)
	if !ok {
		return time.Time{}
	}
	return now.UTC().Truncate(day).Add(time.Duration(t.left(tag, now)+1) * day)
}

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// folded is an address as we hash it: letter case does not count.
func folded(a message.Address) message.Address {
	return message.Address{Local: strings.ToLower(a.Local), Domain: a.Domain}
}

// mac is the part of a tag that proves the rest.
func mac(k Key, stamp string, a message.Address) string {
	h := hmac.New(sha1.New, []byte(k.Secret))
	h.Write([]byte(stamp + a.String()))
	return hex.EncodeToString(h.Sum(nil)[:3])
}
