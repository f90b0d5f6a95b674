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
	for _, l := range q.list(c.Name) {
		key, to, ok := strings.Cut(l.text, ":")
		if !ok {
			q.note(Unused, q.at(c.Name), l.number, c.Name, "%q has no colon, and means nothing to qmail", l.text)
			continue
		}
		v, err := readVirtual(strings.ToLower(key))
		if err != nil {
			q.note(Missing, q.at(c.Name), l.number, c.Name, "%q: %v", key, err)
			continue
		}
		if v.hop = "local"; to == "" {
			v.hop = "mx"
			q.note(Differs, q.at(c.Name), l.number, c.Name, "%q is an exception, which goes by mx here, whatever smtproutes says of it", key)
		}
		kept = append(kept, l.text)
		ways = append(ways, v)
	}
	if len(kept) == 0 {
		return
	}
	q.addFile("virtualdomains", strings.Join(kept, "\n")+"\n", 0o644)
	q.doc.one("local").set("virtualdomains", []string{"@virtualdomains"}, "")
	slices.SortStableFunc(ways, func(a, b virtual) int { return a.rank - b.rank })
	for i := 0; i < len(ways); {
		n := i
		var patterns []string
		for ; n < len(ways) && ways[n].key == ways[i].key && ways[n].hop == ways[i].hop; n++ {
			patterns = append(patterns, ways[n].pattern)
		}
		q.doc.add("route", "").set(ways[i].key, slices.Compact(patterns), c.Name).set("next_hop", ways[i].hop, "")
		i = n
	}
}

// virtual is a key of virtualdomains as a route has it. The smallest rank is looked up
// first: addresses, domains, suffixes from the longest on, all others.
type virtual struct {
	key, pattern, hop string
	rank              int
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
	for _, l := range q.list(c.Name) {
		key, rest, ok := strings.Cut(l.text, ":")
		if !ok {
			q.note(Unused, q.at(c.Name), l.number, c.Name, "%q has no colon, and means nothing to qmail", l.text)
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

// route writes one of smtproutes.
func (q *qmail) route(r smtproute) {
	hop := "mx"
	if r.relay != "" {
		host, port, _ := strings.Cut(r.relay, ":")
		if strings.HasPrefix(r.relay, "[") {
			host, port, _ = strings.Cut(strings.TrimPrefix(r.relay, "["), "]")
			port = strings.TrimPrefix(port, ":")
		}
		if n, ok := scan(port); port != "" && (!ok || n < 1 || n > 65535) {
			q.note(Missing, q.at("smtproutes"), r.line, "smtproutes", "%q is no port", port)
			return
		}
		if _, err := message.ParseDomain(strings.ToLower(host)); err != nil && !strings.Contains(host, ":") {
			q.note(Missing, q.at("smtproutes"), r.line, "smtproutes", "%q is no host", host)
			return
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if hop = "smtp://" + host; port == "465" {
			hop = "smtps://" + host
		} else if port != "" {
			hop += ":" + port
		}
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
		name := fmt.Sprintf("password-%d", r.line)
		q.addFile(name, r.password+"\n", 0o600)
		t.set("auth", inline{{"user", tomlString(r.user), ""}, {"password_file", tomlString(name), ""}}, "")
		q.note(Differs, q.at("smtproutes"), r.line, "smtproutes", "the password, which is in %s, is only sent over TLS", name)
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
