package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// Where qmail sends mail: virtualdomains and smtproutes.

func (q *qmail) virtualdomains(c *Control) {
	var kept []string
	var ways []virtual
	lines, locals := q.list(c.Name), q.locally()
	for i, l := range lines {
		key, to, ok := strings.Cut(l.text, ":")
		if !ok {
			q.note(Unused, q.at(c.Name), l.number, c.Name, "%q has no colon, and means nothing to qmail", l.text)
			continue
		}
		if q.saidAgain(c, lines[i+1:], l, key) {
			continue
		}
		v, err := readVirtual(strings.ToLower(key))
		if err != nil {
			q.note(Missing, q.at(c.Name), l.number, c.Name, "%q: %v", key, err)
			continue
		}
		if domain := strings.ToLower(key[strings.LastIndexByte(key, '@')+1:]); slices.Contains(locals, domain) {
			q.note(Unused, q.at(c.Name), l.number, c.Name, "%q: the domain is in locals, which count first", key)
			continue
		}
		if v.hop = "local"; to == "" {
			v.hop = q.exception(c, l, key, &v)
		}
		kept = append(kept, l.text)
		ways = append(ways, v)
	}
	if len(kept) == 0 {
		return
	}
	// What is in locals is nobody's by a suffix, or by the empty key.
	for _, domain := range locals {
		if slices.ContainsFunc(ways, func(v virtual) bool {
			return v.hop == "local" && v.key == "to_domain" && (v.pattern == "*" || v.pattern[0] == '*' && strings.HasSuffix(domain, v.pattern[1:]))
		}) {
			kept = append(kept, domain+":")
		}
	}
	q.addFile("virtualdomains", strings.Join(kept, "\n")+"\n", 0o644)
	q.doc.one("local").set("virtualdomains", []string{"@virtualdomains"}, "")
	slices.SortStableFunc(ways, func(a, b virtual) int { return a.rank - b.rank })
	for i := 0; i < len(ways); {
		n := i
		var patterns []string
		for ; n < len(ways) && ways[n].key == ways[i].key && ways[n].hop == ways[i].hop && ways[n].by == ways[i].by; n++ {
			patterns = append(patterns, ways[n].pattern)
		}
		t := q.doc.add("route", "").set(ways[i].key, slices.Compact(patterns), c.Name).set("next_hop", ways[i].hop, "")
		if by := ways[i].by; by != nil && by.user != "" {
			t.set("auth", by.auth(), "")
		}
		i = n
	}
}

// saidAgain tells whether a later line has the key, too: that one counts.
func (q *qmail) saidAgain(c *Control, later []line, l line, key string) bool {
	for _, other := range later {
		if again, _, ok := strings.Cut(other.text, ":"); ok && strings.EqualFold(again, key) {
			q.note(Unused, q.at(c.Name), l.number, c.Name, "%q stands in line %d again, which is what counts", key, other.number)
			return true
		}
	}
	return false
}

// exception is the next hop of what virtualdomains leaves to smtproutes.
func (q *qmail) exception(c *Control, l line, key string, v *virtual) string {
	domain := strings.ToLower(key[strings.LastIndexByte(key, '@')+1:])
	if strings.HasPrefix(domain, ".") && slices.ContainsFunc(q.routes, func(r smtproute) bool { return len(r.pattern) > len(domain) && strings.HasSuffix(r.pattern, domain) }) {
		q.note(Differs, q.at(c.Name), l.number, c.Name, "%q is an exception, which goes as smtproutes says of the whole of it; put routes for parts of it in front", key)
	}
	for i := range q.routes { // the longest match comes first
		r := &q.routes[i]
		if r.pattern != domain && !(r.pattern == "" || r.pattern[0] == '.' && strings.HasSuffix(domain, r.pattern)) {
			continue
		}
		if hop, problem := r.hop(); problem == "" {
			v.by = r
			return hop
		}
		break
	}
	return "mx"
}

// locally are the domains of locals.
func (q *qmail) locally() (names []string) {
	if !exists(q.path("locals")) {
		return []string{q.name}
	}
	for _, l := range q.list("locals") {
		names = append(names, strings.ToLower(l.text))
	}
	return names
}

// virtual is a key of virtualdomains as a route has it. The smallest rank is looked up
// first: addresses, domains, suffixes from the longest on, all others.
type virtual struct {
	key, pattern, hop string
	rank              int
	by                *smtproute // whose hop it is; nil: none of smtproutes
}

func readVirtual(key string) (virtual, error) {
	if strings.Contains(key, "@") {
		a, err := message.ParseAddress(key)
		return virtual{key: "to_address", pattern: a.String()}, err
	}
	v := virtual{key: "to_domain", pattern: key, rank: 1}
	switch {
	case key == "":
		v.pattern, v.rank = "*", 1<<20
		return v, nil
	case key[0] == '.':
		v.pattern, v.rank = "*"+key, 1<<10-min(len(key), 1000)
	}
	if !isDomain(strings.TrimPrefix(key, ".")) {
		return v, errors.New("it is no domain")
	}
	return v, nil
}

// smtproute is a line of smtproutes.
type smtproute struct {
	pattern, relay, user string
	password             string
	line                 int
}

// smtproutes: the longest match counts, so that a name stands before its suffixes.
func (q *qmail) smtproutes(c *Control) {
	lines := q.list(c.Name)
	for i, l := range lines {
		key, rest, ok := strings.Cut(l.text, ":")
		if !ok {
			q.note(Unused, q.at(c.Name), l.number, c.Name, "%q has no colon, and means nothing to qmail", l.text)
			continue
		}
		if q.saidAgain(c, lines[i+1:], l, key) {
			continue
		}
		fields := strings.Fields(rest)
		r := smtproute{pattern: strings.ToLower(key), line: l.number}
		switch {
		case len(fields) > 0 && (rest[0] == ' ' || rest[0] == '\t'), len(fields) == 2, len(fields) > 3:
			q.note(Missing, q.at(c.Name), l.number, c.Name, "%q is none of domain:relay, domain:relay:port and domain:relay:port user password", l.text)
			continue
		case len(fields) == 3:
			r.user, r.password = fields[1], fields[2]
		}
		if len(fields) > 0 {
			r.relay = fields[0]
		}
		q.routes = append(q.routes, r)
	}
	depth := func(r smtproute) int {
		switch {
		case r.pattern == "":
			return -1
		case r.pattern[0] == '.':
			return 2 * len(r.pattern)
		}
		return 1 << 20
	}
	slices.SortStableFunc(q.routes, func(a, b smtproute) int { return depth(b) - depth(a) })
}

// hop is its next hop, or what is wrong with it.
func (r *smtproute) hop() (hop, problem string) {
	if r.relay == "" {
		return "mx", ""
	}
	host, port, _ := strings.Cut(r.relay, ":")
	if strings.HasPrefix(r.relay, "[") {
		host, port, _ = strings.Cut(strings.TrimPrefix(r.relay, "["), "]")
		port = strings.TrimPrefix(port, ":")
	}
	if n, ok := scan(port); port != "" && (!ok || n < 1 || n > 65535) {
		return "", fmt.Sprintf("%q is no port", port)
	}
	if _, err := message.ParseDomain(strings.ToLower(host)); err != nil && !strings.Contains(host, ":") {
		return "", fmt.Sprintf("%q is no host", host)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	switch port {
	case "":
		return "smtp://" + host, ""
	case "465":
		return "smtps://" + host, ""
	}
	return "smtp://" + host + ":" + port, ""
}

// passwordFile is where its password is kept.
func (r *smtproute) passwordFile() string { return fmt.Sprintf("password-%d", r.line) }

func (r *smtproute) auth() inline {
	return inline{{"user", tomlString(r.user), ""}, {"password_file", tomlString(r.passwordFile()), ""}}
}

// route writes one of smtproutes.
func (q *qmail) route(r smtproute) {
	hop, problem := r.hop()
	if problem != "" {
		q.note(Missing, q.at("smtproutes"), r.line, "smtproutes", "%s", problem)
		return
	}
	pattern := r.pattern
	switch {
	case pattern == "":
		pattern = "*"
	case pattern[0] == '.':
		pattern = "*" + pattern
	}
	if _, err := message.ParseDomain(strings.TrimPrefix(pattern, "*.")); pattern != "*" && err != nil {
		q.note(Missing, q.at("smtproutes"), r.line, "smtproutes", "%q is no domain", r.pattern)
		return
	}
	t := q.doc.add("route", "").set("to_domain", []string{pattern}, fmt.Sprintf("smtproutes:%d", r.line)).set("next_hop", hop, "")
	if r.user != "" {
		q.addFile(r.passwordFile(), r.password+"\n", 0o600)
		t.set("auth", r.auth(), "")
		q.note(Differs, q.at("smtproutes"), r.line, "smtproutes", "the password, which is in %s, is only sent over TLS", r.passwordFile())
	}
}

// unknown notes files that qmail itself does not know.
func (q *qmail) unknown() {
	known := map[string]bool{}
	for _, c := range Controls() {
		known[c.Name] = true
	}
	for _, name := range q.names("") {
		switch {
		case known[name] || q.shown[name]:
		case patches()[name] != "":
			q.note(Missing, q.at(name), 0, name, "%s", patches()[name])
		default:
			q.note(Unknown, q.at(name), 0, name, "qmail has no such file; it is left out")
		}
	}
}

// patches are files that common patches have.
func patches() map[string]string {
	return map[string]string{
		"badmailto": "of a patch: refused recipients; the policy badrcptto takes the same lines as its file", "badrcptto": "of a patch: refused recipients; the policy badrcptto takes the same lines as its file",
		"badhelo":        "of a patch: refused HELO names; see the policy helo",
		"validrcptto":    "of a patch: recipients that exist; recipients = \"@validrcptto\" of a [[domain]]",
		"servercert.pem": "of the TLS patch; name it as certificate and key of [tls]",
		"clientcert.pem": "of the TLS patch; Postern has no certificate for next hops",
		"spfbehavior":    "of the SPF patch; see the policy spf", "spfrules": "of the SPF patch; see the policy spf",
		"tarpitcount": "of the tarpit patch; see [limits] and the policies", "tarpitdelay": "of the tarpit patch; see [limits] and the policies",
		"maxrcpt": "of a patch; recipients of [limits]", "greetdelay": "of a patch; see the policy earlytalker",
		"dnsbllist": "of a patch; zones of the policy dnsbl", "outgoingips": "of a patch; source of a [[route]]",
		"domainkeys": "of a patch; [[dkim]] signs", "simcontrol": "of simscan; policies and plugins scan",
		"concurrencyincoming": "connections at a time; connections of [limits]",
	}
}
