package migrate

import (
	"strings"
	"testing"
)

func TestPostfixParameters(t *testing.T) {
	master := "smtp inet n - n - - smtpd\n"
	play(t, Postfix, map[string]string{"master.cf": master}, []mapping{
		{about: "local domains", files: map[string]string{"main.cf": "myhostname = mx.example.net\n"}, want: []string{"mx.example.net\nlocalhost.example.net\n", `next_hop = "local"`, `hostname = "mx.example.net"`, `address = ":25"`, `tls = "off"`}},
		{about: "listeners", files: map[string]string{"main.cf": "myhostname = mx.example.net\nmydestination =\nsmtpd_tls_security_level = may\n", "master.cf": master + "127.0.0.1:10025 inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n  -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes\nsmtps inet n - n - - smtpd -o { smtpd_tls_wrappermode = yes }\nx\n"}, want: []string{
			`address = "127.0.0.1:10025"`, "address = \":587\" # master.cf:3\nprotocol = \"submission\"\ntls = \"required\"\n", "address = \":465\" # master.cf:5\nprotocol = \"submission\"\ntls = \"implicit\"\n",
		}, not: []string{`tls = "off"`}, notes: []string{"master.cf:6: x: unknown", "smtpd_sasl_auth_enable: todo"}},
		{about: "limits", files: map[string]string{"main.cf": "myhostname = mx.example.net\nmessage_size_limit = 0\nsmtpd_recipient_limit = 50\nsmtpd_timeout = ${stress?{10}:{300}}s\nhopcount_limit = 30\nmaximal_queue_lifetime = 2\ndelay_warning_time = 0\nminimal_backoff_time = 100s\nmaximal_backoff_time = 1h\nsmtp_helo_name = out.example\n"}, want: []string{
			"recipients = 50", `command_timeout = "300s"`, "hops = 30", `lifetime = "172800s"`, `delay_notice = "0s"`, `retry = { start = "100s", factor = 2, max = "3600s" }`, `helo = "out.example"`,
		}, notes: []string{"message_size_limit: differs"}, not: []string{"message_size ="}},
		{about: "networks", files: map[string]string{"main.cf": "myhostname = mx.example.net\nmynetworks = 127.0.0.0/8, [::1]/128 !10.0.0.1 cidr:/no/such\n"}, want: []string{`relay_from = ["127.0.0.0/8", "::1/128"]`}, notes: []string{"!10.0.0.1: an exception", "/no/such is not there"}},
		{about: "relay host", files: map[string]string{"main.cf": "myhostname = mx.example.net\nrelayhost = [h.example]:587\nsmtp_tls_security_level = secure\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = texthash:${config_directory}/pw\n", "pw": "[h.example]:587 joe:a:b\n"}, want: []string{"next_hop = \"smtp://h.example:587\"\nauth = { user = \"joe\", password_file = \"password-relayhost\" } # smtp_sasl_password_maps\ntls = \"verify\"", "-- password-relayhost -rw------- --\na:b\n"}, notes: []string{"secure is verify here"}},
		{about: "no password in the clear", files: map[string]string{"main.cf": "myhostname = mx.example.net\nrelayhost = [h.example]:587\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = texthash:${config_directory}/pw\n", "pw": "[h.example]:587 joe:a\n"}, want: []string{"smtp_sasl_password_maps\ntls = \"may\""}, notes: []string{"only sent over TLS"}},
		{about: "relay host by MX", files: map[string]string{"main.cf": "myhostname = mx.example.net\nrelayhost = isp.example\n"}, want: []string{`next_hop = "smtp://isp.example:25"`, `tls = "none"`}, notes: []string{"without brackets"}},
		{about: "transports", files: map[string]string{"main.cf": "myhostname = mx.example.net\ntransport_maps = hash:$config_directory/t\n", "t": ".a.example smtp:[10.0.0.1]:26\na.example lmtp:unix:private/x\n* smtp:[10.0.0.2]\nu@a.example discard:\nb.example error:no\n"}, want: []string{
			"to_address = [\"u@a.example\"] # transport_maps\nnext_hop = \"discard\"\n\n[[route]]\nto_domain = [\"a.example\"] # transport_maps\nnext_hop = \"lmtp:///var/spool/postfix/private/x\"\n\n[[route]]\nto_domain = [\"*.a.example\"]",
			"to_domain = [\"*\"] # transport_maps\nnext_hop = \"smtp://10.0.0.2:25\"",
		}, notes: []string{"t:5: b.example: missing"}},
		{about: "virtual", files: map[string]string{"main.cf": "myhostname = mx.example.net\nmydestination =\nvirtual_mailbox_domains = v.example\nvirtual_mailbox_maps = lmdb:$config_directory/m\nvirtual_transport = lmtp:inet:127.0.0.1:2424\nrecipient_delimiter = +-\n", "m": "a@v.example a/\nB@v.example b/\n"}, want: []string{"recipients = \"@virtual_mailbox_maps\"\nsubaddress = \"+\"", "a@v.example\nb@v.example\n", `next_hop = "lmtp://127.0.0.1:2424"`}},
		{about: "every recipient", files: map[string]string{"main.cf": "myhostname = mx.example.net\nmydestination =\nrelay_domains = v.example\nrelay_recipient_maps = hash:$config_directory/m\n", "m": "@v.example x\n"}, not: []string{"recipients ="}, notes: []string{"every recipient of the domain exists"}},
		{about: "aliases", files: map[string]string{"main.cf": "myhostname = mx.example.net\nvirtual_alias_maps = hash:$config_directory/v\nalias_maps = texthash:$config_directory/a\n", "v": "info@v.example a@b.example,\n  c@b.example\n@all.example x@y.example\njoe jane\nprog |x\n", "a": "root: admin\nlist: :include:/x\n"}, want: []string{"info@v.example a@b.example c@b.example\n@all.example x@y.example\njoe@ jane\nroot@ admin\n", `use = "aliases"`}, notes: []string{"prog: missing", "list:: missing"}},
		{about: "restrictions", files: map[string]string{"main.cf": "myhostname = mx.example.net\nsmtpd_recipient_restrictions = permit_mynetworks reject_unauth_destination reject_rbl_client a.example=127.0.0.2 reject_rbl_client b.example reject_rhsbl_sender c.example reject_rhsbl_helo d.example permit_dnswl_client e.example reject_unknown_sender_domain reject_non_fqdn_helo_hostname reject_unknown_client_hostname reject_multi_recipient_bounce check_policy_service inet:[::1]:10023 reject_odd warn_if_reject reject_odd\n"}, want: []string{
			`zones = ["a.example 127.0.0.2", "b.example"]`, `subjects = ["sender"]`, `subjects = ["helo"]`, `use = "dnswl"`, `use = "mail_from_resolvable"`, "fqdn = true", `no_match = "reject"`, `several = "reject"`, `use = "greylist"`,
		}, notes: []string{"smtpd_recipient_restrictions: missing: reject_odd", "warn_if_reject"}},
		{about: "lists twice, answers in ranges", files: map[string]string{"main.cf": "myhostname = mx.example.net\npostscreen_dnsbl_sites = a.example*3 b.example=127.0.[1;3].[2..11;14]*3\npostscreen_dnsbl_threshold = 3\nsmtpd_recipient_restrictions = reject_rbl_client a.example reject_rbl_client c.example=127.0.0.[2 check_policy_service inet:127.0.0.1:7777\n"}, want: []string{
			`zones = ["a.example", "b.example 127.0.1.2-11 127.0.1.14 127.0.3.2-11 127.0.3.14", "c.example"]`,
		}, notes: []string{"c.example: answers 127.0.0.[2", `use = "policyservice", address = "inet:127.0.0.1:7777"`}, not: []string{"[score]"}},
		{about: "lists that refuse together", files: map[string]string{"main.cf": "myhostname = mx.example.net\npostscreen_dnsbl_sites = a.example*3 b.example*2 w.example*-4 x.example*y\npostscreen_dnsbl_threshold = 3\nsmtpd_recipient_restrictions = reject_rbl_client c.example\n"}, want: []string{
			"zones = [\"a.example\", \"b.example\", \"w.example\"]\nname = \"postscreen\"\naction = \"score\"\nweights = { \"a.example\" = 3, \"b.example\" = 2, \"w.example\" = -4 }", "[score]\nreject = 3", `zones = ["c.example"]`,
		}, notes: []string{"refuse together", `"y" is no weight`}},
		{about: "a copy of the folder", files: map[string]string{"main.cf": "myhostname = mx.example.net\nmydestination =\nrelay_domains = hash:/etc/postfix/no-such-file-here\n", "no-such-file-here": "r.example x\n"}, want: []string{"name = \"r.example\" # relay_domains"}},
		{about: "callout", files: map[string]string{"main.cf": "myhostname = mx.example.net\nmydestination =\nrelay_domains = r.example\nrelay_transport = relay:[10.0.0.1]\nsmtpd_recipient_restrictions = reject_unverified_recipient\n"}, want: []string{`recipients = "callout"`, `next_hop = "smtp://10.0.0.1:25"`}},
		{about: "access", files: map[string]string{"main.cf": "myhostname = mx.example.net\nsmtpd_client_restrictions = check_client_access cidr:$config_directory/c, check_client_access regexp:$config_directory/r\nsmtpd_sender_restrictions = check_sender_access hash:$config_directory/s\n", "c": "192.0.2.0/24 REJECT no\n10.0.0.1 OK\n10.1 DUNNO\n", "r": "/^dyn\\./ 450 later\n/a b/ REJECT\n", "s": "a@b.example 554 bye\n.c.example DEFER\nd.example HOLD\n<> REJECT\n"}, want: []string{
			"deny client 192.0.2.0/24 no\nallow client 10.0.0.1/32\ndefer name /^dyn\\./ later\ndeny sender a@b.example bye\ndefer sender *.c.example\n",
		}, notes: []string{"s:3: d.example: missing", "s:4: <>: missing", "r:2"}},
		{about: "what nobody knows", files: map[string]string{"main.cf": "myhostname = mx.example.net\nsmtpd_odd = 1\nodd = 1\nbiff = no\nsmtpd_milters = x\nno setting\n"}, notes: []string{"main.cf:2: smtpd_odd: missing", "main.cf:3: odd: unknown", "smtpd_milters: missing", "main.cf:6: no setting: unknown"}, not: []string{"biff"}},
	})
}

func TestExpand(t *testing.T) {
	set := map[string]string{"a": "1", "b": "$a$a", "loop": "x$loop", "empty": ""}
	get := func(s string) string { return set[s] }
	for s, want := range map[string]string{
		"$a ${a} $(a) $b":                    "1 1 1 11",
		"$$a $":                              "$a $",
		"${a?yes} ${empty?no} ${empty:else}": "yes  else",
		"${a?{y}:{n}} ${empty?{y}:{n$a}}":    "y n1",
		"$unknown.":                          ".",
		"${a":                                "1",
		"$-":                                 "$-",
	} {
		if got := expand(s, get); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	if got := expand("$loop", get); len(got) > 100 || !strings.HasPrefix(got, "xxx") {
		t.Errorf("a loop: %q", got)
	}
}

// No bytes of a source make a reader crash, or grow without bound.
func FuzzReaders(f *testing.F) {
	for _, s := range []string{"a = $b\n c\n#\nb = ${a?{x}:{$b$b}}\n", "[x]\na=b\\\nc\n", "smtp inet n - - - - smtpd -o {a = b}\n", "/a\\/b/i REJECT x\n", "a b, {c d} e", "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, _, _ := readMain(s)
		for name := range set {
			if out := expand(set[name].text, func(n string) string { return set[n].text }); len(out) > maxExpanded {
				t.Fatalf("%d bytes", len(out))
			}
		}
		services, _ := readMaster(s)
		for _, one := range services {
			one.option("a")
		}
		readINI(s)
		lines(s)
		words(s)
		cutPattern(s)
		network(s)
		_, _ = readVirtual(s)
		accessKey("client", s, false)
	})
}

// Whatever the files of a source hold, what comes out is TOML.
func FuzzDocument(f *testing.F) {
	f.Add("a\"\\\n\x00\x7f", "# x")
	f.Fuzz(func(t *testing.T, value, from string) {
		var d document
		d.head = []string{from}
		d.one("x").set("a", value, from).set("b", []string{value, from}, from).set("c", inline{{"d", tomlString(value), ""}}, from)
		d.add("y", from).set("a", value, from)
		var any map[string]any
		if err := decode(d.String(), &any); err != nil {
			t.Fatalf("%v in\n%s", err, d.String())
		}
	})
}
