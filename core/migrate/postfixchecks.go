package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parameter takes one setting of main.cf.
type parameter func(p *postfix, name string)

// postfixParameters are the settings that have a key of their own, or need a word.
func postfixParameters() map[string]parameter {
	text := func(section, key string) parameter {
		return func(p *postfix, name string) { p.doc.one(section).set(key, p.value(name), name) }
	}
	number := func(section, key string) parameter {
		return func(p *postfix, name string) {
			if n, ok := scan(p.value(name)); ok && n > 0 {
				p.doc.one(section).set(key, n, name)
			} else {
				p.say(Differs, name, "%q: here there is a bound always", p.value(name))
			}
		}
	}
	length := func(section, key string) parameter {
		return func(p *postfix, name string) {
			if s, ok := seconds(p.value(name)); ok {
				p.doc.one(section).set(key, s, name)
			} else {
				p.say(Missing, name, "%q is no time", p.value(name))
			}
		}
	}
	note := func(kind Kind, text string) parameter {
		return func(p *postfix, name string) {
			if p.value(name) != "" {
				p.say(kind, name, "%s", text)
			}
		}
	}
	scanner := note(Missing, "milters are not spoken to; policies and plugins judge mail")
	table := map[string]parameter{
		"myhostname": func(p *postfix, name string) {
			p.doc.one("server").set("hostname", strings.ToLower(p.value(name)), name)
		},
		"mynetworks": (*postfix).networks, "smtpd_banner": (*postfix).banner,
		"message_size_limit": number("limits", "message_size"), "header_size_limit": number("limits", "header_size"), "smtpd_recipient_limit": number("limits", "recipients"),
		"smtpd_client_connection_count_limit": number("limits", "connections_per_client"), "smtpd_hard_error_limit": number("limits", "errors"), "hopcount_limit": number("limits", "hops"),
		"smtpd_timeout": length("limits", "command_timeout"), "maximal_queue_lifetime": func(p *postfix, name string) {
			v := p.value(name)
			if n, ok := scan(v); ok && strings.TrimLeft(v, "0123456789") == "" {
				v = fmt.Sprintf("%dd", n)
			}
			if s, ok := seconds(v); ok && s != "0s" {
				p.doc.one("queue").set("lifetime", s, name)
			} else {
				p.say(Missing, name, "%q: mail is tried at least once more", v)
			}
		},
		"delay_warning_time": func(p *postfix, name string) {
			v := p.value(name)
			if n, ok := scan(v); ok && strings.TrimLeft(v, "0123456789") == "" {
				v = fmt.Sprintf("%dh", n)
			}
			if s, ok := seconds(v); ok {
				p.doc.one("queue").set("delay_notice", s, name)
			}
		},
		"minimal_backoff_time": (*postfix).retry, "default_destination_concurrency_limit": number("delivery", "per_destination"), "smtp_helo_name": text("delivery", "helo"),
		"smtpd_tls_cert_file": (*postfix).certificate, "smtpd_tls_chain_files": note(Todo, "certificate and key of [tls]: a file for each"),
		"2bounce_notice_recipient": func(p *postfix, name string) {
			if v := p.value(name); strings.Contains(v, "@") {
				p.doc.one("queue").set("double_bounce_to", v, name)
			}
		},
		"smtp_bind_address": note(Todo, "source of each [[route]]"), "smtp_bind_address6": note(Todo, "source of each [[route]]"),
		"smtpd_milters": scanner, "non_smtpd_milters": scanner, "milter_default_action": note(Unused, "there are no milters"), "milter_protocol": note(Unused, "there are no milters"),
		"content_filter": note(Todo, "policies and scanners judge mail while its client waits; a filter that takes mail by SMTP can be a next_hop"), "smtpd_proxy_filter": note(Todo, "a [[route]] with mode = \"proxy\" hands mail on while its client waits"),
		"header_checks": (*postfix).contentChecks, "body_checks": (*postfix).contentChecks, "mime_header_checks": (*postfix).contentChecks, "smtp_header_checks": note(Missing, "what goes out is changed by policies as it comes in"),
		"sender_canonical_maps": note(Todo, "a policy at mail sets tx.sender"), "smtp_generic_maps": note(Todo, "a policy at mail sets tx.sender"), "masquerade_domains": note(Missing, "addresses in header fields stay as they are"),
		"always_bcc": note(Todo, "a policy adds it by tx.recipients:add"), "sender_bcc_maps": note(Todo, "a policy adds it by tx.recipients:add"), "recipient_bcc_maps": note(Todo, "a policy adds it by tx.recipients:add"),
		"mailbox_command": note(Todo, "default_delivery of [local], such as \"|preline procmail\""), "home_mailbox": func(p *postfix, name string) {
			if v := p.value(name); v != "" {
				p.doc.one("local").set("default_delivery", "./"+strings.TrimPrefix(v, "./"), name)
			}
		},
		"mailbox_size_limit": note(Missing, "mailboxes have no bound here"), "luser_relay": note(Missing, "unknown recipients are refused; a policy aliases with a name @domain takes them"),
		"smtpd_helo_required": note(Differs, "HELO may be left out; a policy at mail can ask conn.helo"), "smtpd_delay_reject": note(Differs, "deny_at of each [[policy]] says when a refusal is said"),
		"smtpd_tls_auth_only": note(Unused, "AUTH is never offered without TLS"), "smtpd_sasl_type": note(Todo, "users are those of an [[auth]]"), "smtpd_sasl_path": note(Todo, "users are those of an [[auth]]"),
		"smtpd_sender_login_maps": note(Todo, "sender_check = \"@file\" of the [[listen]], with lines such as: user address address"), "postscreen_greet_action": func(p *postfix, name string) {
			if v := p.value(name); v == "enforce" || v == "drop" {
				p.policy("earlytalker", p.here(name)).set("wait", "6s", "postscreen_greet_wait")
			}
		},
		"postscreen_dnsbl_sites": (*postfix).postscreen, "postscreen_access_list": note(Todo, "the policy access"), "smtp_tls_policy_maps": note(Todo, "a [[route]] for each, with its tls"),
		"smtpd_client_connection_rate_limit": (*postfix).rate, "smtpd_client_message_rate_limit": (*postfix).rate, "anvil_rate_time_unit": func(*postfix, string) {},
		"authorized_submit_users": note(Missing, "who may open the control socket may submit"), "alias_database": note(Unused, "aliases are a file of the policy aliases"),
		"soft_bounce": note(Missing, "a policy can turn refusals into deferrals, at stage deny"), "smtputf8_enable": note(Unused, "SMTPUTF8 is offered always"),
		"smtpd_tls_mandatory_protocols": note(Unused, "TLS 1.2 and later"), "smtpd_tls_protocols": note(Unused, "TLS 1.2 and later"), "virtual_mailbox_base": note(Todo, "mail of virtual domains goes below data_dir, or to an LMTP server"),
	}
	for _, name := range []string{
		"mydomain", "mydestination", "relay_domains", "virtual_mailbox_domains", "virtual_alias_domains", "virtual_mailbox_maps", "relay_recipient_maps", "local_recipient_maps",
		"virtual_transport", "relay_transport", "mailbox_transport", "default_transport", "transport_maps", "sender_dependent_relayhost_maps", "relayhost", "smtp_sasl_auth_enable", "smtp_sasl_password_maps",
		"smtp_sasl_security_options", "smtp_tls_security_level", "smtpd_tls_security_level", "smtpd_tls_key_file", "smtpd_use_tls", "smtpd_sasl_auth_enable", "recipient_delimiter", "inet_interfaces", "maximal_backoff_time", "postscreen_greet_wait", "postscreen_dnsbl_threshold", "postscreen_dnsbl_action",
	} {
		if table[name] == nil {
			table[name] = func(*postfix, string) {} // read where it belongs
		}
	}
	return table
}

// unusedParameters say where Postfix has its own things, or how it works inside.
func unusedParameters(name string) bool {
	return slices.Contains([]string{
		"compatibility_level", "queue_directory", "command_directory", "daemon_directory", "data_directory", "mail_owner", "setgid_group", "sendmail_path", "mailq_path", "newaliases_path", "html_directory", "manpage_directory",
		"readme_directory", "sample_directory", "meta_directory", "shlib_directory", "biff", "append_dot_mydomain", "debugger_command", "debug_peer_level", "unknown_local_recipient_reject_code", "inet_protocols", "mail_spool_directory", "myorigin",
		"mail_name", "default_process_limit", "smtpd_tls_session_cache_database", "smtp_tls_session_cache_database", "smtpd_tls_loglevel", "smtp_tls_loglevel", "smtpd_tls_received_header", "smtp_tls_CAfile", "smtp_tls_CApath", "disable_vrfy_command",
		"strict_rfc821_envelopes", "allow_percent_hack", "swap_bangpath", "smtpd_reject_unlisted_recipient", "maillog_file", "smtp_use_tls", "parent_domain_matches_subdomains", "mynetworks_style", "address_verify_map", "bounce_queue_lifetime",
	}, name)
}

// here is the place of a parameter as plugins have one.
func (p *postfix) here(name string) plugin {
	return plugin{name: name, file: p.path("main.cf"), line: p.set[name].line}
}

func (p *postfix) networks(name string) {
	for _, one := range p.list(name) {
		switch n, ok := network(strings.NewReplacer("[", "", "]", "").Replace(one)); {
		case ok:
			p.relay = append(p.relay, n)
		case strings.HasPrefix(one, "!"):
			p.say(Missing, name, "%s: an exception; write relay_from without it, or `rules` of the [[listen]]", one)
		default:
			for _, e := range p.table(name, one) {
				if n, ok := network(e.key); ok {
					p.relay = append(p.relay, n)
				} else {
					p.note(Missing, e.file, e.line, e.key, "it is no network")
				}
			}
		}
	}
}

// rate is a bound of what one client does in a while.
func (p *postfix) rate(name string) {
	n, ok := scan(p.value(name))
	if !ok || n == 0 {
		return
	}
	unit, timed := seconds(p.value("anvil_rate_time_unit"))
	if !timed {
		unit = "60s"
	}
	key := map[string]string{"smtpd_client_connection_rate_limit": "connect_rate", "smtpd_client_message_rate_limit": "message_rate"}[name]
	p.oneOf("limit", name).set(key, fmt.Sprintf("%d/%s", n, unit), name)
}

func (p *postfix) banner(name string) {
	host, rest, _ := strings.Cut(p.value(name), " ")
	if !strings.EqualFold(host, p.value("myhostname")) {
		p.say(Differs, name, "the greeting begins with the host name, and not with %q", host)
	}
	rest = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(rest), "ESMTP"))
	rest = strings.TrimSpace(strings.TrimPrefix(rest, p.value("mail_name"))) // which it is no more
	if rest == "" {
		return
	}
	for _, l := range p.doc.all("listen") {
		l.set("greeting", rest, name)
	}
}

func (p *postfix) retry(name string) {
	start, ok := seconds(p.value(name))
	most := "4000s"
	if v, set := seconds(p.value("maximal_backoff_time")); set {
		most = v
	}
	if ok {
		p.doc.one("queue").set("retry", inline{{"start", tomlString(start), ""}, {"factor", "2", ""}, {"max", tomlString(most), ""}}, name)
	}
}

func (p *postfix) certificate(name string) {
	cert, key := p.value(name), p.value("smtpd_tls_key_file")
	if key == "" || key == "$smtpd_tls_cert_file" {
		key = cert
	}
	if !exists(p.path(cert)) || !exists(p.path(key)) {
		p.say(Todo, name, "certificate and key of [tls]: %s and %s can't be found", cert, key)
		return
	}
	p.doc.one("tls").set("certificate", []string{p.path(cert)}, name).set("key", []string{p.path(key)}, "")
}

func (p *postfix) contentChecks(name string) {
	n := 0
	for _, source := range p.list(name) {
		n += len(p.table(name, source))
	}
	if n > 0 {
		p.say(Todo, name, "%d patterns: bodies by the policy content_signatures, fields by a policy at stage headers, see docs/from-haraka.md and docs/lua.md", n)
	}
}

// postscreen reads its lists. Where one alone is enough to refuse, they are as those of
// reject_rbl_client; else they are points, which refuse together.
func (p *postfix) postscreen(name string) {
	threshold := int64(1)
	if n, ok := scan(p.value("postscreen_dnsbl_threshold")); ok && n > 0 {
		threshold = n
	}
	weights := map[string]int64{}
	enough := true
	var sites []string
	for _, site := range p.list(name) {
		site, weight, _ := strings.Cut(site, "*")
		n, err := strconv.ParseInt(cmp.Or(weight, "1"), 10, 32)
		if err != nil {
			p.say(Missing, name, "%q is no weight", weight)
			continue
		}
		zone, _, _ := strings.Cut(strings.ToLower(site), "=")
		if before, two := weights[zone]; two && before != n {
			p.say(Differs, name, "%s: its answers have weights of their own there; the list has one weight here", zone)
		}
		weights[zone] = n
		enough = enough && n >= threshold
		sites = append(sites, site)
	}
	subject := "client"
	if !enough {
		subject = "points" // a policy of its own
	}
	for _, site := range sites {
		p.list1("dnsbl", subject, site, name)
	}
	t := p.zones["dnsbl "+subject]
	if t == nil || enough {
		return
	}
	list := inline{}
	for zone, n := range sorted(weights) {
		list = append(list, pair{tomlString(zone), strconv.FormatInt(n, 10), ""})
	}
	t.set("name", "postscreen", "").set("action", "score", "").set("weights", list, "")
	p.doc.one("score").set("reject", threshold, "postscreen_dnsbl_threshold")
	p.say(Differs, name, "lists that weigh less than postscreen_dnsbl_threshold refuse together, as points, once the message is there; points of other policies count, too")
}

// list1 adds a list to the policy that asks it: dnsbl, dnswl, or rhsbl for a subject.
func (p *postfix) list1(use, subject, zone, param string) {
	zone, answers, _ := strings.Cut(zone, "=")
	if !isDomain(zone) {
		p.say(Missing, param, "%q is no zone", zone)
		return
	}
	if answers != "" {
		if list := dnsAnswers(answers); list != "" {
			zone += " " + list
		} else {
			p.say(Differs, param, "%s: answers %s; write them behind the zone, such as \"%s 127.0.0.2\"", zone, answers, zone)
		}
	}
	key := use + " " + subject
	t := p.zones[key]
	if t == nil {
		t = p.policy(use, p.here(param))
		if use == "rhsbl" {
			t.set("name", "rhsbl_"+subject, "").set("subjects", []string{subject}, "")
		}
		p.zones[key] = t
	}
	if slices.Contains(p.listed[key], zone) {
		return
	}
	if p.listed == nil {
		p.listed = map[string][]string{}
	}
	p.listed[key] = append(p.listed[key], zone)
	for i := range t.rows {
		if t.rows[i].key == "zones" {
			t.rows[i].value = strings.TrimSuffix(t.rows[i].value, "]") + ", " + tomlString(strings.ToLower(zone)) + "]"
			return
		}
	}
	t.set("zones", raw("["+tomlString(strings.ToLower(zone))+"]"), "")
}

// dnsAnswers are answers that count as the policy dnsbl writes them: 127.0.0.[2..11;14]
// is 127.0.0.2-11 and 127.0.0.14; "" where that can't be.
func dnsAnswers(s string) string {
	octets := [][]string{}
	for s != "" {
		one := s
		if s[0] == '[' {
			inside, rest, ok := strings.Cut(s[1:], "]")
			if !ok || rest != "" && rest[0] != '.' {
				return ""
			}
			one, s = inside, strings.TrimPrefix(rest, ".")
		} else {
			one, s, _ = strings.Cut(s, ".")
		}
		var list []string
		for part := range strings.SplitSeq(one, ";") {
			from, to, ranged := strings.Cut(part, "..")
			a, err := strconv.ParseUint(from, 10, 8)
			b := a
			if ranged && err == nil {
				b, err = strconv.ParseUint(to, 10, 8)
			}
			switch {
			case err != nil || b < a:
				return ""
			case a == b:
				list = append(list, from)
			default:
				list = append(list, from+"-"+to)
			}
		}
		octets = append(octets, list)
	}
	if len(octets) != 4 {
		return ""
	}
	out := []string{""}
	for i, list := range octets {
		var next []string
		for _, before := range out {
			for _, one := range list {
				next = append(next, strings.TrimPrefix(before+"."+one, "."))
			}
		}
		if out = next; len(out) > 64 && i < 4 {
			return ""
		}
	}
	return strings.Join(out, " ")
}

// restrictions reads the lists of what is checked at each step.
func (p *postfix) restrictions() {
	done := map[string]bool{}
	for _, param := range []string{"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_data_restrictions", "smtpd_end_of_data_restrictions"} {
		p.used[param] = true
		if _, set := p.set[param]; !set {
			continue
		}
		list := p.list(param)
		for i := 0; i < len(list); i++ {
			one, arg := list[i], ""
			if takesArgument(one) && i+1 < len(list) {
				i++
				arg = list[i]
			}
			if one == "warn_if_reject" {
				p.say(Todo, param, "warn_if_reject %s: mode = \"shadow\" of its [[policy]]", strings.Join(list[i+1:min(i+2, len(list))], ""))
				continue
			}
			if done[one+arg] {
				continue
			}
			done[one+arg] = true
			p.restriction(param, one, arg)
		}
	}
	if len(p.access) > 0 {
		p.addFile("access", strings.Join(p.access, "\n")+"\n", 0o644)
		p.policy("access", p.accessAt).set("file", "access", "").set("immune", []string{}, "")
	}
}

func takesArgument(name string) bool {
	return strings.HasPrefix(name, "check_") || strings.HasPrefix(name, "reject_rbl") || strings.HasPrefix(name, "reject_rhsbl") || strings.HasPrefix(name, "permit_dnswl") || strings.HasPrefix(name, "permit_rhswl") || name == "sleep"
}

// oneOf is a policy that several restrictions share.
func (p *postfix) oneOf(use, param string) *section {
	if p.zones[use] == nil {
		p.zones[use] = p.policy(use, p.here(param))
	}
	return p.zones[use]
}

func (p *postfix) restriction(param, one, arg string) {
	helo := func(key string) { p.oneOf("helo", param).set(key, true, one) }
	switch one {
	case "permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination", "defer_unauth_destination", "permit", "reject_unlisted_recipient", "reject_non_fqdn_sender", "reject_non_fqdn_recipient", "permit_auth_destination", "reject_unauth_pipelining", "defer_if_permit":
		// the recipient rule, and the form of addresses
	case "reject_rbl_client", "reject_rbl":
		p.list1("dnsbl", "client", arg, param)
	case "reject_rhsbl_sender":
		p.list1("rhsbl", "sender", arg, param)
	case "reject_rhsbl_helo":
		p.list1("rhsbl", "helo", arg, param)
	case "reject_rhsbl_client", "reject_rhsbl_reverse_client":
		p.list1("rhsbl", "name", arg, param)
	case "permit_dnswl_client":
		p.list1("dnswl", "client", arg, param)
	case "reject_unknown_sender_domain":
		p.oneOf("mail_from_resolvable", param)
	case "reject_invalid_helo_hostname", "reject_invalid_hostname":
		helo("syntax")
	case "reject_non_fqdn_helo_hostname", "reject_non_fqdn_hostname":
		helo("fqdn")
	case "reject_unknown_helo_hostname", "reject_unknown_hostname":
		helo("resolves")
	case "reject_unknown_client_hostname", "reject_unknown_client":
		p.oneOf("fcrdns", param).set("no_name", "reject", one).set("no_match", "reject", "")
	case "reject_unknown_reverse_client_hostname":
		p.oneOf("fcrdns", param).set("no_name", "reject", one)
	case "reject_multi_recipient_bounce":
		p.oneOf("bounce", param).set("several", "reject", one)
	case "reject_unverified_recipient":
		for _, d := range p.doc.all("domain") {
			d.set("recipients", "callout", one)
		}
		p.say(Differs, param, "%s: the server that a domain's route leads to is asked, so that needs next_hop = \"smtp://…\"", one)
	case "check_client_access", "check_helo_access", "check_sender_access", "check_recipient_access", "check_reverse_client_hostname_access":
		p.accessTable(param, one, arg)
	case "check_policy_service":
		p.policyService(param, arg)
	case "reject_sender_login_mismatch", "reject_authenticated_sender_login_mismatch", "reject_known_sender_login_mismatch":
		for _, l := range p.doc.all("listen") {
			l.set("sender_check", "user", one)
		}
	default:
		p.say(Missing, param, "%s", strings.TrimSpace(one+" "+arg))
	}
}

// accessTable adds the lines of a table to the rules of the policy access.
func (p *postfix) accessTable(param, check, source string) {
	p.accessAt = p.here(param)
	subject := map[string]string{"check_client_access": "client", "check_helo_access": "helo", "check_sender_access": "sender", "check_recipient_access": "recipient", "check_reverse_client_hostname_access": "name"}[check]
	for _, e := range p.table(param, source) {
		word, about, _ := strings.Cut(e.value, " ")
		verb := ""
		switch upper := strings.ToUpper(word); {
		case upper == "OK" || upper == "PERMIT" || len(word) > 3 && strings.Trim(word, "0123456789") == "":
			verb = "allow"
		case upper == "REJECT" || len(word) == 3 && word[0] == '5':
			verb = "deny"
		case upper == "DEFER" || upper == "DEFER_IF_PERMIT" || upper == "DEFER_IF_REJECT" || len(word) == 3 && word[0] == '4':
			verb = "defer"
		case upper == "DUNNO":
			continue
		}
		what, v, ok := accessKey(subject, e.key, isPattern(source))
		if verb == "" || !ok {
			p.note(Missing, e.file, e.line, e.key, "%q; a policy of your own can do it", strings.TrimSpace(e.key+" "+e.value))
			continue
		}
		p.access = append(p.access, strings.TrimSpace(strings.Join([]string{verb, what, v, strings.TrimSpace(about)}, " ")))
	}
}

// accessKey is a key of a table as the policy access writes it.
func accessKey(subject, key string, pattern bool) (what, value string, ok bool) {
	if pattern {
		if subject == "client" {
			subject = "name"
		}
		return subject, "/" + key + "/", !strings.ContainsAny(key, " \t")
	}
	if subject == "client" {
		if n, is := network(strings.Trim(key, "[]")); is {
			return "client", n, true
		}
		if parts := strings.Split(key, "."); len(parts) < 4 && strings.Trim(key, "0123456789.") == "" {
			n, is := network(strings.TrimSuffix(key, ".") + ".")
			return "client", n, is
		}
		subject = "name"
	}
	key = strings.ToLower(key)
	switch {
	case subject == "sender" || subject == "recipient":
		if rest, below := strings.CutPrefix(key, "."); below {
			key = "*." + rest
		} else if key == "<>" {
			return subject, key, false
		}
		return subject, key, strings.Trim(key, "@") != ""
	case strings.HasPrefix(key, ".") && isDomain(key[1:]):
		return subject, "*" + key, true
	}
	return subject, key, isDomain(key)
}

// policyService tells of the servers that are known by their usual addresses.
func (p *postfix) policyService(param, at string) {
	at = strings.Trim(at, "{}, ")
	switch {
	case strings.Contains(at, "10023") || strings.Contains(at, "postgrey"):
		p.policy("greylist", p.here(param))
		p.say(Differs, param, "%s: taken for postgrey; the policy greylist in its place begins without what that has learned", at)
	case strings.Contains(at, "spf"):
		p.policy("spf", p.here(param))
		p.say(Differs, param, "%s: taken for a check of SPF; the policy spf in its place", at)
	default:
		p.say(Todo, param, "%s: write [[policy]] use = \"policyservice\", address = %q: it is a plugin, see docs/policies/policyservice.md", at, at)
	}
}

// rest notes the settings that nothing has looked at.
func (p *postfix) rest() {
	for _, name := range p.order {
		switch {
		case p.used[name] || unusedParameters(name) || postfixParameters()[name] != nil:
		case strings.HasPrefix(name, "smtpd_"), strings.HasPrefix(name, "smtp_"), strings.HasPrefix(name, "postscreen_"), strings.HasPrefix(name, "virtual_"), strings.HasPrefix(name, "local_"):
			p.say(Missing, name, "no key does this: %s", clipped(p.value(name)))
		default:
			p.say(Unknown, name, "it is not known what it does: %s", clipped(p.value(name)))
		}
	}
}

func clipped(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
