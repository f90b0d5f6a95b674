package migrate

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// postfix is a reading of main.cf and master.cf.
type postfix struct {
	filter
	set          map[string]setting
	order        []string
	used         map[string]bool
	callout      bool
	accessAt     plugin
	access       []string // rules of the policy of that name
	zones        map[string]*section
	listed       map[string][]string // lists that a policy of zones asks
	lastRoutes   []func()
	senderRoutes []senderRoute
}

// Postfix reads /etc/postfix, or a folder like it.
func Postfix(dir string) (*Result, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p := &postfix{filter: filter{source: source{dir: dir, was: "/etc/postfix"}}, used: map[string]bool{}, zones: map[string]*section{}}
	text, ok := p.read("main.cf")
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: there is no file main.cf", dir), errors.Join(p.errs...))
	}
	var wrong []line
	p.set, p.order, wrong = readMain(text)
	for _, l := range wrong {
		p.note(Unknown, p.path("main.cf"), l.number, l.text, "it is no setting")
	}
	p.doc.head = []string{"Made from Postfix's " + p.dir + ".", "Look through it and through the report of what differs, and run: postern check"}
	p.doc.one("server").set("data_dir", "/var/lib/postern", "")
	p.listeners()
	for _, name := range p.order {
		if take := postfixParameters()[name]; take != nil {
			take(p, name)
			p.used[name] = true
		}
	}
	if !p.used["myhostname"] {
		p.note(Todo, p.path("main.cf"), 0, "myhostname", "it is not set; hostname of [server] is the machine's name unless you write one")
	}
	p.ourDomains()
	p.restrictions()
	p.ways()
	p.rest()
	return p.end()
}

// raw is a parameter as it is set; the default where it is not.
func (p *postfix) raw(name string) string {
	if s, ok := p.set[name]; ok {
		return s.text
	}
	switch name {
	case "mydomain":
		if _, rest, ok := strings.Cut(p.value("myhostname"), "."); ok && strings.Contains(rest, ".") {
			return rest
		}
		return p.value("myhostname")
	}
	return map[string]string{
		"mydestination": "$myhostname, localhost.$mydomain, localhost", "myorigin": "$myhostname", "mail_name": "Postfix", "config_directory": p.dir,
		"virtual_alias_domains": "$virtual_alias_maps", "smtpd_banner": "$myhostname ESMTP $mail_name", "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
		"default_database_type": "hash", "relay_transport": "relay", "default_transport": "smtp", "virtual_transport": "virtual", "mail_spool_directory": "/var/mail",
	}[name]
}

// value is a parameter, expanded.
func (p *postfix) value(name string) string {
	if name == "mydomain" && p.set["mydomain"].text == "" {
		if host := p.set["myhostname"].text; strings.Contains(host, "$mydomain") {
			return ""
		}
	}
	return strings.TrimSpace(expand(p.raw(name), p.raw))
}

func (p *postfix) list(name string) []string { return words(p.value(name)) }

func (p *postfix) say(kind Kind, name, format string, args ...any) {
	p.note(kind, p.path("main.cf"), p.set[name].line, name, format, args...)
}

// listeners are the services of master.cf that speak SMTP.
func (p *postfix) listeners() {
	text, ok := p.read("master.cf")
	if !ok {
		p.doc.add("listen", "").set("name", "smtp", "").set("address", ":25", "")
		p.note(Todo, p.path("master.cf"), 0, "master.cf", "it is not there; one [[listen]] at port 25 is written")
		return
	}
	services, wrong := readMaster(text)
	for _, l := range wrong {
		p.note(Unknown, p.path("master.cf"), l.number, l.text, "it is no service")
	}
	for _, s := range services {
		switch {
		case s.kind == "inet" && (s.command == "smtpd" || s.command == "postscreen"):
			p.listen(s)
		case s.kind == "inet" && s.command == "qmqpd":
			p.doc.add("listen", "").set("name", s.name, "").set("address", p.at(s.name, "628"), "master.cf").set("protocol", "qmqp", "")
		case s.command == "pipe":
			p.note(Todo, p.path("master.cf"), s.line, s.name, "a program: next_hop = \"pipe:…\" of a [[route]], see docs/local.md")
		case s.kind == "inet" || s.command == "spawn" || s.command == "proxymap" && s.kind == "inet":
			p.note(Missing, p.path("master.cf"), s.line, s.name, "the service %s", s.command)
		}
	}
}

// at is the address of a service: host:port, where port may be a name.
func (p *postfix) at(name, port string) string {
	host, service, ok := cutLast(name, ":")
	if !ok {
		host, service = "", name
	}
	if n, known := map[string]string{"smtp": "25", "smtps": "465", "submissions": "465", "submission": "587", "qmqp": "628"}[service]; known {
		port = n
	} else if _, numeric := scan(service); numeric {
		port = service
	}
	host = strings.Trim(host, "[]")
	if inet := p.value("inet_interfaces"); host == "" && (inet == "loopback-only" || inet == "localhost" || inet == "127.0.0.1") {
		host = "127.0.0.1"
	} else if f := words(inet); host == "" && len(f) > 0 && inet != "all" {
		host = strings.Trim(f[0], "[]")
		if len(f) > 1 {
			p.say(Todo, "inet_interfaces", "a [[listen]] for each address: %s", inet)
		}
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return joinPort(host, port)
}

func (p *postfix) listen(s service) {
	option := func(name string) string {
		if v, ok := s.option(name); ok {
			return expand(v, p.raw)
		}
		return p.value(name)
	}
	address := p.at(s.name, "25")
	l := p.doc.add("listen", "").set("name", strings.NewReplacer(":", "-", "[", "", "]", "").Replace(s.name), "").set("address", address, fmt.Sprintf("master.cf:%d", s.line))
	_, port, _ := cutLast(address, ":")
	if port == "465" || port == "587" || strings.Contains(option("smtpd_client_restrictions")+option("smtpd_relay_restrictions")+option("smtpd_recipient_restrictions"), "permit_sasl_authenticated,reject") {
		l.set("protocol", "submission", "")
	}
	switch level := option("smtpd_tls_security_level"); {
	case option("smtpd_tls_wrappermode") == "yes":
		l.set("tls", "implicit", "")
	case level == "encrypt":
		l.set("tls", "required", "")
	case level == "none" || level == "" && option("smtpd_use_tls") != "yes":
		l.set("tls", "off", "")
	}
	if v := option("smtpd_upstream_proxy_protocol"); v == "haproxy" || s.command == "postscreen" && p.value("postscreen_upstream_proxy_protocol") == "haproxy" {
		p.note(Todo, p.path("master.cf"), s.line, s.name, "proxy_from of the [[listen]]: the addresses of the proxies")
	}
	if strings.Contains(option("smtpd_sender_restrictions"), "reject_sender_login_mismatch") || strings.Contains(option("smtpd_sender_restrictions"), "reject_authenticated_sender_login_mismatch") {
		l.set("sender_check", "user", "")
		p.note(Differs, p.path("master.cf"), s.line, s.name, "users may send as the address that is their name; smtpd_sender_login_maps is sender_check = \"@file\"")
	}
	if option("smtpd_sasl_auth_enable") == "yes" {
		p.note(Todo, p.path("master.cf"), s.line, "smtpd_sasl_auth_enable", "users are those of an [[auth]], a password file; or of a policy at stage auth")
	}
	for i, a := range s.args {
		name, v, ok := strings.Cut(strings.Trim(strings.TrimPrefix(a, "-o"), "{} "), "=")
		if ok && (a != name || i > 0) && strings.HasSuffix(name, "_restrictions") && v != "" && !strings.HasPrefix(v, "$") && !strings.Contains(v, "permit_sasl_authenticated,reject") {
			p.note(Differs, p.path("master.cf"), s.line, name, "policies are for all listeners; when = { listener = [\"%s\"] } limits one", s.name)
		}
	}
}

// ourDomains are those of mydestination, relay_domains and the virtual ones.
func (p *postfix) ourDomains() {
	valid := func(name string) (list []string) {
		for _, d := range p.list(name) {
			switch lower := strings.ToLower(d); {
			case strings.Contains(d, ":") || strings.HasPrefix(d, "/"):
				for _, e := range p.table(name, d) {
					if k := strings.ToLower(e.key); isDomain(strings.TrimPrefix(k, ".")) {
						list = append(list, belowDot(k))
					}
				}
			case isDomain(strings.TrimPrefix(lower, ".")):
				list = append(list, belowDot(lower))
			default:
				p.say(Missing, name, "%q is no domain", d)
			}
		}
		return list
	}
	seen := map[string]bool{}
	entry := func(param, note, recipients string) (names []string) {
		for _, d := range valid(param) {
			if d != "localhost" && !seen[d] {
				seen[d] = true
				names = append(names, d)
			}
		}
		if len(names) == 0 {
			return nil
		}
		t := p.doc.add("domain", note)
		if len(names) == 1 {
			t.set("name", names[0], param)
		} else {
			t.set("name", p.file(param, strings.Join(names, "\n")+"\n"), "")
		}
		if recipients != "" {
			p.recipients(t, recipients, names)
		}
		if sep := p.value("recipient_delimiter"); sep != "" && t.has("recipients") {
			t.set("subaddress", sep[:1], "recipient_delimiter")
		}
		return names
	}
	local := entry("mydestination", "mydestination", "local_recipient_maps")
	hosted := entry("virtual_mailbox_domains", "virtual_mailbox_domains", "virtual_mailbox_maps")
	relayed := entry("relay_domains", "relay_domains", "relay_recipient_maps")
	alias := entry("virtual_alias_domains", "virtual_alias_domains: every address of these is an alias", "")
	p.transports()
	p.to(hosted, "virtual_transport")
	p.to(relayed, "relay_transport")
	if len(local) > 0 {
		if v := p.value("mailbox_transport"); v != "" {
			p.to(local, "mailbox_transport")
		} else {
			p.doc.add("route", "").set("to_domain", local, "mydestination").set("next_hop", "local", "")
			p.doc.one("local").set("users", []string{"system"}, "the accounts of this machine")
			p.note(Differs, p.path("main.cf"), p.set["mydestination"].line, "local", "mail goes into ./Maildir/ of a user, or where its .qmail file says; .forward and mail_spool_directory are not looked at: default_delivery of [local]")
		}
	}
	if len(alias) > 0 {
		p.doc.add("route", "what no alias sends elsewhere").set("to_domain", alias, "virtual_alias_domains").set("next_hop", "local", "")
	}
	p.aliases()
}

func belowDot(d string) string {
	if rest, ok := strings.CutPrefix(d, "."); ok {
		return "*." + rest
	}
	return d
}

// recipients are who exists at domains, from the keys of tables.
func (p *postfix) recipients(t *section, param string, names []string) {
	if p.callout {
		t.set("recipients", "callout", "reject_unverified_recipient")
		return
	}
	var list []string
	for _, source := range p.list(param) {
		for _, e := range p.table(param, source) {
			key := strings.ToLower(e.key)
			if domain, all := strings.CutPrefix(key, "@"); all && slices.Contains(names, domain) {
				p.note(Differs, p.path("main.cf"), p.set[param].line, param, "%s: every recipient of the domain exists, so that the list is not used", key)
				return
			}
			list = append(list, key)
		}
	}
	if len(list) == 0 {
		return
	}
	p.addFile(param, strings.Join(list, "\n")+"\n", 0o644)
	t.set("recipients", "@"+param, "")
}

// aliases are the tables that write other recipients.
func (p *postfix) aliases() {
	var out []string
	for _, param := range []string{"virtual_alias_maps", "alias_maps", "recipient_canonical_maps", "canonical_maps"} {
		for _, source := range p.list(param) {
			for _, e := range p.table(param, source) {
				to := words(strings.ReplaceAll(e.value, ",", " "))
				name := strings.ToLower(e.key)
				if param == "alias_maps" {
					name = strings.TrimSuffix(name, ":") + "@"
				} else if !strings.Contains(name, "@") {
					name += "@"
				}
				if strings.ContainsAny(e.value, "|\"/:{") || len(to) == 0 || strings.ContainsAny(name, " \t") {
					p.note(Missing, e.file, e.line, e.key, "a program, a file, or an :include: (%s)", e.value)
					continue
				}
				out = append(out, name+" "+strings.Join(to, " "))
			}
		}
		p.used[param] = true
	}
	if len(out) == 0 {
		return
	}
	p.addFile("aliases", strings.Join(out, "\n")+"\n", 0o644)
	t := p.doc.add("policy", "").set("use", "aliases", "virtual_alias_maps, alias_maps").set("lines", "aliases", "")
	if sep := p.value("recipient_delimiter"); sep != "" {
		t.set("separator", sep[:1], "")
	}
}

// end puts policies in an order that lets in, refuses, and writes, and finishes.
func (p *postfix) end() (*Result, error) {
	slices.SortStableFunc(p.doc.tables, func(a, b *section) int {
		last := func(t *section) int {
			switch {
			case t.name == "policy" && t.rows[0].value == `"aliases"`:
				return 1
			case t.name == "policy" && t.rows[0].value == `"access"`:
				return -1
			}
			return 0
		}
		return last(a) - last(b)
	})
	if len(p.relay) > 0 {
		for _, l := range p.doc.all("listen") {
			l.set("relay_from", p.relay, "mynetworks")
		}
	}
	return p.result()
}
