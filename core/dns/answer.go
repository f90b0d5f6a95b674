package dns

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// Bounds on what one look-up follows and keeps.
const (
	maxAliases   = 8
	maxAddrs     = 50
	maxMX        = 100
	maxPTR       = 50
	maxTextBytes = 32 << 10
)

// Bounds on how long an answer is believed.
const (
	minTTL      = 5 * time.Second  // a TTL of 0 would mean a question per policy and message
	maxTTL      = time.Hour        // the servers asked keep what lives longer
	minNegative = 5 * time.Second  // RFC 2308 5
	maxNegative = 15 * time.Minute // a name that comes into being is seen soon
	noSOA       = time.Minute      // a negative answer that doesn't say how long it holds
	failureTTL  = time.Second      // RFC 9520 3.2 wants at least 1 s
)

// question is what is asked: a canonical name and a type, in class IN.
type question struct {
	name  string
	qtype uint16
}

// answer is the outcome of a look-up; exactly one of its four contents is set. It is not changed once made.
type answer struct {
	addrs []netip.Addr
	mx    []MX
	text  []string // TXT or PTR
	err   *Error
	ttl   time.Duration
}

// An asker sends a question to a server, or plays one. The message has rcode NOERROR or NXDOMAIN.
type asker func(ctx context.Context, q question) (*wire.Msg, *Error)

func failed(q question, kind Kind, text string) *Error {
	return &Error{Kind: kind, Name: q.name, Type: wire.TypeToString[q.qtype], Text: text}
}

// resolve asks for q and for the targets of aliases that the answers leave open.
func resolve(ctx context.Context, ask asker, q question) *answer {
	at := step{name: q.name, ttl: maxTTL}
	for range maxAliases + 1 {
		m, err := ask(ctx, question{at.name, q.qtype})
		if err != nil {
			return &answer{err: aboutQuestion(err, q), ttl: failureTTL}
		}
		from := at.name
		records, ok := at.follow(m, q.qtype)
		if !ok {
			break
		}
		if len(records) > 0 {
			return collect(q, records, at.ttl)
		}
		if m.Rcode == wire.RcodeNameError {
			return &answer{err: failed(q, NoName, "no such name"), ttl: negativeTTL(m, at.ttl)}
		}
		// RFC 2308 2.2: without an SOA after an alias the server may just not have gone further.
		if at.name == from || soa(m) != nil {
			return &answer{err: failed(q, NoData, "no "+wire.TypeToString[q.qtype]+" record"), ttl: negativeTTL(m, at.ttl)}
		}
	}
	return &answer{err: failed(q, Failure, fmt.Sprintf("aliases lead round or further than %d", maxAliases)), ttl: failureTTL}
}

// aboutQuestion makes an error about an alias's target one about the name that was asked for.
func aboutQuestion(err *Error, q question) *Error {
	if err.Name == q.name {
		return err
	}
	out := *err
	out.Text += " (asking for " + err.Name + ")"
	out.Name = q.name
	return &out
}

// step is how far a look-up has come: the name now looked for, the aliases passed, the least TTL seen.
type step struct {
	name    string
	aliases int
	ttl     time.Duration
}

// follow moves along the aliases in m and returns the records of type qtype at
// their end. Records of other names are not looked at, so a server can't slip
// them in. It returns false where there were too many aliases.
func (s *step) follow(m *wire.Msg, qtype uint16) ([]wire.RR, bool) {
	for {
		var records []wire.RR
		var alias *wire.CNAME
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != wire.ClassINET || owner(h.Name) != s.name {
				continue
			}
			if h.Rrtype == qtype {
				records = append(records, rr)
			} else if c, ok := rr.(*wire.CNAME); ok && alias == nil {
				alias = c
			}
		}
		for _, rr := range records {
			s.live(rr.Header().Ttl)
		}
		if len(records) > 0 || alias == nil {
			return records, true
		}
		s.live(alias.Hdr.Ttl)
		s.name = owner(alias.Target)
		if s.aliases++; s.aliases > maxAliases {
			return nil, false
		}
	}
}

func (s *step) live(ttl uint32) {
	// RFC 2181 8: a TTL with the top bit set is zero.
	if ttl > 1<<31-1 {
		ttl = 0
	}
	s.ttl = min(s.ttl, time.Duration(ttl)*time.Second)
}

// negativeTTL returns how long m's "no" holds (RFC 2308 5), given the least TTL of the aliases before it.
func negativeTTL(m *wire.Msg, aliases time.Duration) time.Duration {
	ttl := noSOA
	if s := soa(m); s != nil {
		ttl = time.Duration(min(s.Hdr.Ttl, s.Minttl)) * time.Second
	}
	return min(max(min(ttl, aliases), minNegative), maxNegative)
}

func soa(m *wire.Msg) *wire.SOA {
	for _, rr := range m.Ns {
		if s, ok := rr.(*wire.SOA); ok {
			return s
		}
	}
	return nil
}

// collect turns records of q's type into an answer. Records that nobody could
// use are left out; where nothing remains there is no data.
func collect(q question, records []wire.RR, ttl time.Duration) *answer {
	a := &answer{ttl: min(max(ttl, minTTL), maxTTL)}
	switch q.qtype {
	case wire.TypeA, wire.TypeAAAA:
		a.addrs = collectAddrs(records)
	case wire.TypeMX:
		a.mx = collectMX(records)
	case wire.TypeTXT:
		a.text = collectText(records)
	case wire.TypePTR:
		a.text = collectNames(records)
	}
	if len(a.addrs)+len(a.mx)+len(a.text) == 0 {
		return &answer{err: failed(q, NoData, "no usable "+wire.TypeToString[q.qtype]+" record"), ttl: a.ttl}
	}
	return a
}

func collectAddrs(records []wire.RR) []netip.Addr {
	var out []netip.Addr
	for _, rr := range records {
		var addr netip.Addr
		switch rr := rr.(type) {
		case *wire.A:
			addr, _ = netip.AddrFromSlice(rr.A.To4())
		case *wire.AAAA:
			addr, _ = netip.AddrFromSlice(rr.AAAA)
			if addr.Is4In6() {
				continue // would be IPv4 by the back door
			}
		}
		if addr.IsValid() && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
		if len(out) == maxAddrs {
			break
		}
	}
	return out
}

func collectMX(records []wire.RR) []MX {
	var out []MX
	null := false
	for _, rr := range records {
		r, ok := rr.(*wire.MX)
		if !ok {
			continue
		}
		if r.Mx == "." {
			null = true
		} else if host, ok := hostname(r.Mx, ":/"); ok && !isAddress(host) { // the test suite of RFC 7208 has such hosts
			out = append(out, MX{r.Preference, host})
		}
	}
	if len(out) == 0 && null {
		return []MX{{}} // RFC 7505 3; beside others it says nothing
	}
	slices.SortFunc(out, func(a, b MX) int {
		return cmp.Or(cmp.Compare(a.Pref, b.Pref), strings.Compare(a.Host, b.Host))
	})
	out = slices.Compact(out)
	return slices.Clone(out[:min(len(out), maxMX)])
}

func collectText(records []wire.RR) []string {
	var out []string
	size := 0
	for _, rr := range records {
		r, ok := rr.(*wire.TXT)
		if !ok {
			continue
		}
		text := unescape(strings.Join(r.Txt, ""))
		if size += len(text); size > maxTextBytes {
			break
		}
		out = append(out, text)
	}
	return out
}

func collectNames(records []wire.RR) []string {
	var out []string
	for _, rr := range records {
		r, ok := rr.(*wire.PTR)
		if !ok {
			continue
		}
		if name, ok := hostname(r.Ptr, ""); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
		if len(out) == maxPTR {
			break
		}
	}
	return out
}
