package dmarc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a record.
const (
	maxRecord = 8 << 10
	maxURIs   = 20
)

// URI is where reports are to go.
type URI struct {
	Address string // of a mailto, percent-decoded
	Max     int64  // bytes of a report that it takes; 0: no limit said
	Text    string // as published
}

// Record is a DMARC policy record (RFC 9989 4.7).
type Record struct {
	Text       string
	Policy     Policy // p
	Subdomains Policy // sp; Policy where it is not there
	Missing    Policy // np, for names that don't exist; Subdomains where it is not there
	DKIM       byte   // adkim: 'r' or 's'
	SPF        byte   // aspf
	PSD        byte   // psd: 'y', 'n' or 'u'
	Testing    bool   // t=y
	Percent    int    // pct of RFC 7489
	Aggregate  []URI  // rua: those with a scheme that we know
	Failure    []URI  // ruf
	Options    string // fo
	Interval   int    // ri, seconds
	HasSP      bool
	HasNP      bool

	// Mistakes are what is wrong and passed over, with the default in its place.
	Mistakes []string
}

// ParseRecord reads a record and takes no mistake: an error is the first one, with
// its tag. It is what a domain's owner wants to know.
func ParseRecord(s string) (Record, error) {
	r, err := readRecord(s)
	if err == nil && len(r.Mistakes) > 0 {
		err = errors.New(r.Mistakes[0])
	}
	return r, err
}

// isRecord tells whether a TXT record is meant as a DMARC record: it begins with
// v=DMARC1, and a semicolon or the end follows.
func isRecord(s string) bool {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || !strings.EqualFold(strings.TrimRight(name, " \t"), "v") {
		return false
	}
	value, _, _ := strings.Cut(rest, ";")
	return strings.Trim(value, " \t") == "DMARC1"
}

// readRecord reads a record as RFC 9989 4.7 says: a mistake in a tag makes it count
// as if it were not there. An error is a record that can't be used at all.
func readRecord(s string) (Record, error) {
	r := Record{Text: s, DKIM: 'r', SPF: 'r', PSD: 'u', Percent: 100, Options: "0", Interval: 86400}
	if len(s) > maxRecord {
		return r, errors.New("the record is too long")
	}
	if !isRecord(s) {
		return r, errors.New("it does not begin with v=DMARC1;")
	}
	_, rest, ok := strings.Cut(s, ";")
	if !ok {
		return r, errors.New("a semicolon must follow v=DMARC1")
	}
	seen := map[string]bool{"v": true}
	invalid := false
	for i, part := range strings.Split(rest, ";") {
		if strings.Trim(part, " \t") == "" {
			if i < strings.Count(rest, ";") {
				r.mistake("an empty tag")
			}
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		if !ok || !tagName(name) {
			r.mistake("%s is no tag", brief(strings.TrimSpace(part)))
			continue
		}
		if seen[name] {
			return r, fmt.Errorf("%s stands twice", name)
		}
		seen[name] = true
		if name == "p" && i > 0 {
			r.mistake("p does not follow v")
		}
		if text := r.tag(name, value); text != "" {
			invalid = invalid || name == "sp" || name == "np" || name == "p"
			r.mistake("%s: %s", name, text)
		}
	}
	return r.settle(invalid)
}

// settle fills in what other tags stand for. Without a valid p a record that says
// where reports go counts as p=none (RFC 9989 4.7); so does one whose sp or np is wrong.
func (r Record) settle(invalid bool) (Record, error) {
	if r.Policy == "" || invalid {
		if len(r.Aggregate) == 0 {
			if r.Policy == "" {
				return r, errors.New("neither a valid p nor a valid rua")
			}
			return r, errors.New("sp or np is not valid, and there is no valid rua")
		}
		r.Policy, r.Subdomains, r.Missing, r.HasSP, r.HasNP = Monitor, "", "", false, false
		// That is the RFC's own rule, and no mistake beyond it.
		r.Mistakes = withoutPolicies(r.Mistakes)
	}
	if r.Subdomains == "" {
		r.Subdomains = r.Policy
	}
	if r.Missing == "" {
		r.Missing = r.Subdomains
	}
	return r, nil
}

func withoutPolicies(list []string) (left []string) {
	for _, m := range list {
		if !strings.HasPrefix(m, "p:") && !strings.HasPrefix(m, "sp:") && !strings.HasPrefix(m, "np:") {
			left = append(left, m)
		}
	}
	return left
}

func (r *Record) mistake(format string, args ...any) {
	if len(r.Mistakes) < 20 {
		r.Mistakes = append(r.Mistakes, fmt.Sprintf(format, args...))
	}
}

// tag takes one tag; the text returned says what is wrong with it.
func (r *Record) tag(name, value string) string {
	switch name {
	case "p", "sp", "np":
		p := Policy(strings.ToLower(value))
		if p != Monitor && p != Quarantine && p != Reject {
			return brief(value) + " is none of none, quarantine, reject"
		}
		switch name {
		case "p":
			r.Policy = p
		case "sp":
			r.Subdomains, r.HasSP = p, true
		default:
			r.Missing, r.HasNP = p, true
		}
	case "adkim":
		return letter(&r.DKIM, value, "rs")
	case "aspf":
		return letter(&r.SPF, value, "rs")
	case "psd":
		return letter(&r.PSD, value, "ynu")
	case "t":
		var t byte
		text := letter(&t, value, "yn")
		r.Testing = t == 'y'
		return text
	case "pct":
		return number(&r.Percent, value, 100)
	case "ri":
		return number(&r.Interval, value, 1<<31-1)
	case "fo":
		for one := range strings.SplitSeq(value, ":") {
			if one = strings.TrimSpace(one); len(one) != 1 || !strings.Contains("01dsDS", one) {
				return brief(value) + " is not made of 0, 1, d and s"
			}
		}
		r.Options = value
	case "rf":
		for one := range strings.SplitSeq(value, ":") {
			if !keyword(strings.TrimSpace(one)) {
				return brief(value) + " is no list of formats"
			}
		}
	case "rua":
		return uris(&r.Aggregate, value)
	case "ruf":
		return uris(&r.Failure, value)
	}
	return "" // RFC 9989 4.7: tags that are unknown don't count
}

func letter(into *byte, value, choices string) string {
	value = strings.ToLower(value)
	if len(value) != 1 || !strings.Contains(choices, value) {
		return brief(value) + " is none of " + strings.Join(strings.Split(choices, ""), ", ")
	}
	*into = value[0]
	return ""
}

func number(into *int, value string, most int) string {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || int(n) > most {
		return brief(value) + " is no number from 0 to " + strconv.Itoa(most)
	}
	*into = int(n)
	return ""
}

// uris reads the list of rua or ruf. Every entry must be right to be without mistake;
// those that are count anyhow. Schemes other than mailto are passed over.
func uris(into *[]URI, value string) (wrong string) {
	for one := range strings.SplitSeq(value, ",") {
		u, err := parseURI(strings.Trim(one, " \t"))
		switch {
		case err != nil:
			wrong = err.Error()
		case u.Address != "" && len(*into) < maxURIs:
			*into = append(*into, u)
		}
	}
	return wrong
}

// parseURI reads a dmarc-uri: a URI, and behind an exclamation mark how much it takes.
func parseURI(s string) (URI, error) {
	text, size, limited := strings.Cut(s, "!")
	u := URI{Text: s}
	if limited {
		n, err := sizeOf(size)
		if err != nil {
			return u, fmt.Errorf("%s: %w", brief(s), err)
		}
		u.Max = n
	}
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok || !keyword(scheme) {
		return u, fmt.Errorf("%s is no URI", brief(s))
	}
	if !strings.EqualFold(scheme, "mailto") {
		return u, nil
	}
	address, _, _ := strings.Cut(rest, "?")
	address, err := unescape(address)
	if err != nil {
		return u, fmt.Errorf("%s: %w", brief(s), err)
	}
	if at := strings.LastIndexByte(address, '@'); at < 1 || at == len(address)-1 {
		return u, fmt.Errorf("%s has no address", brief(s))
	}
	u.Address = address
	return u, nil
}

// unescape replaces %XX, of which control characters are not taken.
func unescape(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", errors.New("a % without two digits")
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", errors.New("a % without two digits")
			}
			c, i = byte(n), i+2
		}
		if c <= ' ' || c == 0x7f {
			return "", errors.New("a character that no address has")
		}
		out = append(out, c)
	}
	return string(out), nil
}

// sizeOf reads "10m": a number, and k, m, g or t for powers of 1024.
func sizeOf(s string) (int64, error) {
	n, shift := len(s), 0
	if n > 0 {
		if at := strings.IndexByte("kmgt", s[n-1]|0x20); at >= 0 {
			n, shift = n-1, 10*(at+1)
		}
	}
	v, err := strconv.ParseUint(s[:n], 10, 62)
	if err != nil || v > 1<<62>>shift {
		return 0, fmt.Errorf("%s is no size", brief(s))
	}
	return int64(v) << shift, nil
}

func tagName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9' && i > 0) && (c != '_' || i == 0) && (c != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// keyword tells whether s is letters, digits and inner hyphens.
func keyword(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}

// brief is a piece of a record for a text.
func brief(s string) string { return strconv.Quote(s[:min(len(s), 80)]) }
