package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRefusals: what is written, and every finding that comes of it, to the letter.
func TestRefusals(t *testing.T) {
	const domainless = "[[listen]]\naddress = \"127.0.0.1:0\"\n"
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		// Names.
		{"unknown section", "[limitz]\n", []string{`postern.toml:1: limitz: unknown section; did you mean "limits"?`}},
		{"far section", "[zebra]\n", []string{`postern.toml:1: zebra: unknown section; there are server, listen, limits, tls, auth, dkim, arc, dns, domain, callout, route, srs, batv, queue, delivery, local, policy, dmarc, score, geoip, lookup, store, quarantine, digest, recorder, log, console`}},
		{"key without its section", "message_size = 1\n", []string{`postern.toml:1: message_size: unknown section; "message_size" belongs to [limits]`}},
		{"key in the wrong section", "[queue]\nhops = 1\n", []string{`postern.toml:2: queue.hops: unknown key; "hops" belongs to [limits]`}},
		{"far key", "[store]\nzebra = 1\n", []string{`postern.toml:2: store.zebra: unknown key; [store] has engine, max_size, user, password_file, timeout, concurrency`}},
		{"far key of an entry", "[[delivery.rule]]\ndestination = [\"x\"]\nrate = \"1/s\"\nzebra = 1\n", []string{`postern.toml:4: delivery.rule.zebra: unknown key; [[delivery.rule]] has destination, concurrency, rate`}},
		{"near key of an inline table", "[[policy]]\nuse = \"x\"\nwhen = { cleint = [\"::1\"] }\n", []string{`postern.toml:3: policy.when.cleint: unknown key; did you mean "client"?`}},
		{"dotted key", "limits.hopps = 3\n", []string{`postern.toml:1: limits.hopps: unknown key; did you mean "hops"?`}},
		{"table where entries belong", "[listen]\naddress = \"x:1:2\"\n", []string{
			`postern.toml:1: listen: one table where a list of them belongs; write [[listen]]`,
			`postern.toml:2: listen.address: "x:1:2" has more than one colon; write an IPv6 address in brackets, such as "[::1]:25"`,
		}},
		{"entries where a table belongs", "[[limits]]\nhops = 3\n", []string{`postern.toml:1: limits: is a list; write it as [limits]`}},
		{"value where a table belongs", "limits = 3\n", []string{`postern.toml:1: limits: is an integer; write it as [limits]`}},
		{"value where entries belong", "route = 3\n", []string{`postern.toml:1: route: is an integer; write [[route]]`}},
		{"values in a list of entries", "route = [\n  3,\n]\n", []string{`postern.toml:2: route: is an integer; write it as [[route]]`}},

		// Types.
		{"duration", "[limits]\ncommand_timeout = \"5 parsecs\"\n", []string{`postern.toml:2: limits.command_timeout: "5 parsecs" is not a duration; write something like "30s", "5m", "1h30m" or "7d"`}},
		{"duration without unit", "[limits]\ncommand_timeout = 300\n", []string{`postern.toml:2: limits.command_timeout: has no unit; write "300s" for seconds, or something like "5m", "1h30m", "7d"`}},
		{"duration too short", "[limits]\ncommand_timeout = \"5ms\"\n", []string{`postern.toml:2: limits.command_timeout: 5ms is too short; write at least "1s"`}},
		{"size", "[limits]\nmessage_size = \"50M\"\n", []string{`postern.toml:2: limits.message_size: "50M" has no unit that is known; did you mean "50MiB"?`}},
		{"size of the wrong type", "[limits]\nmessage_size = 1.5\n", []string{`postern.toml:2: limits.message_size: is a number; write a size such as "50MiB"`}},
		{"no size", "[limits]\nmessage_size = 0\n", []string{`postern.toml:2: limits.message_size: must be at least one byte; write a size such as "50MiB"`}},
		{"quoted integer", "[limits]\nhops = \"100\"\n", []string{`postern.toml:2: limits.hops: is a string; write an integer such as 100, without quotes`}},
		{"integer too small", "[limits]\nhops = 0\n", []string{`postern.toml:2: limits.hops: 0 is too small; write at least 1`}},
		{"integer too large", "[limits]\nhops = 4294967297\n", []string{`postern.toml:2: limits.hops: 4294967297 is too large; write at most 2147483647`}},
		{"boolean", "[recorder]\nbodies = \"no\"\n", []string{`postern.toml:2: recorder.bodies: is a string; write true or false, without quotes`}},
		{"number", "[score]\ntag = inf\n", []string{`postern.toml:2: score.tag: is not a finite number; write one such as 5.0, without quotes`}},
		{"list", "[tls]\ncertificate = \"cert.pem\"\n", []string{`postern.toml:2: tls.certificate: is a string; write a list such as ["cert.pem"]`}},
		{"date", "[server]\nhostname = 2024-01-01\n", []string{`postern.toml:2: server.hostname: is a date or time; write a domain such as "mx.example.net"`}},
		{"enumeration, near", "[log]\nlevel = \"warning\"\n", []string{`postern.toml:2: log.level: "warning" is unknown; write "debug" or "info" or "warn" or "error"`}},
		{"enumeration, mistyped", "[log]\nlevel = \"inof\"\n", []string{`postern.toml:2: log.level: "inof" is unknown; did you mean "info"? It takes "debug" or "info" or "warn" or "error"`}},
		{"elements at their own lines", "[[listen]]\naddress = \"127.0.0.1:0\"\nrelay_from = [\n  \"127.0.0.0/8\", # fine\n  \"127.0.0.0/99\",\n\n  \"zebra\", 5,\n]\n", []string{
			`postern.toml:5: listen.relay_from[1]: "127.0.0.0/99" has a prefix length of 99; write one from 0 to 32`,
			`postern.toml:7: listen.relay_from[2]: "zebra" is not an address or CIDR; write something like "192.0.2.0/24", "192.0.2.1" or "2001:db8::/32"`,
			`postern.toml:7: listen.relay_from[3]: is an integer; write a CIDR such as "127.0.0.0/8"`,
		}},

		{"list of one scalar", "[tls]\nkey = [true]\n", []string{`postern.toml:2: tls.key[0]: is a boolean; write a path such as "var/file"`}},
		{"address of a wrong type", "[console]\naddress = 2580\n", []string{`postern.toml:2: console.address: is an integer; write an address such as "127.0.0.1:2580"`}},

		// Listeners.
		{"missing address", "[[listen]]\nname = \"x\"\n", []string{`postern.toml:1: listen.address: missing; write address = "127.0.0.1:2525"`}},
		{"address without port", "[[listen]]\naddress = \"127.0.0.1\"\n", []string{`postern.toml:2: listen.address: "127.0.0.1" has no port; write something like "127.0.0.1:2525"`}},
		{"named port", "[[listen]]\naddress = \"127.0.0.1:smtp\"\n", []string{`postern.toml:2: listen.address: port "smtp" is not a number from 0 to 65535; write the number`}},
		{"protocol", domainless + "protocol = \"uucp\"\n", []string{`postern.toml:3: listen.protocol: "uucp" is unknown; write "smtp" or "submission" or "lmtp" or "qmqp" or "qmtp"`}},
		{"names twice", domainless + "name = \"a\"\n" + domainless + "name = \"a\"\n", []string{`postern.toml:6: listen.name: "a" is the name of the entry at postern.toml:1 already; write another`}},
		{"addresses twice", "[[listen]]\naddress = \"127.0.0.1:25\"\n[[listen]]\naddress = \"[::ffff:127.0.0.1]:25\"\nname = \"b\"\n", []string{`postern.toml:4: listen.address: [::ffff:127.0.0.1]:25 is taken by the entry at postern.toml:1 already; write another address or port`}},
		{"the console's address", "[[listen]]\naddress = \"127.0.0.1:2580\"\n", []string{`postern.toml:2: listen.address: 127.0.0.1:2580 is taken by the console already; write another address or port`}},
		{"port 0 twice", domainless + domainless, nil},
		{"rules", domainless + "rules = \"none.tcp\"\n", []string{`postern.toml:3: listen.rules: DIR/none.tcp can't be read: no such file or directory; write the path of a file of connection rules`}},
		{"rules that are a folder", domainless + "rules = \".\"\n", []string{`postern.toml:3: listen.rules: DIR can't be read: not a regular file; write the path of a file of connection rules`}},

		{"unix socket's path", "[[listen]]\naddress = \"unix:\"\n", []string{`postern.toml:2: listen.address: "unix:" names no file; write something like "unix:/run/postern/smtp.sock"`}},
		{"unix socket's path too long", "[[listen]]\naddress = \"unix:/" + strings.Repeat("x", 107) + "\"\n", []string{"postern.toml:2: listen.address: /" + strings.Repeat("x", 107) + " is 108 bytes long, and a socket's path may have 107; write a shorter one"}},
		{"unix sockets twice", "[[listen]]\naddress = \"unix:a\"\n[[listen]]\naddress = \"unix:./a\"\n", []string{`postern.toml:4: listen.address: unix:DIR/a is taken by the entry at postern.toml:1 already; write another address or port`}},
		{"systemd's socket", "[[listen]]\naddress = \"systemd:a b\"\n", []string{`postern.toml:2: listen.address: "systemd:a b" names no socket; write the FileDescriptorName= of a .socket unit, such as "systemd:smtp"`}},
		{"mode of a port", domainless + "socket_mode = \"0666\"\n", []string{`postern.toml:3: listen.socket_mode: is for unix sockets alone; leave it out`}},
		{"mode", "[[listen]]\naddress = \"unix:a\"\nsocket_mode = \"0999\"\n", []string{`postern.toml:3: listen.socket_mode: "0999" is no mode that lets its owner write; write one such as "0660" or "0666"`}},
		{"mechanism", domainless + "auth = [\"plain\"]\n", []string{`postern.toml:3: listen.auth[0]: "plain" is unknown; did you mean "PLAIN"? It takes "PLAIN" or "LOGIN" or "SCRAM-SHA-256"`}},
		{"sender check", domainless + "sender_check = \"usr\"\n", []string{`postern.toml:3: listen.sender_check: "usr" is unknown; did you mean "user"? It takes "off", "user" or "@file.txt"`}},
		{"sender check by nothing", domainless + "sender_check = \"@none.txt\"\n", []string{`postern.toml:3: listen.sender_check: DIR/none.txt can't be read: no such file or directory; write the path of a file of senders`}},
		{"submission for nobody", domainless + "protocol = \"submission\"\n", []string{`postern.toml:3: warning: listen.protocol: nobody may send there; write an [[auth]] (or a [[policy]] that judges logins) and a tls other than "off", or relay_from`}},
		{"LMTP for all the world", "[[listen]]\naddress = \"127.0.0.1:25\"\nprotocol = \"lmtp\"\n", []string{`postern.toml:3: warning: listen.protocol: LMTP is not for port 25 (RFC 2033); write another port, or a unix socket`}},

		// Logins.
		{"password file", "[[auth]]\nuse = \"file\"\npath = \"none.txt\"\n", []string{`postern.toml:3: auth.path: DIR/none.txt can't be read: no such file or directory; write the path of a password file`}},
		{"password file for all to read", "[[auth]]\nuse = \"file\"\npath = \"good.key\"\n", []string{`postern.toml:3: warning: auth.path: DIR/good.key can be read by everyone on this machine; chmod o-r it`}},
		{"password file without a name", "[[auth]]\nuse = \"file\"\npath = \"\"\n", []string{`postern.toml:3: auth.path: is empty; write the path of a password file`}},
		{"back-end without a password file", "[[auth]]\nuse = \"file\"\n", []string{`postern.toml:1: auth.path: missing; write path = "users.txt"`}},
		{"back-end", "[[auth]]\nuse = \"fiel\"\npath = \"\"\n", []string{`postern.toml:2: auth.use: "fiel" is unknown; did you mean "file"? It takes "file"`, `postern.toml:3: auth.path: is empty; write the path of a password file`}},

		// Senders of mail that goes out.
		{"rewriting without a secret", nextHopIs("mx") + "srs = true\n", []string{`postern.toml:4: route.srs: needs a secret; write a section [srs] with secret_file = "srs.secret"`}},
		{"rewriting for nobody", nextHopIs("local") + "srs = true\n[srs]\nsecret_file = \"good.pem\"\n", []string{`postern.toml:4: route.srs: nothing is forwarded there: next_hop is "local"; leave it out`, `postern.toml:6: warning: srs.secret_file: DIR/good.pem can be read by everyone on this machine; chmod o-r it`}},
		{"secret that is not there", "[srs]\nsecret_file = \"none\"\n", []string{`postern.toml:2: srs.secret_file: DIR/none can't be read: no such file or directory; write the path of a file with one name a line`}},
		{"age of a rewritten sender", "[srs]\nmax_age = \"600d\"\n", []string{`postern.toml:2: srs.max_age: an address tells no more than 511 days apart; write at most "511d"`}},
		{"tags without keys", "[batv]\ndomain = [\"a.example\"]\n", []string{`postern.toml:1: batv.secret_file: missing; write secret_file = "batv.keys"`}},

		// Deliveries on this host.
		{"users that are not there", nextHopIs("local") + "[local]\nusers = [\"none\", \"system\"]\n", []string{`postern.toml:5: local.users[0]: DIR/none can't be read: no such file or directory; write the path of a file as users/assign is`}},
		{"users that nothing leads to", "[local]\nusers = [\"system\"]\n", []string{`postern.toml:2: warning: local.users: no route leads there; write a [[route]] with next_hop = "local"`}},
		{"aliases without users", "[local]\naliases = \".\"\n", []string{`postern.toml:2: warning: local.aliases: is looked into for addresses that no user has, but there are no users; write users = ["system"], or a file in the form of users/assign`}},
		{"aliases that are a file", "[local]\naliases = \"postern.toml\"\nusers = []\n", []string{`postern.toml:2: local.aliases: DIR/postern.toml is not a folder; write the path of one, which belongs to an account such as alias`, `postern.toml:2: warning: local.aliases: is looked into for addresses that no user has, but there are no users; write users = ["system"], or a file in the form of users/assign`}},
		{"delivery to nowhere", "[local]\ndefault_delivery = \" \"\nbreak = \"a\"\n", []string{`postern.toml:2: local.default_delivery: " " delivers nowhere; write instructions such as "./Maildir/" or "|preline procmail"`, `postern.toml:3: local.break: "a" can't part a name from an extension; write signs such as "-" or "+-"`}},
		{"program without a path", nextHopIs("pipe:maildrop"), []string{`postern.toml:3: route.next_hop: "pipe:maildrop" names no program; write its whole path, such as "pipe:/usr/bin/maildrop -d joe"`}},

		// Shared memory.
		{"engine", "[store]\nengine = \"embeded\"\n", []string{`postern.toml:2: store.engine: "embeded" is unknown; did you mean "embedded"? It takes "embedded"`}},
		{"engine that is none, with a password that nobody should read in a log", "[store]\nengine = \"mysql://me:pw@db/x\"\n", []string{`postern.toml:2: store.engine: "mysql://…" is no store; write "embedded", or a Redis server such as "redis://127.0.0.1:6379/0"`}},
		{"engine that is nowhere", "[store]\nengine = \"redis://\"\n", []string{`postern.toml:2: store.engine: is no address; write one such as "redis://127.0.0.1:6379/0"`}},
		{"keys of an engine that is not shared", "[store]\nuser = \"x\"\n", []string{`postern.toml:2: store.user: is for an engine such as "redis://127.0.0.1:6379/0"; leave it out`}},
		{"password of an engine", "[store]\nengine = \"redis://db\"\npassword_file = \"none\"\n", []string{`postern.toml:3: store.password_file: DIR/none can't be read: no such file or directory; write the path of a file with the password`}},

		// Maps.
		{"map that is nowhere", "[[domain]]\nname = \"a.example\"\nrecipients = \"lookup:x\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n", []string{`postern.toml:3: domain.recipients: no [[lookup]] has the name "x"; write one with name = "x"`}},
		{"map with keys of another type", "[[lookup]]\nname = \"a\"\nsource = \"a.toml\"\nquery = \"x\"\ntimeout = \"1s\"\n", []string{`postern.toml:4: lookup.query: a map of type "toml" has no such key; leave it out`, `postern.toml:5: lookup.timeout: a map of type "toml" has no such key; leave it out`}},
		{"database without a query", "[[lookup]]\nname = \"a\"\nsource = \"a.sqlite\"\n", []string{`postern.toml:1: lookup.query: missing; write query = "SELECT value FROM users WHERE address = {key}"`}},
		{"directory without a base", "[[lookup]]\nname = \"a\"\nsource = \"ldap://x\"\nquery = \"(mail={key})\"\n", []string{`postern.toml:1: lookup.base: missing; write base = "dc=example,dc=net"`}},
		{"service that is a file", "[[lookup]]\nname = \"a\"\ntype = \"redis\"\nsource = \"a\"\n", []string{`postern.toml:4: lookup.source: is no URL of type "redis"; write "redis://127.0.0.1:6379/0"`}},
		{"file that is a service", "[[lookup]]\nname = \"a\"\ntype = \"text\"\nsource = \"http://x/{key}\"\n", []string{`postern.toml:4: lookup.source: is a URL, and a map of type "text" is a file; write its path, or type = "http"`}},
		{"separator", "[[domain]]\nname = \"a.example\"\nsubaddress = \"++\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n", []string{`postern.toml:3: domain.subaddress: "++" is no separator; write one character such as "+" or "-", or ""`}},
		{"map without a file", "[[lookup]]\nname = \"a\"\n", []string{`postern.toml:1: lookup.source: missing; write source = "users.toml"`}},
		{"maps of one name", "[[lookup]]\nname = \"a\"\nsource = \"a\"\n[[lookup]]\nname = \"a\"\nsource = \"b\"\n", []string{`postern.toml:5: lookup.name: "a" is the name of the map on line 1 already; write another name`}},

		// Server.
		{"account", "[server]\nuser = \"no-such-account\"\n", []string{`postern.toml:2: server.user: there is no account "no-such-account" on this machine; write one that is, or "" to stay`}},
		{"host name", "[server]\nhostname = \"mx..example\"\n", []string{`postern.toml:2: server.hostname: "mx..example" is not a domain name: a part between dots is empty; write something like "mx.example.net"`}},
		{"folder", "[server]\ndata_dir = \"postern.toml\"\n", []string{`postern.toml:2: server.data_dir: DIR/postern.toml is not a folder; write the path of one`}},
		{"no folder", "[server]\ndata_dir = \"\"\n", []string{`postern.toml:2: server.data_dir: is empty; write a folder such as "var"`}},
		{"control is a folder", "[server]\ncontrol = \"/tmp\"\n", []string{`postern.toml:2: server.control: /tmp is a folder; write the path of a socket`}},
		{"control too long", "[server]\nhostname = \"x\"\ncontrol = \"/" + strings.Repeat("x", 107) + "\"\n", []string{"postern.toml:3: server.control: /" + strings.Repeat("x", 107) + " is 108 bytes long, and a socket's path may have 107; write a shorter one"}},
		{"control too long through the data folder", "[server]\ndata_dir = \"/" + strings.Repeat("x", 100) + "\"\n", []string{"postern.toml:1: server.control: /" + strings.Repeat("x", 100) + "/postern.sock is 114 bytes long, and a socket's path may have 107; write a shorter one"}},

		// Certificates.
		{"counts", "[tls]\ncertificate = [\"good.pem\"]\n", []string{"postern.toml:1: tls.key: has 0 entries, certificate has 1; write one key for each certificate, in the same order"}},
		{"missing", "[tls]\ncertificate = [\n \"good.pem\",\n \"none.pem\",\n]\nkey = [\"good.key\", \"good.key\"]\n", []string{"postern.toml:4: tls.certificate[1]: DIR/none.pem can't be read: no such file or directory; write the path of a PEM file"}},
		{"no pair", "[tls]\ncertificate = [\"good.pem\"]\nkey = [\"other.key\"]\n", []string{"postern.toml:3: tls.key[0]: DIR/good.pem and DIR/other.key are no pair: private key does not match public key; write a certificate and the key that belongs to it"}},
		{"expired", "[tls]\ncertificate = [\"other.pem\"]\nkey = [\"other.key\"]\n", []string{"postern.toml:2: warning: tls.certificate[0]: DIR/other.pem expired on 2001-09-09; renew it"}},

		{"authorities", "[tls]\nclient_ca = \"none.pem\"\n", []string{"postern.toml:2: tls.client_ca: DIR/none.pem can't be read: no such file or directory; write the path of a PEM file"}},
		{"no authorities", "[tls]\nclient_ca = \"good.key\"\n", []string{"postern.toml:2: tls.client_ca: DIR/good.key holds no certificate in PEM; write the path of a file that does"}},

		// DNS.
		{"server", "[dns]\nservers = [\"ns.example\"]\n", []string{`postern.toml:2: dns.servers[0]: "ns.example" is not an IP address with or without a port; write something like "127.0.0.1:53"`}},
		{"server's port", "[dns]\nservers = [\"[::1]:0\"]\n", []string{`postern.toml:2: dns.servers[0]: port "0" is not a number from 1 to 65535; write the number`}},

		// Domains and routes.
		{"every domain", "[[domain]]\nname = \"*\"\n", []string{`postern.toml:2: domain.name: "*" would make every domain ours, an open relay; write the domains, or "*.example.net"`}},
		{"domain twice", "[[domain]]\nname = \"a.example\"\n[[domain]]\nname = \"A.example\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n", []string{`postern.toml:4: domain.name: "a.example" is already a domain at postern.toml:1; leave one of the two out`}},
		{"domain without name", "[[domain]]\n", []string{`postern.toml:1: domain.name: missing; write name = "example.net"`}},
		{"domain that no route takes", "[[domain]]\nname = \"a.example\"\n[[route]]\nto_domain = [\"b.example\", \"*.a.example\"]\nnext_hop = \"local\"\n", []string{`postern.toml:2: warning: domain.name: mail for a.example has no [[route]]; write one with to_domain = ["a.example"]`}},
		{"domain that an address may serve", "[[domain]]\nname = \"*.a.example\"\n[[route]]\nto_address = [\"x@y.a.example\"]\nnext_hop = \"local\"\n", nil},
		{"recipients", "[[domain]]\nname = \"a.example\"\nrecipients = \"some\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n", []string{`postern.toml:3: domain.recipients: "some" is unknown; write "any", "local", "callout", "lookup:NAME", or "@file.txt" with a local part or an address a line`}},
		{"route without pattern", "[[route]]\nnext_hop = \"local\"\n", []string{`postern.toml:1: route: says nothing about which mail takes it; write to_domain = ["*"] for all`}},
		{"TLS of smtps", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtps://mail.example\"\ntls = \"none\"\n", []string{`postern.toml:4: route.tls: "none" contradicts smtps://; write "encrypt" or "verify"`}},
		{"verified socket", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"lmtp:///run/x\"\ntls = \"verify\"\n", []string{`postern.toml:4: route.tls: "verify" needs a name, and a unix socket has none; write "none"`}},
		{"password in the clear", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtp://mail.example\"\ntls = \"none\"\nauth = { user = \"u\", password_file = \"good.key\" }\n", []string{`postern.toml:5: route.auth: a password is never sent without TLS, and tls is "none"; write tls = "verify"`}},
		{"password to whoever", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtp://mail.example\"\nauth = { user = \"u\", password_file = \"good.key\" }\n", []string{`postern.toml:4: warning: route.auth: whoever poses as the next hop gets the password; write tls = "verify"`}},
		{"password for all exchangers", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"mx\"\ntls = \"verify\"\nauth = { user = \"u\", password_file = \"good.key\" }\n", []string{`postern.toml:5: route.auth: a password is for one server, and next_hop is "mx"; leave auth out`}},
		{"password that is not there", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtps://mail.example\"\ntls = \"verify\"\nauth = { user = \"u\", password_file = \"none\" }\n", []string{`postern.toml:5: route.auth.password_file: DIR/none can't be read: no such file or directory; write the path of a file with the password`}},
		{"login without a password", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtps://mail.example\"\ntls = \"verify\"\nauth = { user = \"u\" }\n", []string{`postern.toml:5: route.auth.password_file: missing; write password_file = "password"`}},
		{"source that is none", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"mx\"\nsource = \"eth0\"\n", []string{`postern.toml:4: route.source: "eth0" is not an address of a machine; write one such as "192.0.2.1"`}},
		{"source of another family", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtp://[::1]\"\nsource = \"192.0.2.1\"\n", []string{`postern.toml:4: route.source: ::1 can't be reached from 192.0.2.1; write an address of the same family`}},
		{"source of no connection", "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\nsource = \"192.0.2.1\"\n", []string{`postern.toml:4: route.source: nothing is connected to there; leave source out`}},
		{"authority", "[tls]\nca = [\"good.key\"]\n", []string{`postern.toml:2: tls.ca[0]: DIR/good.key can't be read: no certificate in it; write the path of a PEM file`}},
		{"route with an empty pattern", "[[route]]\nto_domain = []\nnext_hop = \"local\"\n", []string{`postern.toml:2: route.to_domain: is an empty list, which nothing matches; leave it out, or write ["example.net"]`}},
		{"route without next hop", "[[route]]\ntag = [\"bulk\"]\n", []string{`postern.toml:1: route.next_hop: missing; write next_hop = "smtp://192.0.2.1:25"`}},
		{"route behind one for all", "[[route]]\nto_domain = [\"x\", \"*\"]\nnext_hop = \"mx\"\n[[route]]\nto_domain = [\"x\"]\nnext_hop = \"local\"\n", []string{`postern.toml:4: warning: route: never used, since the entry at postern.toml:1 takes all mail; put it before that one`}},
		{"patterns", "[[route]]\nto_domain = [\"a@b\"]\nto_address = [\"b.example\"]\nnext_hop = \"local\"\n", []string{
			`postern.toml:2: route.to_domain[0]: "a@b" is not a domain pattern; write "example.net", "*.example.net" or "*"`,
			`postern.toml:3: route.to_address[0]: "b.example" is not an address; write something like "user@example.net"`,
		}},
		{"scheme", nextHopIs("gopher://x"), []string{`postern.toml:3: route.next_hop: "gopher://x" has the unknown scheme "gopher"; write "smtp://HOST:PORT", "smtps://HOST:PORT", "lmtp://HOST:PORT", "lmtp:///PATH", "qmqp://HOST:PORT,…", "mx", "local", "pipe:/PROGRAM" or "discard"`}},
		{"near scheme", nextHopIs("stmp://x"), []string{`postern.toml:3: route.next_hop: "stmp://x" has the unknown scheme "stmp"; did you mean "smtp://x"?`}},
		{"near word", nextHopIs("locale"), []string{`postern.toml:3: route.next_hop: "locale" is unknown; did you mean "local"? It takes "smtp://HOST:PORT", "smtps://HOST:PORT", "lmtp://HOST:PORT", "lmtp:///PATH", "qmqp://HOST:PORT,…", "mx", "local", "pipe:/PROGRAM" or "discard"`}},
		{"no scheme", nextHopIs("192.0.2.1:25"), []string{`postern.toml:3: route.next_hop: "192.0.2.1:25" has no scheme; did you mean "smtp://192.0.2.1:25"?`}},
		{"path", nextHopIs("smtp://x/y"), []string{`postern.toml:3: route.next_hop: "smtp://x/y" has more than a host and a port; write something like "smtp://192.0.2.1:25"`}},
		{"port", nextHopIs("smtp://x:99999"), []string{`postern.toml:3: route.next_hop: port "99999" is not a number from 1 to 65535; write the number`}},
		{"bare IPv6", nextHopIs("smtp://::1"), []string{`postern.toml:3: route.next_hop: "::1" has more than one colon; write an IPv6 address in brackets, such as "[::1]:25"`}},

		// Queue, delivery, policies, score.
		{"retry", "[queue]\nretry = \"linear\"\n", []string{`postern.toml:2: queue.retry: "linear" is unknown; write "quadratic"`}},
		{"retry of nothing", "[queue]\nretry = []\n", []string{`postern.toml:2: queue.retry: is an empty list, which nothing matches; leave it out, or write ["5m", "30m", "2h"]`}},
		{"retry of a wrong type", "[queue]\nretry = 5\n", []string{`postern.toml:2: queue.retry: is an integer; write "quadratic", a list of durations such as ["5m", "30m", "2h"], or { start = "5m", factor = 2, max = "4h", jitter = 0.2 }`}},
		{"retry that grows, wrongly", "[queue]\nretry = { start = \"5\", factor = 0.5, jitter = 2, step = 1 }\n", []string{
			`postern.toml:2: queue.retry.factor: 0.5 is out of range; write a number from 1 to 100`,
			`postern.toml:2: queue.retry.jitter: 2 is out of range; write a number from 0 to 1`,
			`postern.toml:2: queue.retry.start: "5" is not a duration; write something like "30s", "5m", "1h30m" or "7d"`,
			`postern.toml:2: queue.retry.step: unknown key; [queue.retry] has start, factor, max, jitter`,
		}},
		{"retry that grows from nothing", "[queue]\nretry = { factor = 3 }\n", []string{`postern.toml:2: queue.retry.start: missing; write start = "5m"`}},
		{"retry that shrinks", "[queue.retry]\nstart = \"5m\"\nmax = \"1m\"\n", []string{`postern.toml:3: queue.retry.max: 1m is shorter than the first wait, 5m; write one as long at least`}},
		{"retry's delays", "[queue]\nretry = [\"5m\",\n \"5x\"]\n", []string{`postern.toml:3: queue.retry[1]: "5x" is not a duration; write something like "30s", "5m", "1h30m" or "7d"`}},
		{"double bounces", "[queue]\ndouble_bounce_to = \"postmaster\"\n", []string{`postern.toml:2: queue.double_bounce_to: "postmaster" is not an address; write something like "user@example.net"`}},
		{"destination", "[[delivery.rule]]\ndestination = [\"192.0.2.1\", \"mx.example:25\", \"smtp://[2001:db8::1]:25\", \"*.x.example\", \"a b\"]\nrate = \"1/s\"\n", []string{`postern.toml:2: delivery.rule.destination[4]: "a b" is not a destination; write a domain such as "example.net" or "*.example.net", or a next hop's host, "192.0.2.25" or "mx.example.net:25"`}},
		{"rate", "[[delivery.rule]]\ndestination = [\"x\"]\nrate = \"60 a minute\"\n", []string{`postern.toml:3: delivery.rule.rate: "60 a minute" is not a rate; write something like "5/s", "60/min", "1000/hour" or "10000/day"`}},
		{"rule for nothing", "[[delivery.rule]]\ndestination = [\"x\"]\n", []string{`postern.toml:1: delivery.rule: changes nothing; write concurrency = 2 or rate = "60/min"`}},
		{"policy without use", "[[policy]]\nmode = \"off\"\n", []string{`postern.toml:1: policy.use: missing; write use = "greylist"`}},
		{"policy's mode", "[[policy]]\nuse = \"x\"\nmode = \"shadwo\"\n", []string{`postern.toml:3: policy.mode: "shadwo" is unknown; did you mean "shadow"? It takes "enforce" or "shadow" or "off"`}},
		{"policy's immunity", "[[policy]]\nuse = \"x\"\nimmune = [\"me\"]\n", []string{`postern.toml:3: policy.immune[0]: "me" is unknown; write "relaying" or "authenticated"`}},
		{"policy's listener", domainless + "name = \"inside\"\n[[policy]]\nuse = \"x\"\nwhen = { listener = [\"inside\",\n \"insdie\"] }\n", []string{`postern.toml:7: policy.when.listener[1]: no [[listen]] entry has the name "insdie"; did you mean "inside"?`}},
		{"policy's name twice", "[[policy]]\nuse = \"x\"\n[[policy]]\nuse = \"x\"\n[[policy]]\nuse = \"x\"\nname = \"y\"\n[[policy]]\nuse = \"x\"\nname = \"y\"\n", []string{`postern.toml:10: policy.name: "y" is the name of the entry at postern.toml:5 already; write another`}},
		{"policy's checksum", "[[policy]]\nuse = \"x\"\nsha256 = \"00\"\n", []string{`postern.toml:3: policy.sha256: "00" is not a SHA-256; write the 64 hexadecimal digits that sha256sum prints`}},
		{"policy's checksum of a wrong type", "[[policy]]\nuse = \"x\"\nsha256 = 0\n", []string{`postern.toml:3: policy.sha256: is an integer; write a string such as "e3b0…b855", 64 hexadecimal digits`}},
		{"policy's account", "[[policy]]\nuse = \"x\"\nrun_as = \"no-such-account\"\n", []string{`postern.toml:3: policy.run_as: there is no account "no-such-account" on this machine; write one that is, or "" to stay`}},
		{"policy's account behind a drop", "[server]\nuser = \"daemon\"\n[[policy]]\nuse = \"x\"\nrun_as = \"nobody\"\n", []string{`postern.toml:5: policy.run_as: only root can run it as nobody, and [server] user = "daemon" drops root; leave one of the two out`}},
		{"policy's concurrency", "[[policy]]\nuse = \"x\"\nconcurrency = 0\n", []string{`postern.toml:3: policy.concurrency: 0 is too small; write at least 1`}},
		{"digest", "[digest]\nevery = \"5s\"\nlink = \"https://x.example/?a\"\naddress = \"127.0.0.1:2580\"\n", []string{
			`postern.toml:2: digest.every: 5s is too short; write at least "1m", or "0s" for never`,
			`postern.toml:3: digest.link: "https://x.example/?a" does not begin a link; write something like "https://mx.example.net/quarantine/"`,
			`postern.toml:4: digest.address: 127.0.0.1:2580 is taken by the console already; write another address or port`,
			`postern.toml:4: digest.address: is of no use without digest.link; write both or neither`,
		}},
		{"quarantine", "[quarantine]\nkeep = \"10ms\"\nmax_size = 0\n", []string{
			`postern.toml:2: quarantine.keep: 10ms is too short; write at least "1s"`,
			`postern.toml:3: quarantine.max_size: must be at least one byte; write a size such as "50MiB"`,
		}},
		{"sample", "[[policy]]\nuse = \"helo\"\nsample = 0\n", []string{`postern.toml:3: policy.sample: 0 is no part; write a number over 0 and up to 1, such as 0.1 for a tenth`}},
		{"deny_at", "[[policy]]\nuse = \"helo\"\ndeny_at = \"connect\"\n", []string{`postern.toml:3: policy.deny_at: "connect" is unknown; write "helo" or "mail" or "rcpt" or "data" or "headers" or "message" or "queue"`}},
		{"score rule", "[[score.rule]]\nwhen = \"\"\n", []string{"postern.toml:1: score.rule.points: missing; write points = 3", "postern.toml:2: score.rule.when: \"\" is not a line of text; write something like `dnsbl.listed >= 2`"}},
		{"score", "[score]\nreject = 5\ntag = 6.5\n", []string{`postern.toml:2: score.reject: 5 is below tag = 6.5, which could never act; write at least 6.5`}},

		// TOML itself.
		{"nested", "x = " + strings.Repeat("[", 100), []string{"postern.toml:1: nested more than 32 levels deep"}},
		{"twice", "[limits]\nhops = 1\nhops = 2\n", []string{"postern.toml:3: limits.hops: not TOML: Key 'limits.hops' has already been defined."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := map[string]string{"postern.toml": tc.text}
			files["good.pem"], files["good.key"] = pair(t, time.Now().Add(time.Hour))
			files["other.pem"], files["other.key"] = pair(t, time.Unix(1e9, 0))
			dir := write(t, files)
			_, problems := Load("postern.toml", Options{})
			if got := lines(problems, dir); !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

func nextHopIs(s string) string {
	return "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"" + s + "\"\n"
}

// TestLaterFeaturesAnswer: each key or value of a later version is refused as such, on its own line.
func TestLaterFeaturesAnswer(t *testing.T) {
	listen := "[[listen]]\naddress = \"127.0.0.1:0\"\n"
	route := "[[route]]\nto_domain = [\"*\"]\nnext_hop = \"mx\"\n"
	policy := "[[policy]]\nuse = \"x\"\n"
	for _, tc := range []struct {
		before, line, key, value string
	}{
		{listen, `protocol = "milter"`, "listen.protocol", `"milter" `},
		{listen, `protocol = "policy-service"`, "listen.protocol", `"policy-service" `},
		{listen, `protocol = "mta-hooks"`, "listen.protocol", `"mta-hooks" `},
		{"[console]\n", `address = "unix:/run/x"`, "console.address", `"unix:/run/x" `},
		{route, `tls = "dane"`, "route.tls", `"dane" `},
		{"[store]\n", `engine = "postgres://me:secret@db/x"`, "store.engine", `"postgres://" `},
		{policy, `isolate = true`, "policy.isolate", ""},
		{"[[policy]]\n", `use = "https://hooks.example/"`, "policy.use", `a service ("https://hooks.example/") `},
		{"[[auth]]\npath = \"postern.toml\"\n", `use = "ldap"`, "auth.use", `"ldap" `},
		{"[[auth]]\npath = \"postern.toml\"\n", `use = "dovecot"`, "auth.use", `"dovecot" `},
		{"", `[metrics]`, "metrics", ""},
		{"", `[cluster]`, "cluster", ""},
	} {
		t.Run(tc.line, func(t *testing.T) {
			write(t, map[string]string{"postern.toml": tc.before + tc.line + "\n"})
			_, problems := Load("postern.toml", Options{})
			errs := problems.Errors()
			if len(errs) != 1 {
				t.Fatalf("findings: %v", errs)
			}
			want := Problem{File: "postern.toml", Line: 1 + strings.Count(tc.before, "\n"), Key: tc.key}
			got := errs[0]
			got.Text = ""
			text := errs[0].Text
			said := strings.HasPrefix(text, tc.value+"is not available in this version; ") || strings.HasPrefix(text, tc.value+"not available in this version; ")
			if got != want || !said {
				t.Errorf("got %v, want %v", errs[0], want)
			}
			if strings.Contains(text, "secret") {
				t.Errorf("a password is printed: %s", text)
			}
		})
	}
}

func TestListsOfNames(t *testing.T) {
	dir := write(t, map[string]string{
		"postern.toml": "[[domain]]\nname = \"@domains.txt\"\nrecipients = \"@users.txt\"\n[[domain]]\nname = \"*.c.example\"\nrecipients = \"@none.txt\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n",
		"domains.txt":  "# ours\nA.example\n\nb.example\r\na.example\n",
		"users.txt":    "Root\n # staff\nanna.b+x@A.Example\n",
	})
	c, problems := Load("postern.toml", Options{})
	want := []string{"postern.toml:6: domain.recipients: DIR/none.txt can't be read: no such file or directory; write the path of a file with one name a line"}
	if got := lines(problems, dir); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	d := c.Domains[0]
	if !slices.Equal(d.Names, []string{"a.example", "b.example"}) || d.NamesFile != filepath.Join(dir, "domains.txt") {
		t.Errorf("names = %v of %s", d.Names, d.NamesFile)
	}
	for _, tc := range []struct {
		local, domain string
		valid         bool
	}{
		{"root", "a.example", true},
		{"ROOT", "b.example", true},
		{"anna.b+x", "a.example", true},
		{"anna.b+x", "b.example", false},
		{"anna", "a.example", false},
		{"", "a.example", false},
	} {
		if got := d.Recipients.Valid(tc.local, tc.domain); got != tc.valid {
			t.Errorf("Valid(%q, %q) = %v", tc.local, tc.domain, got)
		}
	}
	if d.Recipients.Len() != 2 || d.Recipients.File != filepath.Join(dir, "users.txt") {
		t.Errorf("recipients: %d of %s", d.Recipients.Len(), d.Recipients.File)
	}
	if (Recipients{}).Valid("root", "a.example") {
		t.Error("the zero value has recipients")
	}
}

func TestListsWithBadLines(t *testing.T) {
	dir := write(t, map[string]string{
		"postern.toml": "[[domain]]\nname = \"@domains.txt\"\nrecipients = \"@users.txt\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n",
		"domains.txt":  "a.example\n*\n@more.txt\n",
		"users.txt":    "ok\n" + strings.Repeat("two words\n", 30),
	})
	_, problems := Load("postern.toml", Options{})
	got := lines(problems, dir)
	for i, want := range []string{
		`DIR/domains.txt:2: domain.name: "*" would make every domain ours, an open relay; write the domains, or "*.example.net"`,
		`DIR/domains.txt:3: domain.name: "@more.txt": a file can't name another; write a domain such as "example.net"`,
		`DIR/users.txt:2: domain.recipients: "two words" is not a recipient; write a local part such as "user", or an address such as "user@example.net"`,
	} {
		if got[i] != want {
			t.Errorf("got %s, want %s", got[i], want)
		}
	}
	if last := got[len(got)-1]; len(got) != 23 || last != "DIR/users.txt:22: domain.recipients: and more like these; only the first are told" {
		t.Errorf("%d findings, the last is %s", len(got), last)
	}
}
