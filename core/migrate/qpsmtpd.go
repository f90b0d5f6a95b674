package migrate

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// plugin is a line of config/plugins, of qpsmtpd or Haraka.
type plugin struct {
	name string
	args []string
	file string
	line int
}

// arg is the value behind a name among the arguments.
func (p plugin) arg(names ...string) (string, bool) {
	for i, a := range p.args {
		if k, v, ok := strings.Cut(a, "="); ok && slices.Contains(names, k) {
			return v, true
		}
		if slices.Contains(names, a) && i+1 < len(p.args) {
			return p.args[i+1], true
		}
	}
	return "", false
}

// filter is what both predecessors of this kind share.
type filter struct {
	source
	policies []*section
	routed   bool
	domains  []string
	relay    []string

	naughty    string          // deny_at, as the plugin naughty has it; "": as it is by default
	taken      map[string]bool // plugins that were read
	complained map[string]bool // files that could not be
}

// target says what a plugin becomes: an entry of [[policy]], a note, or what take does.
type target struct {
	use  string
	set  []string // key, value as in TOML, …
	kind Kind
	text string
	take func(f *filter, p plugin, t *section)
}

// policy adds an entry of [[policy]].
func (f *filter) policy(use string, p plugin) *section {
	t := f.doc.add("policy", "").set("use", use, fmt.Sprintf("%s:%d", filepath.Base(p.file), p.line))
	f.policies = append(f.policies, t)
	return t
}

// apply does what the table says of a plugin.
func (f *filter) apply(p plugin, table map[string]target) {
	t, ok := table[p.name]
	if !ok {
		f.note(Unknown, p.file, p.line, p.name, "no plugin of this name is known; write a policy, or a plugin, see docs/authoring.md")
		return
	}
	var entry *section
	if t.use != "" {
		entry = f.policy(t.use, p)
		for i := 0; i+1 < len(t.set); i += 2 {
			entry.set(t.set[i], raw(t.set[i+1]), "")
		}
	}
	if t.take != nil {
		t.take(f, p, entry)
	}
	if t.kind != "" {
		f.note(t.kind, p.file, p.line, p.name, "%s", t.text)
	}
}

// finish writes domains, relays and routes.
func (f *filter) finish() (*Result, error) {
	for _, t := range f.policies {
		t.disposeAt(f.naughty)
	}
	if len(f.domains) > 0 {
		f.doc.add("domain", "").set("name", f.file("domains", strings.Join(f.domains, "\n")+"\n"), "")
	} else {
		f.note(Todo, f.dir, 0, "domains", "no domain is ours: write a [[domain]] for each")
	}
	if len(f.relay) > 0 {
		for _, l := range f.doc.all("listen") {
			l.set("relay_from", f.relay, "")
		}
	}
	if !f.routed {
		f.doc.add("route", "").set("to_domain", []string{"*"}, "").set("next_hop", "mx", "")
	}
	return f.result()
}

// domain takes a domain that is ours.
func (f *filter) domain(file string, l line) {
	name := strings.ToLower(l.text)
	if rest, ok := strings.CutPrefix(name, "."); ok {
		name = "*." + rest
	}
	if !isDomain(strings.TrimPrefix(name, "*.")) {
		f.note(Missing, file, l.number, l.text, "it is no domain")
		return
	}
	if !slices.Contains(f.domains, name) {
		f.domains = append(f.domains, name)
	}
}

// network takes a client that may relay: an address, a CIDR, or 192.0.2. as a prefix.
func (f *filter) network(file string, l line) {
	n, ok := network(l.text)
	if !ok {
		f.note(Missing, file, l.number, l.text, "it is no network")
		return
	}
	f.relay = append(f.relay, n)
}

func network(s string) (string, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() { // clients of mapped addresses are of IPv4
			p = netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, 0))
		}
		return p.Masked().String(), true
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.PrefixFrom(a, a.BitLen()).String(), true
	}
	octets := strings.Split(strings.TrimSuffix(s, "."), ".")
	if !strings.HasSuffix(s, ".") || len(octets) > 3 {
		return "", false
	}
	bits := 8 * len(octets)
	for len(octets) < 4 {
		octets = append(octets, "0")
	}
	p, err := netip.ParsePrefix(fmt.Sprintf("%s/%d", strings.Join(octets, "."), bits))
	return p.String(), err == nil
}

// list adds a file of lines as the setting of a policy.
func (f *filter) list(t *section, key, name string) bool {
	text, ok := f.read(name)
	if !ok {
		return false
	}
	f.addFile(filepath.Base(name), text, 0o644)
	t.set(key, filepath.Base(name), "")
	return true
}

// zones are the names of DNS lists in a file whose lines may have a text behind them.
func (f *filter) zones(name string) (zones []string) {
	text, _ := f.read(name)
	for _, l := range lines(text) {
		zone, about, _ := strings.Cut(l.text, ":")
		words := strings.Fields(zone)
		zone = strings.ToLower(words[0])
		if !isDomain(zone) {
			f.note(Missing, f.path(name), l.number, zone, "it is no zone")
			continue
		}
		if strings.TrimSpace(about) != "" {
			f.note(Differs, f.path(name), l.number, zone, "the text of the reply is the policy's setting text, one for all zones")
		}
		if name == "uribl_zones" && len(words) > 1 { // masks of the answer's last number
			for mask := range strings.FieldsFuncSeq(words[1], func(r rune) bool { return r < '0' || r > '9' }) {
				if n, ok := scan(mask); ok && n > 0 && n < 256 {
					zone += " &" + mask
				}
			}
		}
		zones = append(zones, zone)
	}
	return zones
}

// Qpsmtpd reads qpsmtpd's folder, or its config folder.
func Qpsmtpd(dir string) (*Result, error) {
	f, err := newFilter(dir, "plugins")
	if err != nil {
		return nil, err
	}
	f.doc.head = []string{"Made from qpsmtpd's " + f.dir + ".", "Look through it and through the report of what differs, and run: postern check"}
	server := f.doc.one("server").set("data_dir", "/var/lib/postern", "")
	if me, ok := f.read("me"); ok && len(lines(me)) > 0 {
		server.set("hostname", strings.ToLower(lines(me)[0].text), "me")
	}
	listen := f.doc.add("listen", "").set("name", "smtp", "").set("address", ":25", "")
	f.note(Todo, f.dir, 0, "run", "address, port and limits of qpsmtpd are arguments of its start (./run), which are not read; write them in [[listen]] and [limits]")
	f.qpsmtpdFiles(listen)
	f.plugins("plugins", 0, func(p plugin) {
		if i := strings.IndexByte(p.name, ':'); i > 0 { // name:suffix, a second instance
			p.name = p.name[:i]
		}
		f.apply(p, qpsmtpdPlugins())
	})
	return f.finish()
}

// newFilter finds the folder that has the file plugins.
func newFilter(dir, has string) (*filter, error) {
	if exists(filepath.Join(dir, "config", has)) {
		dir = filepath.Join(dir, "config")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if !exists(filepath.Join(dir, has)) {
		return nil, fmt.Errorf("%s: there is no file %s, nor one in a folder config below it", dir, has)
	}
	return &filter{source: source{dir: dir}}, nil
}

// maxIncludes bounds files that include others.
const maxIncludes = 8

// plugins reads the lines of a file of plugins.
func (f *filter) plugins(name string, depth int, each func(plugin)) {
	text, ok := f.read(name)
	if !ok {
		return
	}
	for _, l := range lines(text) {
		fields := strings.Fields(l.text)
		if fields[0] == "$include" && len(fields) == 2 {
			if depth >= maxIncludes {
				f.note(Missing, f.path(name), l.number, "$include", "files include each other too deeply")
				continue
			}
			f.plugins(fields[1], depth+1, each)
			continue
		}
		for i, a := range fields {
			if a[0] == '#' {
				fields = fields[:i]
				break
			}
		}
		each(plugin{fields[0], fields[1:], f.path(name), l.number})
	}
}

// qpsmtpdFiles are files that count whatever plugins there are.
func (f *filter) qpsmtpdFiles(listen *section) {
	for _, name := range []string{"rcpthosts", "morercpthosts"} {
		text, _ := f.read(name)
		for _, l := range lines(text) {
			f.domain(f.path(name), l)
		}
	}
	for _, name := range []string{"relayclients", "morerelayclients"} {
		text, _ := f.read(name)
		for _, l := range lines(text) {
			f.network(f.path(name), l)
		}
	}
	single := func(name string, take func(line)) {
		if text, ok := f.read(name); ok && len(lines(text)) > 0 {
			take(lines(text)[0])
		}
	}
	single("databytes", func(l line) {
		if n, ok := scan(l.text); ok && n > 0 {
			f.doc.one("limits").set("message_size", n, "databytes")
		}
	})
	for _, name := range []string{"timeout", "timeoutsmtpd"} {
		single(name, func(l line) {
			if n, ok := scan(l.text); ok && n > 0 {
				f.doc.one("limits").set("command_timeout", fmt.Sprintf("%ds", n), name)
			}
		})
	}
	single("smtpgreeting", func(l line) {
		if _, rest, _ := strings.Cut(l.text, " "); strings.TrimSpace(rest) != "" {
			listen.set("greeting", strings.TrimSpace(rest), "smtpgreeting")
		}
	})
	for name, text := range sorted(map[string]string{
		"norelayclients":         "clients that may not relay although relayclients has them: write relay_from without them, or `rules` of the [[listen]]",
		"morercpthosts.cdb":      "it is not read; morercpthosts, which it was made from, is",
		"loglevel":               "level of [log] is one of debug, info, warn, error",
		"tls_ciphers":            "TLS 1.2 and later with Go's ciphers; there is no key for them",
		"tls_before_auth":        "AUTH is never offered without TLS",
		"spool_dir":              "data_dir of [server]",
		"size_threshold":         "messages never stand in memory as a whole",
		"user":                   "account of [server] user",
		"plugin_dirs":            "policy_dir and plugin_dir of [server]",
		"smtpauth-checkpassword": "a policy for stage auth can ask a service; [[auth]] reads password files",
	}) {
		if exists(f.path(name)) {
			kind := Todo
			if name == "size_threshold" || name == "tls_before_auth" {
				kind = Unused
			}
			f.note(kind, f.path(name), 0, name, "%s", text)
		}
	}
	slices.SortStableFunc(f.notes, func(a, b Note) int { return strings.Compare(a.File, b.File) })
}

const contrib = "contrib/policies/%s.lua of the sources does it: put that into policy_dir, and write a [[policy]]"

// rejects says whether a plugin of qpsmtpd refuses; some do so by default.
func rejects(p plugin, byDefault bool) string {
	v, ok := p.arg("reject")
	if !ok && byDefault || ok && v != "0" {
		if kind, _ := p.arg("reject_type"); strings.HasPrefix(kind, "temp") {
			return "defer"
		}
		return "reject"
	}
	return ""
}

// later is the setting deny_at of a plugin that leaves refusals to naughty.
func later(p plugin, t *section) {
	if v, _ := p.arg("reject"); v == "naughty" {
		t.set("deny_at", "rcpt", "reject naughty")
	} else if v == "0" {
		t.set("mode", "shadow", "reject 0")
	}
}

// by is what follows at a level, where deferring and refusing begin at others.
func by(level, soft, hard int) string {
	switch {
	case level >= hard:
		return "reject"
	case level >= soft:
		return "defer"
	}
	return "pass"
}

// qpsmtpdPlugins is what becomes of each plugin that comes with qpsmtpd.
func qpsmtpdPlugins() map[string]target {
	todo := func(format string, args ...any) target {
		return target{kind: Todo, text: fmt.Sprintf(format, args...)}
	}
	missing := func(text string) target { return target{kind: Missing, text: text} }
	nothing := target{} // the gateway does it anyway
	auth := todo("a policy for stage auth asks services, [[auth]] reads password files, see docs/from-qpsmtpd.md#auth")
	table := map[string]target{
		"rcpt_ok": nothing, "relay": {take: takeRelay}, "authdeny": nothing, "auth/authdeny": nothing, "loop": {take: takeLoop}, "connection_time": nothing,
		"dont_require_anglebrackets": missing("addresses without angle brackets are refused"),
		"parse_addr_withhelo":        {kind: Unused, text: "addresses are read by RFC 5321 always"},
		"help":                       missing("HELP has an answer of its own; a policy for stage command can give another"),
		"quit_fortune":               todo(contrib, "quit_fortune"), "random_error": todo(contrib, "random_error"), "noop_counter": {take: takeCommands("noop")},
		"count_unrecognized_commands": {take: takeCommands("unrecognised")}, "rcpt_regexp": {use: "rcpt_regexp", take: takeFile("rcpt_regexp")}, "badmailfromto": {use: "badmailfromto", take: takeFile("badmailfromto")},
		"whitelist": {use: "whitelist", take: takeWhitelist}, "hosts_allow": {take: takeHostsAllow},
		"auth/auth_flat_file":     todo("config/flat_auth_pw has passwords as they are: make hashes of them with `postern passwd`, and name the file in an [[auth]]"),
		"auth/auth_checkpassword": auth, "auth/auth_cvm_unix_local": auth, "auth/auth_imap": auth, "auth/auth_ldap_bind": auth,
		"auth/auth_vpopmail": auth, "auth/auth_vpopmail_sql": auth, "auth/auth_vpopmaild": auth,
		"badmailfrom": {use: "badmailfrom", take: func(f *filter, p plugin, t *section) { f.patterns(t, "badmailfrom"); later(p, t) }},
		"badrcptto":   {use: "badrcptto", take: func(f *filter, p plugin, t *section) { f.patterns(t, "badrcptto"); later(p, t) }},
		"bogus_bounce": {use: "bounce", take: func(f *filter, p plugin, t *section) {
			act := map[string]string{"deny": "reject", "denysoft": "defer"}
			v, _ := p.arg("action", "reject")
			if a := act[v]; a != "" {
				t.set("several", a, "action").set("return_path", a, "")
			}
		}},
		"dkim": {use: "dkim", kind: Todo, text: "keys to sign with (config/dkim/DOMAIN) are written as [[dkim]]", take: func(_ *filter, p plugin, t *section) {
			if v := rejects(p, false); v != "" {
				t.set("fail", v, "reject")
			}
		}},
		"dmarc": {use: "dmarc", take: func(_ *filter, p plugin, t *section) {
			if rejects(p, true) == "" {
				t.set("enforce", "monitor", "reject 0")
			}
		}},
		"sender_permitted_from": {use: "spf", take: func(_ *filter, p plugin, t *section) {
			n, _ := p.arg("reject")
			level, _ := strconv.Atoi(n)
			t.set("fail", by(level, 2, 3), "reject "+n).set("softfail", by(level, 3, 4), "")
			for _, one := range []struct {
				key           string
				defer1, deny1 int
			}{{"neutral", 5, 5}, {"none", 6, 6}, {"permerror", 4, 6}, {"temperror", 2, 100}} {
				if v := by(level, one.defer1, one.deny1); v != "pass" {
					t.set(one.key, v, "")
				}
			}
		}},
		"dnsbl": {use: "dnsbl", take: takeDNSBL}, "rhsbl": {use: "rhsbl", take: takeZones("rhsbl_zones")}, "uribl": {use: "uribl", take: takeZones("uribl_zones")},
		"dns_whitelist_soft": {use: "dnswl", take: takeZones("whitelist_zones")},
		"earlytalker": {use: "earlytalker", take: func(_ *filter, p plugin, t *section) {
			if v, ok := p.arg("wait"); ok {
				if n, ok := scan(v); ok {
					t.set("wait", fmt.Sprintf("%ds", n), "wait")
				}
			}
			later(p, t)
		}},
		"fcrdns": {use: "fcrdns", take: func(_ *filter, p plugin, t *section) {
			if v := rejects(p, false); v != "" {
				t.set("no_match", v, "reject").set("no_name", v, "")
			}
		}},
		"greylisting": {use: "greylist", take: takeGreylisting},
		"headers":     {use: "headers", take: takeHeaders},
		"helo":        {use: "helo", take: takeHelo},
		"resolvable_fromhost": {use: "mail_from_resolvable", take: func(_ *filter, p plugin, t *section) {
			switch v := rejects(p, true); v {
			case "":
				t.set("mode", "shadow", "reject 0")
			default:
				t.set("none", v, "")
			}
		}},
		"rcpt_map":        {use: "rcpt_map", take: takeRcptMap},
		"content_log":     todo("the recorder with bodies = true keeps messages"),
		"naughty":         {kind: Unused, text: "it is deny_at of each policy, which plugins with `reject naughty` get", take: takeNaughty},
		"karma":           {use: "karma", kind: Differs, text: "the history of clients begins anew; see docs/policies/karma.md"},
		"loadcheck":       {use: "loadcheck", kind: Differs, text: "its setting most is the load for each processor"},
		"spamassassin":    {take: takeSpamassassin},
		"virus/clamdscan": {take: takeClamd},
		"tls":             {take: takeTLS}, "tls_cert": nothing, "stunnel": todo("proxy_from of the [[listen]]"),
		"user_config": todo("settings of single users are the policy user_settings, or a [[lookup]] named users"), "http_config": todo("a [[lookup]] of type http"),
		"ident/geoip": todo("[geoip] databases, and the policies geoip and asn"), "ident/p0f": missing("no p0f"), "domainkeys": {kind: Unused, text: "DomainKeys is no more; dkim is"},
		"milter": missing("milters are not spoken to"), "dspam": missing("no DSPAM"),
		"qmail_deliverable":   {kind: Todo, text: "recipients = \"callout\" of a [[domain]], or \"lookup:NAME\""},
		"queue/smtp-forward":  {take: takeForward},
		"queue/maildir":       {take: takeMaildir},
		"queue/qmail-queue":   {take: takeOtherQueue("qmail")},
		"queue/postfix-queue": {take: takeOtherQueue("Postfix")},
		"queue/exim-bsmtp":    {take: takeOtherQueue("Exim")},
	}
	for _, name := range []string{"adaptive", "apache", "connection_id", "devnull", "file", "syslog", "transaction_id", "warn"} {
		table["logging/"+name] = target{kind: Unused, text: "[log], the recorder and `postern why` in its place"}
	}
	for _, name := range []string{"aveclient", "bitdefender", "clamav", "hbedv", "kavscanner", "klez_filter", "sophie", "uvscan"} {
		table["virus/"+name] = missing("this scanner is not called; see docs/policies for those that are")
	}
	for old, now := range sorted(map[string]string{
		"check_badmailfrom": "badmailfrom", "check_badmailfromto": "badmailfromto", "check_badrcptto": "badrcptto", "check_basicheaders": "headers",
		"check_bogus_bounce": "bogus_bounce", "check_earlytalker": "earlytalker", "check_loop": "loop", "check_norelay": "relay", "check_relay": "relay",
		"check_spamhelo": "helo", "require_resolvable_fromhost": "resolvable_fromhost", "sender_permitted_from.pl": "sender_permitted_from", "ident/geoip2": "ident/geoip",
	}) {
		table[old] = table[now]
	}
	return table
}

// patterns copies a list of addresses, in which patterns stand between slashes here.
func (f *filter) patterns(t *section, name string) {
	text, ok := f.read(name)
	if !ok {
		return
	}
	var kept []string
	for _, l := range lines(text) {
		entry, about, _ := strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
		if strings.ContainsAny(entry, "/^$*+!%?\\") { // what makes one a pattern there
			if entry[0] == '!' {
				f.note(Missing, f.path(name), l.number, entry, "an entry that negates")
				continue
			}
			if _, err := regexp.Compile(entry); err != nil {
				f.note(Missing, f.path(name), l.number, entry, "a pattern that is none here: %v", err)
				continue
			}
			entry = "/" + entry + "/"
		}
		kept = append(kept, strings.TrimSpace(entry+" "+strings.TrimSpace(about)))
	}
	if len(kept) > 0 {
		f.addFile(name, strings.Join(kept, "\n")+"\n", 0o644)
		t.set("file", name, "")
	}
}
