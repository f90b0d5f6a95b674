package migrate

import (
	"strings"
)

// entry is a line of a table.
type entry struct {
	key, value string
	file       string
	line       int
}

// table reads a source of Postfix, TYPE:NAME, as far as it is a text: hash, btree, lmdb,
// cdb and dbm are made from the text beside them. Others are noted, once a place.
func (p *postfix) table(param, source string) (list []entry) {
	kind, name, ok := strings.Cut(source, ":")
	if !ok {
		kind, name = "list", source
		if !strings.HasPrefix(source, "/") {
			kind, name = "", source
		}
	}
	switch kind {
	case "proxy":
		return p.table(param, name)
	case "hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash", "list", "cidr", "regexp", "pcre":
	case "inline":
		for _, one := range words(strings.Trim(name, "{} ")) {
			if k, v, ok := strings.Cut(strings.Trim(one, "{} "), "="); ok {
				list = append(list, entry{strings.TrimSpace(k), strings.TrimSpace(v), p.path("main.cf"), p.set[param].line})
			}
		}
		return list
	case "static":
		p.say(Missing, param, "%s: one answer for every key", source)
		return nil
	case "unix":
		return nil // the accounts of the machine
	case "mysql", "pgsql", "sqlite", "ldap", "memcache", "socketmap", "tcp", "nis", "nisplus", "netinfo":
		p.say(Todo, param, "%s: write a [[lookup]], see docs/lookups.md", source)
		return nil
	default:
		p.say(Missing, param, "%s: tables of this type", source)
		return nil
	}
	text, found := p.read(name)
	if !found {
		p.say(Todo, param, "%s: the file %s is not there", source, p.path(name))
		return nil
	}
	for _, l := range logical(text) {
		e := entry{file: p.path(name), line: l.number}
		if kind == "regexp" || kind == "pcre" {
			if e.key, e.value, ok = cutPattern(l.text); !ok {
				p.note(Missing, e.file, e.line, l.text, "it is no /PATTERN/ with an answer")
				continue
			}
		} else {
			e.key, e.value, _ = strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
			e.value = strings.TrimSpace(e.value)
		}
		list = append(list, e)
	}
	return list
}

// isPattern tells of a source whose keys are patterns.
func isPattern(source string) bool {
	source = strings.TrimPrefix(source, "proxy:")
	return strings.HasPrefix(source, "regexp:") || strings.HasPrefix(source, "pcre:")
}

// cutPattern parts "/pattern/flags answer".
func cutPattern(s string) (pattern, answer string, ok bool) {
	if len(s) < 2 || s[0] != '/' {
		return "", "", false
	}
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		} else if s[i] == '/' {
			flags, rest, _ := strings.Cut(strings.ReplaceAll(s[i+1:], "\t", " "), " ")
			return s[1:i], strings.TrimSpace(rest), strings.Trim(flags, "imsxAEU") == ""
		}
	}
	return "", "", false
}

// transports are transport_maps, and the relay hosts of senders.
func (p *postfix) transports() {
	var addresses, names, suffixes, all []func()
	for _, source := range p.list("transport_maps") {
		for _, e := range p.table("transport_maps", source) {
			key := strings.ToLower(e.key)
			hop, note := p.nextHop(e.value)
			if hop == "" {
				p.note(Missing, e.file, e.line, e.key, "%s", note)
				continue
			}
			if note != "" {
				p.note(Differs, e.file, e.line, e.key, "%s", note)
			}
			add := func(pattern, v string) func() {
				return func() {
					p.doc.add("route", "").set(pattern, []string{v}, "transport_maps").set("next_hop", hop, "")
				}
			}
			switch {
			case isPattern(source):
				p.note(Missing, e.file, e.line, e.key, "a pattern; write to_domain or to_address of a [[route]]")
			case strings.Contains(key, "@"):
				addresses = append(addresses, add("to_address", key))
			case key == "*":
				all = append(all, add("to_domain", "*"))
				p.routed = true
			case isDomain(strings.TrimPrefix(key, ".")) && key[0] == '.':
				suffixes = append(suffixes, add("to_domain", "*"+key))
			case isDomain(key):
				names = append(names, add("to_domain", key))
			default:
				p.note(Missing, e.file, e.line, e.key, "it is neither a domain nor an address")
			}
		}
	}
	for _, list := range [][]func(){addresses, names, suffixes} {
		for _, f := range list {
			f()
		}
	}
	p.lastRoutes = all
	for _, source := range p.list("sender_dependent_relayhost_maps") {
		for _, e := range p.table("sender_dependent_relayhost_maps", source) {
			hop, _ := p.nextHop("smtp:" + e.value)
			if domain, ok := strings.CutPrefix(strings.ToLower(e.key), "@"); ok && isDomain(domain) && hop != "" {
				p.senderRoutes = append(p.senderRoutes, senderRoute{"from_domain", domain, hop})
			} else if strings.Contains(e.key, "@") && hop != "" {
				p.senderRoutes = append(p.senderRoutes, senderRoute{"from_address", strings.ToLower(e.key), hop})
			} else {
				p.note(Missing, e.file, e.line, e.key, "it is neither @domain nor an address")
			}
		}
	}
}

type senderRoute struct{ key, value, hop string }

// nextHop is what TRANSPORT:NEXTHOP means; "" where nothing here does, with the reason.
func (p *postfix) nextHop(s string) (hop, note string) {
	s, _, _ = strings.Cut(s, " ")
	transport, to, _ := strings.Cut(s, ":")
	switch transport {
	case "smtp", "relay", "":
		if to == "" {
			return "mx", ""
		}
		host, port := to, ""
		if strings.HasPrefix(to, "[") {
			host, port, _ = strings.Cut(to[1:], "]")
			port = strings.TrimPrefix(port, ":")
			host = strings.TrimPrefix(host, "ipv6:")
		} else {
			host, port, _ = strings.Cut(to, ":")
			note = to + ": without brackets its mail exchangers are meant; here it is the host itself"
		}
		if port == "submission" {
			port = "587"
		}
		if n, ok := scan(port); port != "" && port != "smtp" && (!ok || n < 1 || n > 65535) || host == "" {
			return "", to + " is no host and port"
		}
		if port == "smtp" || port == "" {
			port = "25"
		}
		scheme := "smtp"
		if port == "465" {
			scheme = "smtps"
		}
		return scheme + "://" + bracketed(host) + ":" + port, note
	case "lmtp":
		if path, ok := strings.CutPrefix(to, "unix:"); ok {
			return "lmtp://" + p.socket(path), ""
		}
		to = strings.NewReplacer("inet:", "", "[", "", "]", "").Replace(to)
		host, port, _ := cutLast(to, ":")
		if port == "" {
			host, port = to, "24"
		}
		if host == "" {
			return "", "lmtp without a server"
		}
		return "lmtp://" + bracketed(host) + ":" + port, ""
	case "local", "virtual":
		return "local", ""
	case "discard":
		return "discard", ""
	case "error", "retry":
		return "", s + ": write a policy that refuses, such as badrcptto"
	}
	return "", s + ": the transport " + transport + " is a service of master.cf"
}

// socket is the path of a socket, which Postfix takes from its queue's folder.
func (p *postfix) socket(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	dir := p.value("queue_directory")
	if dir == "" {
		dir = "/var/spool/postfix"
	}
	return dir + "/" + path
}

// to is the route of domains by a parameter that names a transport.
func (p *postfix) to(names []string, param string) {
	if len(names) == 0 {
		return
	}
	hop, note := p.nextHop(p.value(param))
	if hop == "" {
		p.say(Todo, param, "%s; write next_hop of the [[route]]", note)
		return
	}
	if note != "" {
		p.say(Differs, param, "%s", note)
	}
	if hop == "local" {
		p.say(Differs, param, "mail goes into Maildirs below data_dir, or to users as [local] says; virtual_mailbox_base is not looked at")
	}
	p.doc.add("route", "").set("to_domain", names, param).set("next_hop", hop, "")
}

// ways are the routes of all other mail.
func (p *postfix) ways() {
	for _, r := range p.senderRoutes {
		p.doc.add("route", "").set(r.key, []string{r.value}, "sender_dependent_relayhost_maps").set("next_hop", r.hop, "")
	}
	for _, f := range p.lastRoutes {
		f()
	}
	hop, note, from := "mx", "", "default_transport"
	if v := p.value("relayhost"); v != "" {
		hop, note = p.nextHop("smtp:" + v)
		from = "relayhost"
		if note != "" {
			p.say(Differs, "relayhost", "%s", note)
		}
	}
	if hop == "" {
		hop = "mx"
	}
	if !p.routed {
		t := p.doc.add("route", "").set("to_domain", []string{"*"}, from).set("next_hop", hop, "")
		p.login(t, p.value("relayhost"))
	}
	level := map[string]string{"none": "none", "may": "may", "encrypt": "encrypt", "verify": "verify", "secure": "verify", "dane": "may", "dane-only": "encrypt", "fingerprint": "encrypt"}[p.value("smtp_tls_security_level")]
	if level == "" {
		level = "none" // as Postfix has it
	}
	for _, r := range p.doc.all("route") {
		if v := r.value("next_hop"); strings.HasPrefix(v, `"smtp`) || v == `"mx"` {
			if r.has("auth") && level == "none" {
				r.set("tls", "may", "")
				p.say(Differs, "smtp_sasl_auth_enable", "the password is only sent over TLS")
				continue
			}
			r.set("tls", level, "smtp_tls_security_level")
		}
	}
	if v := p.value("smtp_tls_security_level"); strings.HasPrefix(v, "dane") || v == "fingerprint" || v == "secure" {
		p.say(Differs, "smtp_tls_security_level", "%s is %s here", v, level)
	}
}

// value is a key's value as it stands in the file.
func (t *section) value(key string) string {
	for _, r := range t.rows {
		if r.key == key {
			return r.value
		}
	}
	return ""
}

// login is what smtp_sasl_password_maps has for a relay host.
func (p *postfix) login(t *section, relayhost string) {
	if p.value("smtp_sasl_auth_enable") != "yes" || relayhost == "" {
		return
	}
	bare, _, _ := strings.Cut(strings.Trim(relayhost, "[]"), "]")
	for _, source := range p.list("smtp_sasl_password_maps") {
		for _, e := range p.table("smtp_sasl_password_maps", source) {
			if e.key != relayhost && e.key != bare && strings.Trim(e.key, "[]") != bare {
				continue
			}
			user, pass, ok := strings.Cut(e.value, ":")
			if !ok || user == "" {
				continue
			}
			p.addFile("password-relayhost", pass+"\n", 0o600)
			t.set("auth", inline{{"user", tomlString(user), ""}, {"password_file", tomlString("password-relayhost"), ""}}, "smtp_sasl_password_maps")
			return
		}
	}
	p.say(Todo, "smtp_sasl_password_maps", "no login for %s was found; write auth of the [[route]]", relayhost)
}
