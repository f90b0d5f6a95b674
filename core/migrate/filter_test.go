package migrate

import "testing"

func TestQpsmtpdPlugins(t *testing.T) {
	play(t, Qpsmtpd, map[string]string{"config/me": "mx.example.net\n", "config/rcpthosts": "example.net\n"}, []mapping{
		{about: "none", files: map[string]string{"config/plugins": "# nothing\n"}, want: []string{`hostname = "mx.example.net"`, "example.net\n", `next_hop = "mx"`}, silent: true},
		{about: "includes", files: map[string]string{"config/plugins": "$include more\n", "config/more": "loop 7 # seven\n$include more\n"}, want: []string{"hops = 7"}, notes: []string{"$include: missing"}},
		{about: "relays", files: map[string]string{"config/plugins": "relay only 1\n", "config/relayclients": "192.168.\n10.0.0.1\n2001:db8::/32\nx\n"}, want: []string{`relay_from = ["192.168.0.0/16", "10.0.0.1/32", "2001:db8::/32"]`}, notes: []string{"relayclients:4: x: missing", "only 1"}},
		{about: "earlytalker", files: map[string]string{"config/plugins": "check_earlytalker wait 3 reject 0\n"}, want: []string{`use = "earlytalker"`, `wait = "3s"`, `mode = "shadow"`}},
		{about: "dnsbl", files: map[string]string{"config/plugins": "dnsbl reject naughty reject_type temp\n", "config/dnsbl_zones": "a.example\nb.example:go away %IP%\n-\n", "config/dnsbl_allow": "10.\n"}, want: []string{`zones = ["a.example", "b.example"]`, `deny_at = "rcpt"`, `action = "defer"`, `when = { client_not = ["10.0.0.0/8"] }`}, notes: []string{"dnsbl_zones:2", "dnsbl_zones:3"}},
		{about: "lists of domains", files: map[string]string{"config/plugins": "rhsbl\nuribl action add-header\ndns_whitelist_soft\n", "config/rhsbl_zones": "r.example\n", "config/uribl_zones": "u.example\n", "config/whitelist_zones": "w.example\n"}, want: []string{`use = "rhsbl"`, `["r.example"]`, `["u.example"]`, `action = "score"`, `use = "dnswl"`}},
		{about: "helo", files: map[string]string{"config/plugins": "helo policy strict\n", "config/badhelo": "bad.example\n^dsl-.*\n!x\n"}, want: []string{"fqdn = true", "resolves = true", "literal = true", "deny helo bad.example\ndeny helo /^dsl-.*/\n", `use = "access"`}, notes: []string{"badhelo:3"}},
		{about: "addresses", files: map[string]string{"config/plugins": "badmailfrom\nbadrcptto\n", "config/badmailfrom": "a@b.example text\n^x$\n", "config/badrcptto": "c@example.net\n"}, want: []string{"-- badmailfrom -rw-r--r-- --\na@b.example\n", `file = "badrcptto"`}, notes: []string{"badmailfrom:1", "badmailfrom:2"}},
		{about: "spf", files: map[string]string{"config/plugins": "sender_permitted_from reject 3\n"}, want: []string{`fail = "reject"`, `softfail = "defer"`}},
		{about: "spf, notes alone", files: map[string]string{"config/plugins": "sender_permitted_from reject 1\n"}, want: []string{`fail = "pass"`}},
		{about: "dkim, dmarc", files: map[string]string{"config/plugins": "dkim reject 1\ndmarc reject 0\n"}, want: []string{`fail = "reject"`, `enforce = "monitor"`}},
		{about: "greylisting", files: map[string]string{"config/plugins": "greylisting black_timeout 120 white_timeout 2w\n"}, want: []string{`delay = "120s"`, `lifetime = "1209600s"`, `window = "12000s"`}},
		{about: "headers", files: map[string]string{"config/plugins": "headers past 5 require From,Date reject_type temp\n"}, want: []string{`past = "5d"`, `required = ["From", "Date"]`, `action = "defer"`}},
		{about: "the rest", files: map[string]string{"config/plugins": "fcrdns reject 1\nresolvable_fromhost reject 0\nbogus_bounce action deny\nhosts_allow max-from-ip 5\nrcpt_map file map domain example.net\n", "config/hosts_allow": "192.0.2.0/24 DENY go away\n198.51.100.7 DENYSOFT\nx\n", "config/map": "a@example.net=OK\nb@example.net=DENY no_such_user\nc\n"}, want: []string{
			`no_match = "reject"`, `none = "pass"`, `several = "reject"`, "connections_per_client = 5", "deny client 192.0.2.0/24 go away\ndefer client 198.51.100.7/32\n", `"b@example.net reject no such user"`, `domains = ["example.net"]`,
		}, notes: []string{"hosts_allow:3", "map:3"}},
		{about: "forward", files: map[string]string{"config/plugins": "queue/smtp-forward 2001:db8::1 2525\nqueue/maildir x\n"}, want: []string{`next_hop = "smtp://[2001:db8::1]:2525"`}},
		{about: "commands", files: map[string]string{"config/plugins": "count_unrecognized_commands 5\nnoop_counter 3\n"}, want: []string{"use = \"command_limits\" # plugins:1\nunrecognised = 5 # count_unrecognized_commands\nnoop = 3"}},
		{about: "lists as they are", files: map[string]string{"config/plugins": "badmailfromto\nrcpt_regexp\nwhitelist\n", "config/badmailfromto": "a@b.example c@example.net\n", "config/whitelisthosts": "10.\nx\n", "config/whitelistsenders": "a@b.example\n"}, want: []string{`file = "badmailfromto"`, `clients = ["10.0.0.0/8"]`, `senders = ["a@b.example"]`}, notes: []string{"rcpt_regexp: unused", "whitelisthosts:2"}},
		{about: "another queue", files: map[string]string{"config/plugins": "queue/qmail-queue\n"}, notes: []string{"handed to qmail"}},
		{about: "tls", files: map[string]string{"config/plugins": "tls c.pem k.pem\n", "config/c.pem": "x", "config/k.pem": "x"}, want: []string{`certificate = ["DIR/config/c.pem"]`}},
		{about: "an own one", files: map[string]string{"config/plugins": "\nmine\n"}, notes: []string{"DIR/config/plugins:2: mine: unknown"}},
		{about: "limits", files: map[string]string{"config/plugins": "#\n", "config/databytes": "1000\n", "config/timeoutsmtpd": "30\n", "config/smtpgreeting": "mx hello\n", "config/loglevel": "4\n"}, want: []string{"message_size = 1000", `command_timeout = "30s"`, `greeting = "hello"`}, notes: []string{"loglevel: todo"}},
	})
}

func TestHarakaPlugins(t *testing.T) {
	play(t, Haraka, map[string]string{"config/me": "mx.example.net\n", "config/host_list": "example.net\n"}, []mapping{
		{about: "none", files: map[string]string{"config/plugins": "#\n"}, want: []string{`hostname = "mx.example.net"`, `address = ":25"`}},
		{about: "listeners", files: map[string]string{"config/plugins": "#\n", "config/smtp.ini": "; x\nlisten=[::0]:25,192.0.2.1:587,[2001:db8::1]:465,bad\ninactivity_timeout=60\nuser=smtp\n"}, want: []string{`address = ":25"`, `address = "192.0.2.1:587"`, `address = "[2001:db8::1]:465"`, `tls = "implicit"`, `command_timeout = "60s"`}, notes: []string{`"bad" is no address`, "user of [server]: smtp"}},
		{about: "domains", files: map[string]string{"config/plugins": "rcpt_to.in_host_list\n", "config/host_list_regex": "^.*\\.sub\\.example$\nodd(a|b)\n"}, want: []string{"example.net\n*.sub.example\n"}, notes: []string{"host_list_regex:2"}},
		{about: "forward", files: map[string]string{"config/plugins": "queue/smtp_forward\n", "config/smtp_forward.ini": "host=10.0.0.1\nport=2525\n[b.example]\nhost=10.0.0.2\nauth_user=me\nauth_pass=it\n[no domain]\nhost=x\n"}, want: []string{
			"to_domain = [\"b.example\"] # smtp_forward.ini\nnext_hop = \"smtp://10.0.0.2:25\"\nauth = { user = \"me\", password_file = \"password-smtp_forward-b.example\" }", "to_domain = [\"example.net\"] # smtp_forward.ini\nnext_hop = \"smtp://10.0.0.1:2525\"",
		}, notes: []string{"no domain: missing"}},
		{about: "routes", files: map[string]string{"config/plugins": "recipient-routes\n", "config/rcpt_to.routes.ini": "[routes]\nc.example=lmtp://10.0.0.1:24\njoe@c.example=10.0.0.2\nx=file:///etc\n"}, want: []string{"to_address = [\"joe@c.example\"] # rcpt_to.routes.ini\nnext_hop = \"smtp://10.0.0.2\"\n\n[[route]]\nto_domain = [\"c.example\"]"}, notes: []string{"x: missing"}},
		{about: "lists", files: map[string]string{"config/plugins": "dnsbl\n", "config/dnsbl.zones": "a.example\n", "config/dns-list.ini": "zones=b.example c.example\n[c.example]\ntype=allow\n[d.example]\ntype=karma\n"}, want: []string{`zones = ["b.example", "a.example"]`, `zones = ["c.example"]`}, notes: []string{"d.example: missing"}},
		{about: "access", files: map[string]string{"config/plugins": "access\n", "config/connect.ip.blacklist": "192.0.2.1\n", "config/mail_from.access.blacklist_regex": ".*@x\\.example\n", "config/rcpt_to.access.whitelist": "a@example.net\n", "config/access.domains": "bad.example\n!good.example\n"}, want: []string{"allow any good.example\nallow recipient a@example.net\ndeny any bad.example\ndeny client 192.0.2.1/32\ndeny sender /^(?:.*@x\\.example)$/\n"}},
		{about: "aliases", files: map[string]string{"config/plugins": "aliases\n", "config/aliases": `{"a@example.net":{"action":"alias","to":["b","c@d.example"]},"x":{"action":"drop"}}`}, want: []string{"a@example.net b c@d.example\n"}, notes: []string{"x: missing"}},
		{about: "checks", files: map[string]string{
			"config/plugins": "helo.checks\nspf\nfcrdns\nlimit\nearly_talker\nheaders\ngreylist\nattachment\nuribl\ndata.signatures\nmail_from.is_resolvable\nbounce\n", "config/helo.checks.ini": "[reject]\nbare_ip=true\nmatch_re=true\n", "config/spf.ini": "[deny]\nmfrom_fail=true\n[defer]\nmfrom_temperror=1\n",
			"config/fcrdns.ini": "[reject]\nno_rdns=yes\n", "config/limit.ini": "[concurrency]\nmax=4\n[errors]\nmax=6\n[recipients]\nmax=20\n[rate_conn]\ndefault=5/1m\n[unrecognized_commands]\nmax=9\n", "config/early_talker.ini": "pause=5\nreject=false\n", "config/headers.ini": "required=From\ndate_past_days=3\n[reject]\nmissing=true\n",
			"config/greylist.ini": "[period]\nblack=10m\ngray=1d:3d\nwhite=30d\n", "config/attachment.ini": "disallowed_extensions=exe,.com\n", "config/uribl.ini": "[u.example]\n", "config/data.signatures": "one text\n", "config/bounce.ini": "[reject]\nsingle_recipient=true\n",
		}, want: []string{
			"ip = true", `fail = "reject"`, `temperror = "defer"`, `no_name = "reject"`, "connections_per_client = 4", "errors = 6", "recipients = 20", `connect_rate = "5/60s"`, "unrecognised = 9", `wait = "5s"`, `mode = "shadow"`, `past = "3d"`, `action = "reject"`, `delay = "600s"`, `window = "86400s"`,
			`lifetime = "2592000s"`, `extensions = ["exe", "com"]`, `zones = ["u.example"]`, `signatures = ["one text"]`, `several = "reject"`,
		}, notes: []string{"match_re: missing", "rate_conn: differs"}},
		{about: "policies as they are", files: map[string]string{"config/plugins": "block_me\nkarma\nknown-senders\nprevent_credential_leaks\nrecord_envelope_addresses\ntarpit\ntoobusy\nrspamd\n", "config/block_me.recipient": "spam@example.net\n", "config/rspamd.ini": "host=10.0.0.1\n"}, want: []string{`address = "spam@example.net"`, `use = "karma"`, `use = "known_senders"`, `use = "record_envelope"`, `use = "tarpit"`, `use = "loadcheck"`}, notes: []string{`use = "rspamd", address = "10.0.0.1:11333"`}},
		{about: "delay_deny", files: map[string]string{"config/plugins": "fcrdns\ndelay_deny\n"}, want: []string{`deny_at = "rcpt"`}},
		{about: "relays", files: map[string]string{"config/plugins": "relay\nxclient\n", "config/relay.ini": "[relay]\nacl=true\nall=true\n", "config/relay_acl_allow": "10.0.0.0/8\n", "config/xclient.hosts": "127.0.0.1\n"}, want: []string{`relay_from = ["10.0.0.0/8"]`, `xclient_from = ["127.0.0.1/32"]`}, notes: []string{"all: missing"}},
	})
}
