package dkim

import (
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/postern-mta/postern/core/message"
)

// maxSignature bounds a DKIM-Signature field; the list of h= is in it.
const maxSignature = 64 << 10

// fault is why a signature has a result before anything is computed.
type fault struct {
	word   Word
	reason string
}

func (f *fault) Error() string { return string(f.word) + ": " + f.reason }

func unreadable(reason string) *fault { return &fault{Neutral, reason} }
func invalid(reason string) *fault    { return &fault{PermError, reason} }

// signature is a DKIM-Signature field (RFC 6376 section 3.5).
type signature struct {
	Result // what it says of itself
	field  message.Field
	b      *Tag
	value  []byte // b=, decoded
	hash   []byte // bh=, decoded
}

// required are the tags that each signature has.
var required = [...]string{"v", "a", "b", "bh", "d", "h", "s"}

// parseSignature reads a field. What could be read of it is returned in any case.
func parseSignature(f message.Field) (*signature, *fault) {
	s := &signature{Result: Result{Length: -1}, field: f}
	if len(f.Raw) > maxSignature {
		return s, unreadable("the field has more than 64 KiB")
	}
	_, value, _ := strings.Cut(string(f.Raw), ":")
	tags, err := ParseTags(value)
	if err != nil {
		return s, unreadable(err.Error())
	}
	// Names first, so that a result tells whose signature was wrong.
	s.Selector, s.Algorithm = tags.Get("s"), strings.ToLower(tags.Get("a"))
	s.Domain = strings.ToLower(tags.Get("d"))
	s.B = tags.Get("b")
	s.B = s.B[:min(len(s.B), 8)]
	if !ValidDomain(s.Domain) {
		if tags.has("d") {
			s.Domain, s.Selector = "", ""
			return s, unreadable("d= is no domain name")
		}
		s.Domain = ""
	}
	if tags.has("s") && !ValidDomain(s.Selector) {
		s.Selector = ""
		return s, unreadable("s= is no selector")
	}
	if v := tags.Get("v"); v != "" && v != "1" {
		return s, unreadable("v=" + short(v) + " is a version that is not known")
	}
	for _, name := range required {
		if !tags.has(name) {
			return s, invalid("tag " + name + "= is missing")
		}
	}
	s.b = tags.Find("b")
	for _, read := range []func(Tags) *fault{s.readForms, s.readHashes, s.readFields, s.readTimes, s.readIdentity} {
		if f := read(tags); f != nil {
			return s, f
		}
	}
	return s, nil
}

// ParseCanon reads c= (RFC 6376 section 3.5); "" is simple/simple.
func ParseCanon(text string) (header, body Canon, ok bool) {
	one, two, both := strings.Cut(text, "/")
	if text == "" {
		return Simple, Simple, true
	}
	if !both {
		two = "simple"
	}
	forms := map[string]Canon{"simple": Simple, "relaxed": Relaxed}
	header, ok1 := forms[strings.ToLower(one)]
	body, ok2 := forms[strings.ToLower(two)]
	return header, body, ok1 && ok2
}

func (s *signature) readForms(tags Tags) *fault {
	var ok bool
	if s.Header, s.Body, ok = ParseCanon(tags.Get("c")); !ok {
		return unreadable("c=" + short(tags.Get("c")) + " is a canonical form that is not known")
	}
	if tags.has("q") {
		known := false
		for _, method := range List(tags.Get("q")) {
			known = known || strings.EqualFold(method, "dns/txt")
		}
		if !known {
			return unreadable("q= has no way to ask for the key that is known")
		}
	}
	switch s.Algorithm {
	case "rsa-sha256", "ed25519-sha256":
	case "rsa-sha1": // RFC 8301 section 3.1
		return invalid("rsa-sha1 is not accepted any more")
	default:
		return unreadable("a=" + short(s.Algorithm) + " is an algorithm that is not known")
	}
	return nil
}

func (s *signature) readHashes(tags Tags) *fault {
	var err error
	if s.value, err = Decode64(tags.Get("b")); err != nil || len(s.value) == 0 {
		return unreadable("b= is not base64")
	}
	if s.hash, err = Decode64(tags.Get("bh")); err != nil {
		return unreadable("bh= is not base64")
	}
	if len(s.hash) != 32 {
		return unreadable("bh= is no SHA-256 sum")
	}
	if text := tags.Get("l"); tags.has("l") {
		n, ok := number(text, 76)
		if !ok {
			return unreadable("l= is no number")
		}
		s.Length = n
	}
	return nil
}

func (s *signature) readFields(tags Tags) *fault {
	from := false
	for _, name := range List(strings.ToLower(tags.Get("h"))) {
		s.Fields = append(s.Fields, name)
		from = from || name == "from"
	}
	if !from { // RFC 6376 section 5.4
		return invalid("the From field is not signed")
	}
	return nil
}

func (s *signature) readTimes(tags Tags) *fault {
	for _, one := range []struct {
		name string
		into *time.Time
	}{{"t", &s.Signed}, {"x", &s.Expires}} {
		if !tags.has(one.name) {
			continue
		}
		n, ok := number(tags.Get(one.name), 12)
		if !ok {
			return unreadable(one.name + "= is no time")
		}
		*one.into = time.Unix(n, 0).UTC()
	}
	if !s.Signed.IsZero() && !s.Expires.IsZero() && !s.Expires.After(s.Signed) {
		return invalid("it expires before it is made: x= is not above t=")
	}
	return nil
}

// number is a decimal number of at most digits digits; what is too large for an int64
// is the largest one.
func number(s string, digits int) (int64, bool) {
	if s == "" || len(s) > digits || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

func (s *signature) readIdentity(tags Tags) *fault {
	s.Identity = "@" + s.Domain
	t := tags.Find("i")
	if t == nil {
		return nil
	}
	text, ok := unquote(t.Value)
	at := strings.LastIndexByte(text, '@')
	if !ok || at < 0 || !ValidDomain(strings.ToLower(text[at+1:])) {
		return unreadable("i= is no address")
	}
	s.Identity = text
	if !Within(text[at+1:], s.Domain) { // RFC 6376 section 3.5
		return invalid("the domain of i= is not d=" + s.Domain + ", or below it")
	}
	return nil
}

// unquote reads dkim-quoted-printable (RFC 6376 section 2.11). Blanks, which may stand
// for folding anywhere in it, don't count.
func unquote(s string) (string, bool) {
	s = compact(s)
	if strings.IndexByte(s, '=') < 0 {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil || c < ' ' || c == 0x7f {
			return "", false
		}
		b = append(b, byte(c))
		i += 2
	}
	return string(b), true
}

// ValidDomain tells whether s is a domain name as d= and s= have it: labels of letters,
// digits, hyphens and underscores, or of what is beyond ASCII (RFC 8616).
func ValidDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c >= 0x80:
			default:
				return false
			}
		}
	}
	return true
}

// Within tells whether name is domain, or below it. Letter case does not count, and a
// name in Unicode is the same as in A-labels.
func Within(name, domain string) bool {
	name, domain = ascii(name), ascii(domain)
	return name == domain || strings.HasSuffix(name, "."+domain)
}

func ascii(name string) string {
	name = strings.ToLower(name)
	for i := range len(name) {
		if name[i] >= 0x80 {
			if a, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(name); err == nil {
				return a
			}
			break
		}
	}
	return name
}
