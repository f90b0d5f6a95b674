package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Haraka reads Haraka's folder, or its config folder.
func Haraka(dir string) (*Result, error) {
	f, err := newFilter(dir, "plugins")
	if err != nil {
		return nil, err
	}
	f.doc.head = []string{"Made from Haraka's " + f.dir + ".", "Look through it and through the report of what differs, and run: postern check"}
	server := f.doc.one("server").set("data_dir", "/var/lib/postern", "")
	if me, ok := f.read("me"); ok && len(lines(me)) > 0 {
		server.set("hostname", strings.ToLower(lines(me)[0].text), "me")
	}
	f.harakaListeners()
	f.harakaFiles()
	f.plugins("plugins", 0, func(p plugin) {
		if now, ok := harakaNames()[p.name]; ok {
			p.name = now
		}
		p.name = strings.TrimPrefix(p.name, "haraka-plugin-")
		f.apply(p, harakaPlugins())
	})
	return f.finish()
}

// harakaListeners are those of smtp.ini.
func (f *filter) harakaListeners() {
	smtp := f.ini("smtp.ini")
	at := smtp.get("main", "listen")
	if at == "" {
		host, port := smtp.get("main", "listen_host"), smtp.get("main", "port")
		if port == "" {
			port = "25"
		}
		at = "[" + strings.Trim(host, "[]") + "]:" + port
	}
	n := 0
	for one := range strings.SplitSeq(at, ",") {
		host, port, ok := cutLast(strings.TrimSpace(one), ":")
		host = strings.Trim(host, "[]")
		if v, numeric := scan(port); !ok || !numeric || v < 1 || v > 65535 {
			f.note(Missing, f.path("smtp.ini"), smtp["main"]["listen"].line, "listen", "%q is no address and port", one)
			continue
		}
		if host == "::0" || host == "0.0.0.0" || host == "::" {
			host = ""
		}
		n++
		l := f.doc.add("listen", "").set("name", fmt.Sprintf("smtp%d", n), "").set("address", bracketed(host + ":")[:0]+joinPort(host, port), "smtp.ini")
		switch port {
		case "587":
			l.set("protocol", "submission", "")
		case "465":
			l.set("protocol", "submission", "").set("tls", "implicit", "")
		}
	}
	if v, ok := scan(smtp.get("main", "inactivity_timeout")); ok && v > 0 {
		f.doc.one("limits").set("command_timeout", fmt.Sprintf("%ds", v), "smtp.ini")
	}
	for _, key := range []string{"user", "group", "nodes", "daemonize", "public_ip", "spool_dir", "spool_after"} {
		if v, ok := smtp["main"][key]; ok {
			kind, text := Unused, "it has no counterpart and needs none"
			switch key {
			case "user":
				kind, text = Todo, "user of [server]: "+v.text
			case "public_ip":
				kind, text = Missing, "it is not asked for"
			}
			f.note(kind, f.path("smtp.ini"), v.line, key, "%s", text)
		}
	}
}

func joinPort(host, port string) string {
	if host == "" {
		return ":" + port
	}
	return bracketed(host) + ":" + port
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// harakaFiles are files of the server itself.
func (f *filter) harakaFiles() {
	connection := f.ini("connection.ini")
	if n, ok := scan(connection.get("max", "bytes")); ok && n > 0 {
		f.doc.one("limits").set("message_size", n, "connection.ini")
	}
	for _, c := range []ini{f.ini("smtp.ini"), connection} {
		if n, ok := scan(c.get("headers", "max_received")); ok && n > 0 {
			f.doc.one("limits").set("hops", n, "max_received")
		}
	}
	if text, ok := f.read("max_received_count"); ok {
		if n, ok := scan(strings.TrimSpace(text)); ok && n > 0 {
			f.doc.one("limits").set("hops", n, "max_received_count")
		}
	}
	if text, ok := f.read("databytes"); ok {
		if n, ok := scan(strings.TrimSpace(text)); ok && n > 0 {
			f.doc.one("limits").set("message_size", n, "databytes")
		}
	}
	if text, ok := f.read("smtpgreeting"); ok && len(lines(text)) > 0 {
		if _, rest, _ := strings.Cut(lines(text)[0].text, " "); strings.TrimSpace(rest) != "" {
			for _, l := range f.doc.all("listen") {
				l.set("greeting", strings.TrimSpace(rest), "smtpgreeting")
			}
		}
	}
	if text, ok := f.read("haproxy_hosts"); ok {
		f.networks("haproxy_hosts", text, "proxy_from")
	}
	if hosts := connection.get("haproxy", "hosts"); hosts != "" {
		f.networks("connection.ini", strings.ReplaceAll(hosts, ",", "\n"), "proxy_from")
	}
	if out := f.ini("outbound.ini"); len(out["main"]) > 0 {
		if v, ok := scan(out.get("main", "concurrency_max")); ok && v > 0 {
			f.doc.one("delivery").set("concurrency_remote", v, "outbound.ini")
		}
		for key := range sorted(out["main"]) {
			if key != "concurrency_max" {
				f.note(Todo, f.path("outbound.ini"), out["main"][key].line, key, "[queue] and [delivery] say how mail is sent on")
			}
		}
	}
	for name, text := range sorted(map[string]string{
		"plugin_timeout": "timeout of each [[policy]]", "loglevel": "level of [log]", "log.ini": "[log]", "tarpit.timeout": "a policy can wait", "outbound.bounce_message": "bounces have words of their own",
		"http.ini": "[console]", "redis.ini": "[store] engine = \"redis://…\"", "internalcmd_key": "the control socket",
	}) {
		if name == "redis.ini" {
			f.redis()
		} else if exists(f.path(name)) {
			f.note(Todo, f.path(name), 0, name, "%s", text)
		}
	}
	slices.SortStableFunc(f.notes, func(a, b Note) int { return strings.Compare(a.File, b.File) })
}

// redis is the store that policies share, where redis.ini names one.
func (f *filter) redis() {
	c := f.ini("redis.ini")
	host, port, db := "", "", ""
	for _, section := range []string{"main", "server"} {
		for key, to := range map[string]*string{"host": &host, "port": &port, "db": &db, "database": &db} {
			if v := c.get(section, key); v != "" {
				*to = v
			}
		}
	}
	if !exists(f.path("redis.ini")) {
		return
	}
	f.note(Todo, f.path("redis.ini"), 0, "redis.ini", "[store] engine = \"redis://%s:%s/%s\", where several nodes share what they know; the embedded store needs none", bracketed(cmp.Or(host, "127.0.0.1")), cmp.Or(port, "6379"), cmp.Or(db, "0"))
}

// networks sets a key of all listeners to the networks in a file.
func (f *filter) networks(name, text, key string) {
	var list []string
	for _, l := range lines(text) {
		if n, ok := network(l.text); ok {
			list = append(list, n)
		} else {
			f.note(Missing, f.path(name), l.number, l.text, "it is no network")
		}
	}
	if len(list) > 0 {
		for _, l := range f.doc.all("listen") {
			l.set(key, list, name)
		}
	}
}

// harakaNames are plugins that had another name.
func harakaNames() map[string]string {
	return map[string]string{
		"connect.asn": "asn", "connect.fcrdns": "fcrdns", "connect.geoip": "geoip", "connect.p0f": "p0f", "connect.rdns_access": "access",
		"data.dkim_sign": "dkim", "data.dkim_verify": "dkim", "dkim_sign": "dkim", "dkim_verify": "dkim", "data.headers": "headers", "data.uribl": "uribl",
		"data.rfc5322_header_checks": "headers", "data.noreceived": "headers", "data.nomsgid": "headers", "dnsbl": "dns-list", "dns_list_base": "dns-list", "dnswl": "dns-list", "dns-lists": "dns-list", "data.attachment": "attachment",
		"lookup_rdns.strict": "fcrdns", "rdns.regexp": "access", "mail_from.access": "access", "rcpt_to.access": "access", "mail_from.blocklist": "access", "rcpt_to.blocklist": "access",
		"mail_from.nobounces": "bounce", "rcpt_to.max_count": "limit", "max_unrecognized_commands": "limit", "rate_limit": "limit", "connect.concurrency": "limit",
		"rcpt_to.qmail_deliverable": "qmail-deliverable", "rcpt_to.ldap": "rcpt-ldap", "rcpt_to.routes": "recipient-routes", "relay_acl": "relay", "relay_all": "relay", "relay_force_routing": "relay",
		"bounce": "bounce", "clamd": "clamd", "auth/auth_ldap": "auth-ldap", "greylist": "greylist", "rcpt_to.host_list_base": "rcpt_to.in_host_list", "log.syslog": "syslog", "early_talker": "early_talker", "known-senders": "known-senders",
	}
}

// harakaPlugins is what becomes of each plugin that comes with Haraka, or is known to it.
func harakaPlugins() map[string]target {
	todo := func(text string) target { return target{kind: Todo, text: text} }
	missing := func(text string) target { return target{kind: Missing, text: text} }
	unused := func(text string) target { return target{kind: Unused, text: text} }
	auth := todo("a policy for stage auth asks services, [[auth]] reads password files, see docs/from-haraka.md")
	return map[string]target{
		"auth/flat_file":   todo("auth_flat_file.ini has passwords as they are: make hashes of them with `postern passwd`, and name the file in an [[auth]]; methods is `auth` of the [[listen]]"),
		"auth/auth_bridge": auth, "auth/auth_proxy": auth, "auth/auth_vpopmaild": auth, "auth-ldap": auth, "auth-imap": auth, "auth/auth_base": {},
		"access":  {take: once(takeHarakaAccess)},
		"aliases": {take: takeAliases},
		"asn":     todo("[geoip] databases, and the policies geoip and asn"), "geoip": todo("[geoip] databases, and the policies geoip and asn"),
		"attachment":              {use: "attachment", take: takeAttachment},
		"block_me":                {use: "block_me", take: takeBlockMe},
		"bounce":                  {use: "bounce", take: takeBounce},
		"clamd":                   {take: takeScanner("clamd", "clamd.ini", "clamd_socket", "", "")},
		"rspamd":                  {take: takeScanner("rspamd", "rspamd.ini", "host", "port", "11333")},
		"spamassassin":            {take: takeScanner("spamassassin", "spamassassin.ini", "spamd_socket", "", "")},
		"data.signatures":         {use: "content_signatures", take: takeLines("signatures", "data.signatures")},
		"delay_deny":              {kind: Differs, text: "each [[policy]] in front of rcpt has deny_at = \"rcpt\"", take: takeDelayDeny},
		"dkim":                    {use: "dkim", kind: Todo, text: "keys to sign with (config/dkim/DOMAIN) are written as [[dkim]]"},
		"dns-list":                {take: once(takeDNSList)},
		"early_talker":            {use: "earlytalker", take: takeEarlyTalker},
		"fcrdns":                  {use: "fcrdns", take: takeFcrdns},
		"greylist":                {use: "greylist", take: takeHarakaGreylist},
		"headers":                 {use: "headers", take: takeHarakaHeaders},
		"helo.checks":             {use: "helo", take: takeHeloChecks},
		"karma":                   {use: "karma", kind: Differs, text: "karma.ini is not read: what policies find has points of their own, see docs/scoring.md, and the history of clients begins anew"},
		"known-senders":           {use: "known_senders"},
		"limit":                   {take: once(takeLimit)},
		"mail_from.is_resolvable": {use: "mail_from_resolvable", take: takeResolvable},
		"messagesniffer":          missing("this scanner is not called"), "esets": missing("this scanner is not called"), "avg": missing("this scanner is not called"), "dcc": missing("this scanner is not called"),
		"mongodb": missing("mail is kept in the queue alone"), "accounting-files": unused("the recorder and the log"), "elasticsearch": unused("the log as JSON"), "graph": unused("[console] and its metrics"),
		"p0f":                      missing("no p0f"),
		"prevent_credential_leaks": {use: "prevent_credential_leaks"},
		"process_title":            unused("postern top"), "profile": unused("postern profile"), "status": unused("postern status"), "watch": unused("postern top"), "syslog": unused("[log]"), "reseed_rng": {}, "redis": todo("[store] engine = \"redis://…\""),
		"queue/discard":             {take: func(f *filter, p plugin, _ *section) { f.way("discard", p.name) }},
		"queue/deliver":             {take: func(f *filter, p plugin, _ *section) { f.way("mx", p.name) }},
		"queue/lmtp":                {take: takeNextHop("lmtp.ini", "lmtp", "24")},
		"queue/smtp_forward":        {take: takeNextHop("smtp_forward.ini", "smtp", "25")},
		"queue/smtp_proxy":          {take: takeNextHop("smtp_proxy.ini", "smtp", "25")},
		"queue/smtp_bridge":         todo("a [[route]] with its host"),
		"queue/qmail-queue":         {take: takeOtherQueue("qmail")},
		"queue/quarantine":          unused("`postern quarantine`"),
		"queue/test":                missing("no mail is written to files"),
		"qmail-deliverable":         todo("recipients = \"callout\" of a [[domain]], or \"lookup:NAME\""),
		"rcpt-ldap":                 todo("a [[lookup]] of type ldap, and recipients = \"lookup:NAME\" of the [[domain]]"),
		"rcpt-postgresql":           todo("a [[lookup]] of type postgresql, and recipients = \"lookup:NAME\" of the [[domain]]"),
		"recipient-routes":          {take: takeRecipientRoutes},
		"rcpt_to.in_host_list":      {take: takeHostList},
		"record_envelope_addresses": {use: "record_envelope"},
		"relay":                     {take: takeHarakaRelay},
		"spf":                       {use: "spf", take: takeHarakaSPF},
		"srs":                       todo("[srs], and srs = true of the [[route]]"),
		"tarpit":                    {use: "tarpit"},
		"tls":                       {take: takeHarakaTLS},
		"toobusy":                   {use: "loadcheck"},
		"uribl":                     {use: "uribl", take: takeHarakaURIBL},
		"xclient":                   {take: func(f *filter, _ plugin, _ *section) { f.lineNetworks("xclient.hosts", "xclient_from") }},
	}
}

// once is for plugins that stand in the list under several names, of before and now.
func once(take func(*filter, plugin, *section)) func(*filter, plugin, *section) {
	return func(f *filter, p plugin, t *section) {
		if f.taken[p.name] {
			return
		}
		if f.taken == nil {
			f.taken = map[string]bool{}
		}
		f.taken[p.name] = true
		take(f, p, t)
	}
}

func takeLines(key, file string) func(*filter, plugin, *section) {
	return func(f *filter, _ plugin, t *section) {
		text, _ := f.read(file)
		list := []string{}
		for _, l := range lines(text) {
			list = append(list, l.text)
		}
		t.set(key, list, file)
	}
}

func (f *filter) lineNetworks(file, key string) {
	if text, ok := f.read(file); ok {
		f.networks(file, text, key)
	}
}

// takeHarakaAccess reads the lists of plugin access: PHASE.SUBJECT.KIND, each line a
// name, in those ending in _regex a pattern.
func takeHarakaAccess(f *filter, p plugin, _ *section) {
	subjects := map[string]string{
		"connect.rdns_access": "name", "connect.ip": "client", "helo.checks": "helo", "mail_from.access": "sender", "rcpt_to.access": "recipient",
	}
	verbs := map[string]string{"whitelist": "allow", "allow": "allow", "blacklist": "deny", "block": "deny", "blocklist": "deny", "allowlist": "allow"}
	var rules []string
	for prefix := range sorted(subjects) {
		for word, verb := range sorted(verbs) {
			for _, end := range []string{"", "_regex"} {
				name := prefix + "." + word + end
				text, _ := f.read(name)
				for _, l := range lines(text) {
					subject, v := subjects[prefix], l.text
					switch n, isNet := network(v); {
					case isNet && end == "":
						subject, v = "client", n
					case end != "":
						v = "/^(?:" + v + ")$/"
					}
					if strings.ContainsAny(v, " \t") {
						f.note(Missing, f.path(name), l.number, l.text, "a value with a blank in it")
						continue
					}
					rules = append(rules, verb+" "+subject+" "+v)
				}
			}
		}
	}
	domains, _ := f.read("access.domains")
	for _, l := range lines(domains) {
		verb, v := "deny", l.text
		if v[0] == '!' {
			verb, v = "allow", v[1:]
		}
		rules = append(rules, verb+" any "+strings.ToLower(v))
	}
	slices.Sort(rules)
	if len(rules) == 0 {
		f.note(Unused, p.file, p.line, p.name, "it has no lists")
	}
	f.access(p, "access.txt", rules)
}

// takeAliases reads the JSON of plugin aliases: a name, and what it does.
func takeAliases(f *filter, p plugin, _ *section) {
	text, ok := f.read("aliases")
	for _, name := range []string{"aliases.json", "aliases.yaml", "aliases.yml"} {
		if !ok {
			text, ok = f.read(name)
		}
	}
	var table map[string]struct {
		Action string
		To     any
	}
	if err := yaml.Unmarshal([]byte(untabbed(text)), &table); !ok || len(text) > maxTree || err != nil { // JSON is YAML
		f.note(Todo, p.file, p.line, p.name, "config/aliases can't be read: %v", err)
		return
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(table)) {
		one := table[name]
		var to []string
		switch v := one.To.(type) {
		case string:
			to = []string{v}
		case []any:
			for _, a := range v {
				to = append(to, fmt.Sprint(a))
			}
		}
		if one.Action != "alias" || len(to) == 0 || strings.ContainsAny(name+strings.Join(to, ""), " \t\r\n") {
			f.note(Missing, f.path("aliases"), 0, name, "action %q; a policy can discard", one.Action)
			continue
		}
		out = append(out, name+" "+strings.Join(to, " "))
	}
	if len(out) > 0 {
		f.addFile("aliases", strings.Join(out, "\n")+"\n", 0o644)
		f.policy("aliases", p).set("lines", "aliases", "")
	}
}
