package record

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// Bounds of an answer, in stories.
const (
	UsualLimit = 100   // of Query.Limit, where it is 0
	MostLimit  = 10000 // of Query.Limit
)

// Query says which stories are asked for: those that everything set in it is true
// of. The zero value asks for the newest. Addresses, domains and texts count
// without case.
type Query struct {
	// Subjects are ids of messages or sessions, addresses of senders or recipients,
	// domains ("@example.net"), and clients' IP addresses or networks in CIDR form.
	Subjects []string `json:"subjects,omitempty"`
	From     string   `json:"from,omitempty"`     // the sender: an address or @domain; <> is the null path
	To       string   `json:"to,omitempty"`       // a recipient: an address or @domain
	Text     string   `json:"text,omitempty"`     // part of the subject, or of a reply or reason of anybody
	Verdicts []string `json:"verdicts,omitempty"` // one of these
	// Policy said more than pass: it decided, edited, scored, or failed. In shadow
	// that counts too.
	Policy string    `json:"policy,omitempty"`
	Since  time.Time `json:"since,omitzero"` // the verdict fell then or later
	Until  time.Time `json:"until,omitzero"` // the verdict fell earlier
	Limit  int       `json:"limit,omitempty"`
}

// Check tells what is wrong with the query.
func (q *Query) Check() error {
	_, err := newQuestion(q)
	return err
}

// limit is how many stories are wanted.
func (q *Query) limit() int {
	if q.Limit <= 0 {
		return UsualLimit
	}
	return min(q.Limit, MostLimit)
}

// clause is a condition on a story alone.
type clause struct {
	hashes []uint32 // sorted; a page without all of them has no story that it wants. None: any page may
	recent bool     // pages that are not marked lack these words
	wants  func(*Story) bool
}

// question is a query, prepared.
type question struct {
	clauses []clause
	id      string // the one thing asked for, where it may be an id
	text    string // in lower case
	policy  string
	tokens  [][]byte // in lower case: a record without all of them has no text
	verdict []byte   // likewise, of stories alone
	since   time.Time
	until   time.Time
	limit   int
	from    uint64 // no page before is of interest, most probably
	sure    bool   // none is for sure
}

func newQuestion(q *Query) (*question, error) {
	out := &question{text: strings.ToLower(q.Text), policy: q.Policy, since: q.Since, until: q.Until, limit: q.limit()}
	if !q.Since.IsZero() {
		out.from, out.sure = uint64(max(q.Since.UnixNano(), 0)), true
	}
	var wrong []error
	for _, one := range q.Subjects {
		wrong = append(wrong, out.subject(one))
	}
	if q.From != "" {
		wrong = append(wrong, out.address("from", q.From, func(s *Story) []string { return []string{s.Sender} }))
	}
	if q.To != "" {
		wrong = append(wrong, out.address("to", q.To, func(s *Story) []string { return s.Recipients }))
	}
	wrong = append(wrong, out.verdicts(q.Verdicts))
	for word := range strings.FieldsSeq(out.text) {
		// Reply codes and enhanced codes stand as numbers.
		if letter := strings.ContainsFunc(word, func(c rune) bool { return c >= 'a' && c <= 'z' }); isASCII(word) && (letter || len(word) > 3 && !strings.Contains(word, ".")) {
			out.tokens = append(out.tokens, []byte(word))
		}
	}
	slices.SortStableFunc(out.tokens, func(a, b []byte) int { return len(b) - len(a) })
	if len(q.Subjects) == 1 && len(out.clauses) == 1 && out.text == "" && out.policy == "" && q.Since.IsZero() && q.Until.IsZero() {
		if id := strings.TrimSpace(q.Subjects[0]); message.ValidID(id) {
			out.id, out.from = id, idTime(id)
		}
	}
	return out, errors.Join(wrong...)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func (q *question) add(c clause) {
	slices.Sort(c.hashes)
	q.clauses = append(q.clauses, c)
}

// subject adds the condition that a subject means.
func (q *question) subject(text string) error {
	text = strings.TrimSpace(text)
	text = strings.TrimSuffix(strings.TrimPrefix(text, "<"), ">")
	if ip, err := netip.ParseAddr(text); err == nil {
		return q.network(netip.PrefixFrom(ip.Unmap().WithZone(""), ip.Unmap().BitLen()))
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return q.network(p)
	} else if at := strings.LastIndexByte(text, '/'); at > 0 && !strings.Contains(text, "@") {
		return fmt.Errorf("%q is no network: write an address and the number of bits, as 192.0.2.0/24", text)
	}
	switch {
	case text == "":
		return errors.New(`"" is no id, address or network; --from '<>' finds the null sender`)
	case strings.HasPrefix(text, "@"):
		return q.address("", text, (*Story).addresses)
	}
	c := clause{hashes: []uint32{hash(byAddress, lower(text))}}
	c.wants = func(s *Story) bool { return s.hasAddress(text) }
	switch {
	case message.ValidID(text):
		c.hashes = append(c.hashes, hash(byMessage, text), hash(bySession, text))
		c.wants = func(s *Story) bool { return s.ID == text || s.Session == text || s.hasAddress(text) }
	case !strings.Contains(text, "@"):
		c.hashes, c.recent = append(c.hashes, hash(byDomain, lower(text))), true
		c.wants = func(s *Story) bool {
			return s.hasAddress(text) || slices.ContainsFunc(s.addresses(), func(a string) bool { return ofDomain(a, text) })
		}
	}
	q.add(c)
	return nil
}

func (s *Story) addresses() []string { return append([]string{s.Sender}, s.Recipients...) }

func (s *Story) hasAddress(text string) bool {
	return strings.EqualFold(s.Sender, text) ||
		slices.ContainsFunc(s.Recipients, func(one string) bool { return strings.EqualFold(one, text) })
}

func ofDomain(address, domain string) bool {
	return strings.EqualFold(address[strings.LastIndexByte(address, '@')+1:], domain)
}

// address adds the condition that one of a story's addresses is text, or of the
// domain that it names.
func (q *question) address(flag, text string, of func(*Story) []string) error {
	text = strings.TrimSpace(text)
	bare := strings.TrimSuffix(strings.TrimPrefix(text, "<"), ">")
	if domain, ok := strings.CutPrefix(bare, "@"); ok {
		if domain == "" {
			return fmt.Errorf("%q is no domain: write @example.net", text)
		}
		q.add(clause{hashes: []uint32{hash(byDomain, lower(domain))}, recent: true, wants: func(s *Story) bool {
			return slices.ContainsFunc(of(s), func(a string) bool { return strings.Contains(a, "@") && ofDomain(a, domain) })
		}})
		return nil
	}
	if bare == "" && text != "<>" {
		return fmt.Errorf("--%s %q: write an address, @domain, or <> for the null sender", flag, text)
	}
	c := clause{hashes: []uint32{hash(byAddress, lower(bare))}}
	if bare == "" {
		c.hashes = nil // the null path is no word
	}
	c.wants = func(s *Story) bool {
		return slices.ContainsFunc(of(s), func(a string) bool { return strings.EqualFold(a, bare) }) && (bare != "" || s.ID != s.Session)
	}
	q.add(c)
	return nil
}

// network adds the condition that the client is in p.
func (q *question) network(p netip.Prefix) error {
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return fmt.Errorf("%s is no network of clients: write IPv4 networks as 192.0.2.0/24", p)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	c := clause{wants: func(s *Story) bool {
		ip, err := netip.ParseAddr(s.Client)
		return err == nil && p.Contains(ip.Unmap().WithZone(""))
	}}
	if p.IsSingleIP() {
		c.hashes = []uint32{hash(byClient, clientWord(p.Addr()))}
		q.add(c)
		return nil
	}
	for _, bits := range networkBits(p.Addr()) {
		if bits <= p.Bits() {
			c.hashes, c.recent = []uint32{hash(byNetwork, networkWord(p.Addr(), bits))}, true
			break
		}
	}
	q.add(c)
	return nil
}

// networkBits is the sizes of networks that clients can be found by, the smallest
// network first.
func networkBits(ip netip.Addr) [2]int {
	if ip.Is4() {
		return [2]int{24, 16}
	}
	return [2]int{48, 32}
}

// networkWord is the word of the network of so many bits, whole bytes, around ip.
func networkWord(ip netip.Addr, bits int) string {
	if ip.Is4() {
		b := ip.As4()
		return string(b[:bits/8])
	}
	b := ip.As16()
	return string(b[:bits/8])
}

func (q *question) verdicts(names []string) error {
	if len(names) == 0 {
		return nil
	}
	c := clause{recent: true, wants: func(s *Story) bool { return slices.Contains(names, s.Verdict) }}
	for _, name := range names {
		if !slices.Contains(verdictNames[:], name) {
			return fmt.Errorf("%q is no verdict: there are %s", name, strings.Join(verdictNames[:], ", "))
		}
		c.hashes = append(c.hashes, hash(byVerdict, name))
	}
	if len(names) == 1 {
		q.verdict = []byte(names[0])
	}
	q.add(c)
	return nil
}

// soft tells whether later events count, too.
func (q *question) soft() bool { return q.text != "" || q.policy != "" }

// wants tells whether the clauses are true of the story, and its verdict fell in
// time.
func (q *question) wants(s *Story) bool {
	if !q.since.IsZero() && s.Ended.Before(q.since) || !q.until.IsZero() && !s.Ended.Before(q.until) {
		return false
	}
	for i := range q.clauses {
		if !q.clauses[i].wants(s) {
			return false
		}
	}
	return true
}

// says tells whether one of the texts holds the text asked for.
func (q *question) says(texts ...string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(strings.ToLower(s), q.text) })
}

func (q *question) textIn(s *Story) bool {
	return q.says(s.Subject, s.Reply, s.Reason) ||
		slices.ContainsFunc(s.Refusals, func(f Refusal) bool { return q.says(f.Reply) }) ||
		slices.ContainsFunc(s.Scores, func(one Symbol) bool { return q.says(one.Name, one.Why) }) ||
		slices.ContainsFunc(s.Stages, func(step Step) bool { return q.textAt(&step) })
}

func (q *question) textAt(step *Step) bool {
	return slices.ContainsFunc(step.Handlers, func(h Answer) bool { return q.says(h.Reply, h.Reason, h.Error) })
}

func (q *question) policyIn(s *Story) bool {
	return s.Policy == q.policy ||
		slices.ContainsFunc(s.Refusals, func(f Refusal) bool { return f.Policy == q.policy }) ||
		slices.ContainsFunc(s.Stages, func(step Step) bool { return q.policyAt(&step) })
}

func (q *question) policyAt(step *Step) bool {
	return slices.ContainsFunc(step.Handlers, func(h Answer) bool { return h.Policy == q.policy && h.spoke() })
}

// spoke tells whether the answer is more than pass.
func (a *Answer) spoke() bool { return a.Decision != "pass" || len(a.Edits) > 0 || a.Error != "" }
