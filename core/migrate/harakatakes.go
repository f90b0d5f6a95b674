package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What the plugins of Haraka say in files of their own.

// takeScanner tells how the plugin of a scanner is written, with its address: plugins are
// programs beside postern, which this host may not have.
func takeScanner(use, file, key, port, usual string) func(*filter, plugin, *section) {
	return func(f *filter, p plugin, _ *section) {
		c := f.ini(file)
		at := strings.Fields(c.get("main", key) + " ")
		text := fmt.Sprintf("[[policy]] use = %q", use)
		if len(at) > 0 {
			address := at[0]
			if port != "" {
				n := c.get("main", port)
				if n == "" {
					n = usual
				}
				address = bracketed(address) + ":" + n
			}
			text += fmt.Sprintf(", address = %q", address)
		}
		f.note(Todo, p.file, p.line, p.name, "write %s: it is a plugin, see docs/policies/%s.md", text, use)
	}
}

func takeAttachment(f *filter, _ plugin, t *section) {
	c := f.ini("attachment.ini")
	if v := c.get("main", "disallowed_extensions"); v != "" {
		var list []string
		for e := range strings.FieldsFuncSeq(v, func(r rune) bool { return r == ',' || r == ' ' }) {
			list = append(list, strings.ToLower(strings.TrimPrefix(e, ".")))
		}
		t.set("extensions", list, "attachment.ini")
	}
	if n, ok := scan(c.get("archive", "max_depth")); ok && n > 0 {
		t.set("depth", n, "attachment.ini")
	}
	for file, key := range sorted(map[string]string{"attachment.filename.regex": "names", "attachment.ctype.regex": "types"}) {
		text, _ := f.read(file)
		var list []string
		for _, l := range lines(text) {
			list = append(list, l.text)
		}
		if len(list) > 0 {
			t.set(key, list, file)
		}
	}
	if exists(f.path("attachment.archive.filename.regex")) {
		f.note(Differs, f.path("attachment.archive.filename.regex"), 0, "archive", "names and extensions are refused inside archives as outside of them")
	}
}

func takeBounce(f *filter, _ plugin, t *section) {
	c := f.ini("bounce.ini")
	if c.yes("main", "reject_all", false) || c.yes("reject", "all_bounces", false) {
		t.set("none", true, "bounce.ini")
	}
	for from, to := range sorted(map[string]string{"single_recipient": "several", "empty_return_path": "return_path", "bounce_spf": "validate"}) {
		if from == "bounce_spf" {
			continue // another method of validation
		}
		if c.yes("reject", from, false) {
			t.set(to, "reject", "bounce.ini")
		}
	}
	f.note(Differs, f.path("bounce.ini"), 0, "bounce", "bounces are validated by a field of ours or by BATV, see docs/policies/bounce.md; not by the SPF of bounced mail")
}

func takeDelayDeny(f *filter, _ plugin, _ *section) {
	for _, t := range f.policies {
		if name := strings.Trim(t.rows[0].value, `"`); slices.Contains([]string{"earlytalker", "fcrdns", "helo", "dnsbl", "spf", "rhsbl", "mail_from_resolvable", "badmailfrom"}, name) {
			t.set("deny_at", "rcpt", "delay_deny")
		}
	}
}

// takeDNSList reads dns-list.ini (or dnsbl.ini and dnswl.ini of before): zones, each
// with a section of its own, that says whether it blocks or allows.
func takeDNSList(f *filter, p plugin, _ *section) {
	block, allow, score := []string{}, []string{}, []string{}
	put := func(list *[]string, names, file string) {
		for zone := range strings.FieldsFuncSeq(names, func(r rune) bool { return r == ',' || r == ' ' || r == ';' }) {
			if zone = strings.ToLower(zone); !isDomain(zone) {
				f.note(Missing, f.path(file), 0, zone, "it is no zone")
			} else if !slices.Contains(*list, zone) {
				*list = append(*list, zone)
			}
		}
	}
	c := f.ini("dns-list.ini")
	for _, zone := range slices.Sorted(maps.Keys(c)) {
		switch {
		case c.get(zone, "type") == "allow":
			put(&allow, zone, "dns-list.ini")
		case c.get(zone, "type") == "block" && c.yes(zone, "reject", true):
			put(&block, zone, "dns-list.ini")
		case zone != "main" && zone != "stats" && (c.get(zone, "type") == "block" || c.get(zone, "type") == "karma"):
			put(&score, zone, "dns-list.ini")
		case zone != "main" && zone != "stats":
			f.note(Missing, f.path("dns-list.ini"), 0, zone, "a zone of type %q", c.get(zone, "type"))
		}
	}
	zones := strings.FieldsFunc(c.get("main", "zones"), func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
	for _, zone := range zones {
		if c[zone] == nil {
			put(&block, zone, "dns-list.ini")
		}
	}
	put(&block, f.ini("dnsbl.ini").get("main", "zones"), "dnsbl.ini")
	put(&allow, f.ini("dnswl.ini").get("main", "zones"), "dnswl.ini")
	for file, list := range sorted(map[string]*[]string{"dnsbl.zones": &block, "dnswl.zones": &allow}) {
		text, _ := f.read(file)
		for _, l := range lines(text) {
			put(list, l.text, file)
		}
	}
	if len(block) > 0 {
		f.policy("dnsbl", p).set("zones", block, "")
	}
	if len(score) > 0 {
		f.policy("dnsbl", p).set("name", "dnsbl_points", "").set("zones", score, "dns-list.ini").set("action", "score", "")
	}
	if len(allow) > 0 {
		f.policy("dnswl", p).set("zones", allow, "")
	}
	if len(block)+len(allow)+len(score) == 0 {
		f.note(Todo, p.file, p.line, p.name, "no zones are configured; write a [[policy]] use = \"dnsbl\"")
	}
}

func takeEarlyTalker(f *filter, p plugin, t *section) {
	c := f.ini("early_talker.ini")
	if v, ok := seconds(c.get("main", "pause")); ok {
		t.set("wait", v, "early_talker.ini")
	}
	if !c.yes("main", "reject", true) {
		t.set("mode", "shadow", "reject false")
	}
	if exists(f.path("early_talker.pause")) {
		f.note(Differs, p.file, p.line, p.name, "the pause is in milliseconds there; it is the setting wait")
	}
}

func takeFcrdns(f *filter, _ plugin, t *section) {
	c := f.ini("fcrdns.ini")
	for from, to := range sorted(map[string]string{"no_rdns": "no_name", "no_fcrdns": "no_match", "generic_rdns": "generic"}) {
		if c.yes("reject", from, false) {
			t.set(to, "reject", "fcrdns.ini")
		}
	}
	if c.yes("reject", "invalid_tld", false) {
		f.note(Missing, f.path("fcrdns.ini"), c["reject"]["invalid_tld"].line, "invalid_tld", "top-level domains are not looked at")
	}
}

func takeHarakaGreylist(f *filter, _ plugin, t *section) {
	c := f.ini("greylist.ini")
	for key, to := range sorted(map[string]string{"black": "delay", "gray": "window", "grey": "window", "white": "lifetime"}) {
		v := c.get("period", key)
		v, _, _ = strings.Cut(v, ":")
		if s, ok := seconds(v); ok {
			t.set(to, s, "greylist.ini")
		}
	}
	exempt := map[string][]string{}
	for key := range sorted(c["ip_whitelist"]) {
		if n, ok := network(key); ok {
			exempt["exempt"] = append(exempt["exempt"], n)
		} else if isDomain(key) {
			exempt["exempt_names"] = append(exempt["exempt_names"], strings.ToLower(key))
		}
	}
	for section, to := range sorted(map[string]string{"envelope_whitelist": "exempt_senders", "recipient_whitelist": "exempt_recipients"}) {
		for key := range sorted(c[section]) {
			exempt[to] = append(exempt[to], strings.ToLower(key))
		}
	}
	for key := range sorted(exempt) {
		t.set(key, exempt[key], "greylist.ini")
	}
	if c.yes("skip", "dnswlorg", false) || c.yes("skip", "mailspikewl", false) {
		f.note(Todo, f.path("greylist.ini"), c["skip"]["dnswlorg"].line, "skip", "the policy dnswl in front, with the zone of the list: it spares whom it knows greylist")
	}
}

func takeHarakaHeaders(f *filter, _ plugin, t *section) {
	c := f.ini("headers.ini")
	if v := c.get("main", "required"); v != "" {
		t.set("required", strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' }), "headers.ini")
	}
	if v := c.get("main", "singular"); v != "" {
		t.set("singular", strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' }), "headers.ini")
	}
	for key, to := range sorted(map[string]string{"date_future_days": "future", "date_past_days": "past"}) {
		if n, ok := scan(c.get("main", key)); ok {
			t.set(to, fmt.Sprintf("%dd", n), "headers.ini")
		}
	}
	if c.yes("reject", "missing", false) || c.yes("reject", "singular", false) || c.yes("reject", "date", false) {
		t.set("action", "reject", "headers.ini")
	}
}

func takeHeloChecks(f *filter, _ plugin, t *section) {
	c := f.ini("helo.checks.ini")
	reject := func(name string, or bool) bool { return c.yes("check", name, true) && c.yes("reject", name, or) }
	t.set("syntax", reject("valid_hostname", false), "helo.checks.ini").set("ip", reject("bare_ip", false), "")
	t.set("fqdn", reject("valid_hostname", false), "").set("literal", reject("literal_mismatch", false), "").set("resolves", reject("forward_dns", false), "")
	for name, key := range sorted(map[string]string{"dynamic": "dynamic", "rdns_match": "named", "host_mismatch": "changed"}) {
		if _, written := c["reject"][name]; written && reject(name, false) {
			t.set(key, true, "helo.checks.ini")
		}
	}
	belongs := inline{}
	for name := range sorted(c["bigco"]) {
		var domains []string
		for d := range strings.FieldsFuncSeq(c.get("bigco", name), func(r rune) bool { return r == ',' || r == ' ' }) {
			domains = append(domains, strings.ToLower(d))
		}
		if isDomain(name) && len(domains) > 0 && reject("big_company", true) {
			belongs = append(belongs, pair{tomlString(strings.ToLower(name)), tomlList(domains), ""})
		}
	}
	if len(belongs) > 0 {
		t.set("belongs", belongs, "helo.checks.ini")
	}
	for _, name := range []string{"match_re", "proto_mismatch"} {
		if v, ok := c["reject"][name]; ok && reject(name, false) {
			f.note(Missing, f.path("helo.checks.ini"), v.line, name, "no test of this kind; the policy access has patterns: \"deny helo /REGEXP/\"")
		}
	}
}

func takeLimit(f *filter, p plugin, _ *section) {
	c := f.ini("limit.ini")
	if v, ok := c["concurrency"]; ok {
		n, numeric := scan(c.get("concurrency", "max"))
		if !numeric {
			n, numeric = scan(c.get("concurrency", "default"))
		}
		if numeric && n > 0 {
			f.doc.one("limits").set("connections_per_client", n, "limit.ini")
			f.note(Differs, f.path("limit.ini"), v["max"].line, "concurrency", "connections_per_client is the same for all clients, whatever their history")
		}
	}
	if n, ok := scan(c.get("errors", "max")); ok && n > 0 {
		f.doc.one("limits").set("errors", n, "limit.ini")
	}
	if n, ok := scan(c.get("recipients", "max")); ok && n > 0 {
		f.doc.one("limits").set("recipients", n, "limit.ini")
	}
	var t *section
	for section, key := range sorted(map[string]string{"rate_conn": "connect_rate", "rate_rcpt_sender": "sender_rate", "rate_rcpt": "recipient_rate", "rate_rcpt_null": "null_rate"}) {
		v, ok := c[section]["default"]
		if !ok {
			continue
		}
		n, window, _ := strings.Cut(v.text, "/")
		if window == "" {
			window = "60s"
		}
		span, timed := seconds(window)
		if _, numeric := scan(n); !numeric || !timed {
			f.note(Missing, f.path("limit.ini"), v.line, section, "%q is no rate", v.text)
			continue
		}
		if t == nil {
			t = f.policy("limit", p)
		}
		t.set(key, n+"/"+span, "limit.ini")
		f.note(Differs, f.path("limit.ini"), v.line, section, "counted a little otherwise, see docs/policies/limit.md")
	}
	if n, ok := scan(c.get("unrecognized_commands", "max")); ok && n > 0 {
		f.policy("command_limits", p).set("unrecognised", n, "limit.ini")
	}
	if text, ok := f.read("max_unrecognized_commands"); ok {
		if n, ok := scan(strings.TrimSpace(text)); ok && n > 0 {
			f.policy("command_limits", p).set("unrecognised", n, "max_unrecognized_commands")
		}
	}
	if !exists(f.path("limit.ini")) {
		f.note(Unused, p.file, p.line, p.name, "it has no settings, and limits nothing without")
	}
	if len(c["outbound"]) > 0 {
		f.note(Todo, f.path("limit.ini"), 0, "outbound", "[[delivery.rule]] has bounds for what goes out")
	}
}

func takeBlockMe(f *filter, p plugin, t *section) {
	text, _ := f.read("block_me.recipient")
	if l := lines(text); len(l) > 0 && strings.Contains(l[0].text, "@") {
		t.set("address", l[0].text, "block_me.recipient")
	} else {
		f.note(Todo, p.file, p.line, p.name, "its setting address, where users send what they don't want")
	}
	if exists(f.path("block_me.senders")) {
		f.note(Todo, f.path("block_me.senders"), 0, p.name, "senders that are blocked already: the file of a policy badmailfrom")
	}
}

func takeResolvable(f *filter, _ plugin, t *section) {
	c := f.ini("mail_from.is_resolvable.ini")
	if !c.yes("reject", "no_mx", true) {
		t.set("none", "pass", "mail_from.is_resolvable.ini")
	}
}

// takeNextHop reads the file of a plugin for stage queue: a host for all, and sections
// for domains.
func takeNextHop(file, scheme, port string) func(*filter, plugin, *section) {
	return func(f *filter, p plugin, _ *section) {
		c := f.ini(file)
		hop := func(section string) string {
			host, at := c.get(section, "host"), c.get(section, "port")
			if path := c.get(section, "path"); path != "" {
				return scheme + "://" + path
			}
			if host == "" {
				return ""
			}
			if n, ok := scan(at); !ok || n < 1 || n > 65535 {
				at = port
			}
			return scheme + "://" + bracketed(host) + ":" + at
		}
		for _, section := range slices.Sorted(maps.Keys(c)) {
			way := hop(section)
			if section == "main" || way == "" {
				continue
			}
			if !isDomain(section) {
				f.note(Missing, f.path(file), 0, section, "it is no domain; a route can have to_address")
				continue
			}
			f.login(file, section, f.doc.add("route", "").set("to_domain", []string{strings.ToLower(section)}, file).set("next_hop", way, ""), c)
		}
		way := hop("main")
		if way == "" {
			f.note(Todo, p.file, p.line, p.name, "%s names no host; write next_hop of a [[route]]", file)
			return
		}
		f.mainHop(way, file, c)
		f.note(Differs, p.file, p.line, p.name, "mail is queued here first; mode = \"proxy\" of the [[route]] hands it on while the client waits, as before. Mail of relaying clients to other domains goes by mx")
	}
}

// mainHop is the route of mail to domains of ours; other mail goes by mx.
func (f *filter) mainHop(way, file string, c ini) {
	to := f.domains
	if len(to) == 0 {
		to = hostList(f)
	}
	if len(to) == 0 {
		f.way(way, file)
		return
	}
	f.login(file, "main", f.doc.add("route", "").set("to_domain", to, file).set("next_hop", way, ""), c)
}

func (f *filter) login(file, section string, t *section, c ini) {
	user, pass := c.get(section, "auth_user"), c.get(section, "auth_pass")
	if c.yes(section, "enable_tls", false) {
		t.set("tls", "may", "")
	}
	if user == "" {
		return
	}
	name := "password-" + strings.TrimSuffix(file, ".ini") + "-" + strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' {
			return '_'
		}
		return r
	}, section)
	f.addFile(name, pass+"\n", 0o600)
	t.set("auth", inline{{"user", tomlString(user), ""}, {"password_file", tomlString(name), ""}}, file)
}

// hostList are the domains of host_list.
func hostList(f *filter) (list []string) {
	text, _ := f.read("host_list")
	for _, l := range lines(text) {
		if isDomain(l.text) {
			list = append(list, strings.ToLower(l.text))
		}
	}
	return list
}

func takeHostList(f *filter, _ plugin, _ *section) {
	text, _ := f.read("host_list")
	for _, l := range lines(text) {
		f.domain(f.path("host_list"), l)
	}
	patterns, _ := f.read("host_list_regex")
	for _, l := range lines(patterns) {
		name := strings.NewReplacer(`.*\.`, "*.", `\.`, ".", "^", "", "$", "").Replace(l.text)
		if isDomain(strings.TrimPrefix(name, "*.")) {
			f.domain(f.path("host_list_regex"), line{l.number, strings.TrimPrefix(name, "*")})
			continue
		}
		f.note(Missing, f.path("host_list_regex"), l.number, l.text, "a pattern; write domains, or *.example.net for all below one")
	}
	if f.ini("host_list.ini").yes("main", "anti_spoof", false) || exists(f.path("host_list.anti_spoof")) {
		f.note(Todo, f.path("host_list.ini"), 0, "anti_spoof", "the policy forged_from")
	}
}

func takeHarakaRelay(f *filter, p plugin, _ *section) {
	c := f.ini("relay.ini")
	if c.yes("relay", "acl", false) || exists(f.path("relay_acl_allow")) {
		text, _ := f.read("relay_acl_allow")
		for _, l := range lines(text) {
			f.network(f.path("relay_acl_allow"), l)
		}
	}
	if c.yes("relay", "all", false) {
		f.note(Missing, f.path("relay.ini"), c["relay"]["all"].line, "all", "an open relay; write relay_from = [\"0.0.0.0/0\", \"::/0\"] if that is what you want")
	}
	routes := f.ini("relay_dest_domains.ini")
	for _, domain := range slices.Sorted(maps.Keys(routes["domains"])) {
		f.note(Todo, f.path("relay_dest_domains.ini"), routes["domains"][domain].line, domain, "a [[domain]] if mail for it is taken from all, and a [[route]]")
	}
	hops := f.ini("relay_force_routing.ini")
	if len(hops["main"]) == 0 {
		hops["main"] = hops["domains"]
	}
	for _, domain := range slices.Sorted(maps.Keys(hops["main"])) {
		v := hops["main"][domain]
		if !isDomain(domain) || strings.ContainsAny(v.text, "@/ ") || v.text == "" {
			f.note(Missing, f.path("relay_force_routing.ini"), v.line, domain, "%q is no host", v.text)
			continue
		}
		f.doc.add("route", "").set("to_domain", []string{strings.ToLower(domain)}, "relay_force_routing.ini").set("next_hop", "smtp://"+v.text, "")
	}
}

// takeRecipientRoutes reads rcpt_to.routes.ini: an address or a domain, and a next hop.
func takeRecipientRoutes(f *filter, _ plugin, _ *section) {
	const file = "rcpt_to.routes.ini"
	c := f.ini(file)
	keys := slices.Sorted(maps.Keys(c["routes"]))
	slices.SortStableFunc(keys, func(a, b string) int { return strings.Count(b, "@") - strings.Count(a, "@") })
	for _, key := range keys {
		v := c["routes"][key]
		hop := v.text
		if !strings.Contains(hop, "://") {
			hop = "smtp://" + hop
		}
		scheme, rest, _ := strings.Cut(hop, "://")
		if (scheme != "smtp" && scheme != "lmtp") || rest == "" || strings.ContainsAny(rest, " \t\"@") {
			f.note(Missing, f.path(file), v.line, key, "%q is no next hop", v.text)
			continue
		}
		t := f.doc.add("route", "")
		switch {
		case strings.Contains(key, "@"):
			t.set("to_address", []string{strings.ToLower(key)}, file)
		case isDomain(key):
			t.set("to_domain", []string{strings.ToLower(key)}, file)
			f.domain(f.path(file), line{v.line, key})
		}
		t.set("next_hop", hop, "")
	}
}

func takeHarakaSPF(f *filter, _ plugin, t *section) {
	c := f.ini("spf.ini")
	for key, to := range sorted(map[string]string{"mfrom_fail": "fail", "mfrom_softfail": "softfail", "mfrom_neutral": "neutral", "mfrom_none": "none", "mfrom_permerror": "permerror", "mfrom_temperror": "temperror"}) {
		switch {
		case c.yes("deny", key, false):
			t.set(to, "reject", "spf.ini")
		case c.yes("defer", key, false):
			t.set(to, "defer", "spf.ini")
		case to == "fail":
			t.set(to, "pass", "spf.ini")
		}
	}
	if c.yes("deny", "helo_fail", false) {
		t.set("helo_name", true, "spf.ini")
	}
}

func takeHarakaTLS(f *filter, p plugin, _ *section) {
	c := f.ini("tls.ini")
	cert, key := c.get("main", "cert"), c.get("main", "key")
	if cert == "" {
		cert = "tls_cert.pem"
	}
	if key == "" {
		key = "tls_key.pem"
	}
	if !exists(f.path(cert)) || !exists(f.path(key)) {
		f.note(Todo, p.file, p.line, p.name, "certificate and key of [tls]: %s and %s are not there", cert, key)
		return
	}
	f.doc.one("tls").set("certificate", []string{f.path(cert)}, "tls.ini").set("key", []string{f.path(key)}, "")
}

func takeHarakaURIBL(f *filter, p plugin, t *section) {
	c := f.ini("uribl.ini")
	zones := []string{}
	for _, zone := range slices.Sorted(maps.Keys(c)) {
		if zone != "main" && isDomain(zone) {
			zones = append(zones, strings.ToLower(zone))
		}
	}
	t.set("zones", zones, "uribl.ini")
	if n, ok := scan(c.get("main", "max_uris_per_list")); ok && n > 0 {
		t.set("most", n, "uribl.ini")
	}
	if len(zones) == 0 {
		f.note(Todo, p.file, p.line, p.name, "uribl.ini names no zones")
	}
}
