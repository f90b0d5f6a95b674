package migrate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// What the plugins of qpsmtpd say in arguments and files of their own.

func isDomain(s string) bool {
	d, err := message.ParseDomain(strings.ToLower(s))
	return err == nil && d[0] != '['
}

func takeRelay(f *filter, p plugin, _ *section) {
	if v, _ := p.arg("only"); v == "1" {
		f.note(Todo, p.file, p.line, p.name, "only 1: protocol = \"submission\" of the [[listen]] takes mail from relaying and authenticated clients alone")
	}
}

// takeNaughty reads at which stage the plugin says what others kept.
func takeNaughty(f *filter, p plugin, _ *section) {
	at, _ := p.arg("reject")
	f.naughty = map[string]string{"connect": "now", "mail": "mail", "data": "data", "data_post": "message"}[at]
}

// disposeAt sets deny_at of a policy that has it from `reject naughty`; "now": it says
// refusals at once.
func (t *section) disposeAt(at string) {
	for i := range t.rows {
		if t.rows[i].key != "deny_at" || t.rows[i].from != "reject naughty" || at == "" {
			continue
		}
		if at == "now" {
			t.rows = slices.Delete(t.rows, i, i+1)
			return
		}
		t.rows[i].value, t.rows[i].from = tomlString(at), "naughty"
	}
}

func takeLoop(f *filter, p plugin, _ *section) {
	n := int64(100)
	if len(p.args) > 0 {
		if v, ok := scan(p.args[0]); ok && v > 0 {
			n = v
		}
	}
	f.doc.one("limits").set("hops", n, "loop")
}

// access is the policy of that name with one more rule file.
func (f *filter) access(p plugin, name string, rules []string) {
	if len(rules) == 0 {
		return
	}
	f.addFile(name, strings.Join(rules, "\n")+"\n", 0o644)
	f.policy("access", p).set("name", strings.TrimSuffix(name, ".txt"), "").set("file", name, "")
}

func takeHostsAllow(f *filter, p plugin, _ *section) {
	if n, ok := p.arg("max-from-ip", "-m"); ok {
		if v, ok := scan(n); ok && v > 0 {
			f.doc.one("limits").set("connections_per_client", v, "hosts_allow")
		}
	}
	var rules []string
	text, _ := f.read("hosts_allow")
	for _, l := range lines(text) {
		fields := strings.Fields(l.text)
		n, ok := network(fields[0])
		if !ok || len(fields) < 2 {
			f.note(Missing, f.path("hosts_allow"), l.number, fields[0], "it is no network with a code")
			continue
		}
		verb := map[string]string{"DENY": "deny", "DENYHARD": "deny", "DENY_DISCONNECT": "deny", "DENYSOFT": "defer", "DENYSOFT_DISCONNECT": "defer", "OK": "allow", "DECLINED": "allow"}[strings.ToUpper(fields[1])]
		if verb == "" {
			f.note(Missing, f.path("hosts_allow"), l.number, fields[1], "it is no code")
			continue
		}
		rules = append(rules, strings.TrimSpace(fmt.Sprintf("%s client %s %s", verb, n, strings.Join(fields[2:], " "))))
	}
	f.access(p, "hosts_allow.txt", rules)
}

func takeDNSBL(f *filter, p plugin, t *section) {
	t.set("zones", f.zones("dnsbl_zones"), "dnsbl_zones")
	if v := rejects(p, true); v == "defer" {
		t.set("action", "defer", "reject_type")
	}
	later(p, t)
	text, _ := f.read("dnsbl_allow")
	var spared []string
	for _, l := range lines(text) {
		if n, ok := network(l.text); ok {
			spared = append(spared, n)
		} else {
			f.note(Missing, f.path("dnsbl_allow"), l.number, l.text, "it is no network")
		}
	}
	if len(spared) > 0 {
		t.set("when", inline{{"client_not", tomlList(spared), ""}}, "dnsbl_allow")
	}
	if exists(f.path("dnsbl_rejectmsg")) {
		f.note(Todo, f.path("dnsbl_rejectmsg"), 0, "dnsbl_rejectmsg", "text of the policy dnsbl")
	}
	if t.has("deny_at") { // there, too, these get all their mail
		f.policy("whitelist", p).set("name", "dnsbl_spares", "").set("recipients", []string{"postmaster@", "abuse@", "mailer-daemon@", "root@"}, "").set("skip", []string{"dnsbl"}, "")
	}
}

func takeZones(file string) func(*filter, plugin, *section) {
	return func(f *filter, p plugin, t *section) {
		t.set("zones", f.zones(file), file)
		if t.rows[0].value == `"dnswl"` {
			return
		}
		act, _ := p.arg("action")
		switch {
		case strings.HasPrefix(act, "add-header"), rejects(p, true) == "" && act == "":
			t.set("action", "score", "")
		case act == "denysoft", rejects(p, true) == "defer":
			t.set("action", "defer", "")
		}
	}
}

// seconds are those of a setting that is a number, or a number and a unit.
func seconds(v string) (string, bool) {
	n, ok := scan(v)
	if !ok {
		return "", false
	}
	unit := int64(1)
	switch strings.TrimLeft(v, "0123456789") {
	case "", "s":
	case "m":
		unit = 60
	case "h":
		unit = 3600
	case "d":
		unit = 86400
	case "w":
		unit = 7 * 86400
	default:
		return "", false
	}
	return fmt.Sprintf("%ds", max(n, 0)*unit), true
}

func takeGreylisting(f *filter, p plugin, t *section) {
	for from, to := range sorted(map[string]string{"black_timeout": "delay", "grey_timeout": "window", "white_timeout": "lifetime"}) {
		v, ok := p.arg(from)
		if !ok {
			v = map[string]string{"black_timeout": "3000", "grey_timeout": "12000", "white_timeout": "3110400"}[from]
		}
		if s, ok := seconds(v); ok {
			t.set(to, s, from)
		}
	}
	f.note(Differs, p.file, p.line, p.name, "the key is always network, sender and recipient; what was learned before is not taken over")
	for _, name := range []string{"greylist_exclude_files", "exclude_file", "exclude_files"} {
		if v, ok := p.arg(name); ok {
			f.spare(p, t, strings.Split(v, ","))
		}
	}
	if v, _ := p.arg("reject"); v == "0" {
		t.set("mode", "shadow", "reject 0")
	}
}

// spare reads who is not greylisted, in the form of postgrey's whitelist_clients: a
// network, a name that stands for all below it too, or a pattern.
func (f *filter) spare(p plugin, t *section, files []string) {
	var nets, names []string
	for _, name := range files {
		name = strings.TrimSpace(name)
		text, ok := f.read(name)
		if !ok {
			name = strings.TrimPrefix(name, "config/")
			if text, ok = f.read(name); !ok {
				f.note(Todo, p.file, p.line, p.name, "the file of exceptions %q is not there; exempt, exempt_names and exempt_senders of the policy", name)
				continue
			}
		}
		for _, l := range lines(text) {
			one := strings.ToLower(strings.Fields(l.text)[0])
			if n, ok := network(one); ok {
				nets = append(nets, n)
			} else if isDomain(one) {
				names = append(names, one, "*."+one)
			} else {
				f.note(Missing, f.path(name), l.number, one, "it is neither a network nor a name; write names of exempt_names, or whitelist in front")
			}
		}
	}
	for key, list := range sorted(map[string][]string{"exempt": nets, "exempt_names": names}) {
		if len(list) > 0 {
			file := "greylist_" + key
			f.addFile(file, strings.Join(list, "\n")+"\n", 0o644)
			t.set(key, "@"+file, "greylist_exclude_files")
		}
	}
}

func takeHeaders(_ *filter, p plugin, t *section) {
	for from, to := range sorted(map[string]string{"past": "past", "future": "future"}) {
		if v, ok := p.arg(from, "days_"+from); ok {
			if n, ok := scan(v); ok {
				t.set(to, fmt.Sprintf("%dd", n), from)
			}
		}
	}
	if v, ok := p.arg("require"); ok {
		t.set("required", strings.Split(v, ","), "require")
	}
	if v := rejects(p, true); v != "" {
		t.set("action", v, "reject")
	}
}

func takeHelo(f *filter, p plugin, t *section) {
	level, _ := p.arg("policy")
	if level == "rfc" || level == "strict" {
		t.set("fqdn", true, "policy "+level).set("resolves", true, "")
	}
	if level == "strict" {
		t.set("literal", true, "").set("named", true, "")
	}
	later(p, t)
	var rules []string
	text, _ := f.read("badhelo")
	for _, l := range lines(text) {
		name := strings.Fields(l.text)[0]
		switch {
		case name[0] == '!':
			f.note(Missing, f.path("badhelo"), l.number, name, "an entry that negates")
		case isDomain(name):
			rules = append(rules, "deny helo "+strings.ToLower(name))
		case !strings.ContainsAny(name, "/ "):
			rules = append(rules, "deny helo /"+name+"/")
		default:
			f.note(Missing, f.path("badhelo"), l.number, name, "it is neither a name nor a pattern")
		}
	}
	f.access(p, "badhelo.txt", rules)
}

func takeRcptMap(f *filter, p plugin, t *section) {
	domain, _ := p.arg("domain")
	name, _ := p.arg("file")
	if isDomain(domain) {
		t.set("domains", []string{strings.ToLower(domain)}, "domain")
	}
	text, ok := "", false
	if name != "" {
		if text, ok = f.read(name); !ok { // arguments count from the folder above
			text, ok = f.read(strings.TrimPrefix(name, "config/"))
		}
	}
	if !ok {
		f.note(Todo, p.file, p.line, p.name, "its file %q is not there", name)
		return
	}
	var entries []string
	for _, l := range lines(text) {
		address, code, _ := strings.Cut(l.text, "=")
		code, about, _ := strings.Cut(code, " ")
		verb := map[string]string{"OK": "accept", "": "accept", "DENY": "reject", "DENYSOFT": "defer"}[strings.ToUpper(strings.TrimSpace(code))]
		if verb == "" || !strings.Contains(address, "@") {
			f.note(Missing, f.path(name), l.number, address, "a line of another form")
			continue
		}
		entries = append(entries, strings.TrimSpace(strings.Join([]string{strings.TrimSpace(address), verb, strings.ReplaceAll(about, "_", " ")}, " ")))
	}
	t.set("entries", entries, name)
}

func takeTLS(f *filter, p plugin, _ *section) {
	paths := func(i int, name string) string {
		if len(p.args) > i {
			return p.args[i]
		}
		if exists(f.path(name)) {
			return f.path(name)
		}
		return ""
	}
	cert, key := paths(0, "../ssl/qpsmtpd-server.crt"), paths(1, "../ssl/qpsmtpd-server.key")
	if cert == "" || key == "" || !exists(f.path(cert)) || !exists(f.path(key)) {
		f.note(Todo, p.file, p.line, p.name, "certificate and key of [tls]; without them a self-signed one is made")
		return
	}
	f.doc.one("tls").set("certificate", []string{f.path(cert)}, "").set("key", []string{f.path(key)}, "")
}

// way is the route of all mail, as the plugin for stage queue has it.
func (f *filter) way(hop, from string) {
	if f.routed {
		return
	}
	f.routed = true
	f.doc.add("route", "").set("to_domain", []string{"*"}, from).set("next_hop", hop, "")
}

func takeForward(f *filter, p plugin, _ *section) {
	if len(p.args) == 0 {
		f.note(Todo, p.file, p.line, p.name, "it names no host; write next_hop of the [[route]]")
		return
	}
	port := "25"
	if len(p.args) > 1 {
		if n, ok := scan(p.args[1]); ok && n > 0 && n < 65536 {
			port = p.args[1]
		}
	}
	f.way("smtp://"+bracketed(p.args[0])+":"+port, p.name)
	f.note(Differs, p.file, p.line, p.name, "mail is queued here first; mode = \"proxy\" of the [[route]] hands it on while the client waits, as before")
}

// bracketed is a host as it stands in front of a port.
func bracketed(host string) string {
	if strings.Contains(host, ":") && host[0] != '[' {
		return "[" + host + "]"
	}
	return host
}

func takeMaildir(f *filter, p plugin, _ *section) {
	f.way("local", p.name)
	f.note(Differs, p.file, p.line, p.name, "mail goes into Maildirs below data_dir, or to users as [local] says; the folder was %q", strings.Join(p.args, " "))
}

// takeOtherQueue is for plugins that hand mail to another server's queue.
func takeOtherQueue(server string) func(*filter, plugin, *section) {
	return func(f *filter, p plugin, _ *section) {
		f.note(Todo, p.file, p.line, p.name, "mail was handed to %s on this host: Postern sends it on itself; or let %s listen at another port, and write next_hop = \"smtp://127.0.0.1:PORT\" in the [[route]]", server, server)
	}
}

func takeSpamassassin(f *filter, p plugin, _ *section) {
	text := `[[policy]] use = "spamassassin"`
	if v, ok := p.arg("spamd_socket"); ok {
		text += fmt.Sprintf(", address = %q", unixed(v))
	}
	if v, ok := p.arg("reject"); ok {
		if n, numeric := scan(v); numeric {
			text += fmt.Sprintf(", reject = %d", n)
		}
	}
	if v, ok := p.arg("subject_prefix"); ok {
		text += fmt.Sprintf(", subject = %q", v)
	}
	f.note(Todo, p.file, p.line, p.name, "write %s: it is a plugin, see docs/policies/spamassassin.md", text)
}

func takeClamd(f *filter, p plugin, _ *section) {
	text := `[[policy]] use = "clamd"`
	if v, ok := p.arg("clamd_socket"); ok {
		text += fmt.Sprintf(", address = %q", v)
	} else if host, ok := p.arg("clamd_host"); ok {
		port, _ := p.arg("clamd_port")
		text += fmt.Sprintf(", address = %q", bracketed(host)+":"+port)
	}
	f.note(Todo, p.file, p.line, p.name, "write %s: it is a plugin, see docs/policies/clamd.md", text)
}

// unixed is a socket's address as the plugin of spamd has it.
func unixed(s string) string {
	if strings.HasPrefix(s, "/") {
		return "unix:" + s
	}
	return s
}

// takeFile is for policies that take the lines of a file as they are.
func takeFile(name string) func(*filter, plugin, *section) {
	return func(f *filter, p plugin, t *section) {
		if !f.list(t, "file", name) {
			f.note(Unused, p.file, p.line, p.name, "the file %s is not there, so that it does nothing", name)
		}
		later(p, t)
	}
}

// takeCommands is for plugins that count commands, which one policy does.
func takeCommands(key string) func(*filter, plugin, *section) {
	return func(f *filter, p plugin, _ *section) {
		var t *section
		for _, one := range f.policies {
			if one.value("use") == `"command_limits"` {
				t = one
			}
		}
		if t == nil {
			t = f.policy("command_limits", p)
		}
		if len(p.args) > 0 {
			if n, ok := scan(p.args[0]); ok && n > 0 {
				t.set(key, n, p.name)
			}
		}
	}
}

func takeWhitelist(f *filter, _ plugin, t *section) {
	for file, key := range sorted(map[string]string{"whitelisthosts": "clients", "whitelisthelo": "helos", "whitelistsenders": "senders", "whitelistrcpt": "recipients"}) {
		text, _ := f.read(file)
		var list []string
		for _, l := range lines(text) {
			one := strings.ToLower(strings.Fields(l.text)[0])
			ok := true
			switch key {
			case "clients":
				one, ok = network(one)
			case "helos":
				ok = isDomain(one)
			}
			if !ok {
				f.note(Missing, f.path(file), l.number, l.text, "an entry of another form")
				continue
			}
			list = append(list, one)
		}
		if len(list) > 0 {
			t.set(key, list, file)
		}
	}
}
