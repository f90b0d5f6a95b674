package config

import (
	"io/fs"
	"log/slog"
	"net/netip"
	"time"
)

// This file is the schema and the manual: one row a key, with its type, where it is put, its value where it is not
// written, and what it means.

// schema is the whole file.
func schema() section[Config] {
	return section[Config]{rows: []row[Config]{
		{"server", table(serverKeys(), func(c *Config) *Server { return &c.Server }), nil, ""},
		{"listen", tables(listenKeys(), func(c *Config) *[]Listen { return &c.Listen }), nil, ""},
		{"limits", table(limitsKeys(), func(c *Config) *Limits { return &c.Limits }), nil, ""},
		{"tls", table(tlsKeys(), func(c *Config) *TLS { return &c.TLS }), nil, ""},
		{"auth", tables(authKeys(), func(c *Config) *[]Auth { return &c.Auth }), nil, ""},
		{"dkim", tables(dkimKeys(), func(c *Config) *[]DKIM { return &c.DKIM }), nil, ""},
		{"arc", table(arcKeys(), func(c *Config) *ARC { return &c.ARC }), nil, ""},
		{"dns", table(dnsKeys(), func(c *Config) *DNS { return &c.DNS }), nil, ""},
		{"domain", tables(domainKeys(), func(c *Config) *[]Domain { return &c.Domains }), nil, ""},
		{"callout", table(calloutKeys(), func(c *Config) *Callout { return &c.Callout }), nil, ""},
		{"route", tables(routeKeys(), func(c *Config) *[]Route { return &c.Routes }), nil, ""},
		{"srs", table(srsKeys(), func(c *Config) *SRS { return &c.SRS }), nil, ""},
		{"batv", table(batvKeys(), func(c *Config) *BATV { return &c.BATV }), nil, ""},
		{"queue", table(queueKeys(), func(c *Config) *Queue { return &c.Queue }), nil, ""},
		{"delivery", table(deliveryKeys(), func(c *Config) *Delivery { return &c.Delivery }), nil, ""},
		{"local", table(localKeys(), func(c *Config) *Local { return &c.Local }), nil, ""},
		{"policy", tables(policyKeys(), func(c *Config) *[]Policy { return &c.Policies }), nil, ""},
		{"dmarc", table(dmarcKeys(), func(c *Config) *DMARC { return &c.DMARC }), nil, ""},
		{"score", table(scoreKeys(), func(c *Config) *Score { return &c.Score }), nil, ""},
		{"geoip", table(geoipKeys(), func(c *Config) *GeoIP { return &c.GeoIP }), nil, ""},
		{"lookup", tables(lookupKeys(), func(c *Config) *[]Lookup { return &c.Lookups }), nil, ""},
		{"store", table(storeKeys(), func(c *Config) *Store { return &c.Store }), nil, ""},
		{"quarantine", table(quarantineKeys(), func(c *Config) *Quarantine { return &c.Quarantine }), nil, ""},
		{"digest", table(digestKeys(), func(c *Config) *Digest { return &c.Digest }), nil, ""},
		{"recorder", table(recorderKeys(), func(c *Config) *Recorder { return &c.Recorder }), nil, ""},
		{"log", table(logKeys(), func(c *Config) *Log { return &c.Log }), nil, ""},
		{"console", table(consoleKeys(), func(c *Config) *Console { return &c.Console }), nil, ""},
		{"metrics", later[Config](), nil, "Metrics beyond those of the console."},
		{"cluster", later[Config](), nil, "Several nodes with one queue."},
	}}
}

func serverKeys() section[Server] {
	return section[Server]{
		name: "server", doc: "Who the gateway is and where it keeps things.",
		rows: []row[Server]{
			{"hostname", to(domain(), func(s *Server) *string { return &s.Hostname }), computed("the machine's name"), "the name in the greeting, in trace fields and in bounces"},
			{"literal_host", to(domain(), func(s *Server) *string { return &s.LiteralHost }), computed("the host name"), "the domain of recipients such as `joe@[192.0.2.1]`, where the client is connected to this address"},
			{"data_dir", to(path(), func(s *Server) *string { return &s.DataDir }), "var", "queue, store, recorder, quarantine and local mail; made where it is missing"},
			{"user", to(account(), func(s *Server) *string { return &s.User }), "", "account to drop to once the ports are bound; empty: stay"},
			{"control", to(path(), func(s *Server) *string { return &s.Control }), computed("`postern.sock` in `data_dir`"), "socket that the postern commands talk to; its path is at most 107 bytes"},
			{"policy_dir", to(path(), func(s *Server) *string { return &s.PolicyDir }), "policies", "folder of the site's scripts, which win over shipped ones of their names; may be missing"},
			{"plugin_dir", to(path(), func(s *Server) *string { return &s.PluginDir }), "plugins.d", "folder of the site's plugins; may be missing"},
			{"envnoathost", to(domain(), func(s *Server) *string { return &s.EnvNoAtHost }), computed("the host name"), "domain of recipients without one that programs hand over (qmail-queue, QMQP, QMTP, inject)"},
			{"percenthack", to(listOf(domain(), `"example.net"`), func(s *Server) *[]string { return &s.PercentHack }), []any{}, "domains at which `user%other.example` stands for `user@other.example`, before anybody judges the recipient"},
			{"mixed_recipients", to(enum(options{now: []string{"strictest", "split", "quarantine"}}), func(s *Server) *string { return &s.MixedRecipients }), "strictest", "what a message gets whose recipients are judged differently after DATA and whose client takes one reply for all: the `strictest` verdict for all; `split`: those refused for good are dropped, with a trace and no bounce; `quarantine`: those are kept in quarantine. A deferral of one defers all in the last two"},
		},
	}
}

func listenKeys() section[Listen] {
	return section[Listen]{
		name: "listen", list: true, doc: "A way in. Without any: SMTP on 127.0.0.1:2525.",
		begin: func(l *Listen, v value) { l.Pos = v.pos("listen") },
		rows: []row[Listen]{
			{"name", to(word("mx"), func(l *Listen) *string { return &l.Name }), computed("the address"), "what `when.listener`, conn.listener and the log call it; no two are the same"},
			{"address", to(listenAddress(), func(l *Listen) *string { return &l.Address }), required(`"127.0.0.1:2525"`), "address and port (port 0: the system chooses), `unix:/path`, or `systemd:NAME`: a socket of that FileDescriptorName=. Who comes by a unix socket counts as 127.0.0.1"},
			{"socket_mode", to(socketMode(), func(l *Listen) *fs.FileMode { return &l.SocketMode }), "0660", "of a unix socket: who may connect, as for chmod"},
			{"protocol", to(enum(options{[]string{"smtp", "submission", "lmtp", "qmqp", "qmtp"}, []string{"milter", "policy-service", "mta-hooks"}}), func(l *Listen) *string { return &l.Protocol }), "smtp", "what is spoken there; `qmqp`: whole messages of clients that may send anywhere, no others; `qmtp`: whole messages, judged as SMTP's; `submission`: mail is taken from relaying and authenticated clients only, and gets the Date and Message-ID it lacks"},
			{"greeting", to(greeting(), func(l *Listen) *string { return &l.Greeting }), "", "what the greeting says behind `220 HOSTNAME ESMTP`"},
			{"tls", to(enum(options{now: []string{"off", "starttls", "required", "implicit"}}), func(l *Listen) *string { return &l.TLS }), "starttls", "whether STARTTLS is offered; `required`: and nothing is taken without; `implicit`: the connection begins with TLS"},
			{"auth", to(listOf(enum(options{now: []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"}}), `"PLAIN"`), func(l *Listen) *[]string { return &l.Auth }), computed("all, but none in `lmtp`"), "mechanisms of AUTH that are offered over TLS, where there is an [[auth]] or a policy for stage `auth`; SCRAM-SHA-256 only where a user has an entry for it"},
			{"sender_check", to(senderCheck(), func(l *Listen) *SenderCheck { return &l.SenderCheck }), "off", "what an authenticated client may send as: anything; `user`: the address that its name is, or its name at a domain of ours; `@file.txt`: what stands behind its name in a file of lines like `user a@example.net @example.org`"},
			{"proxy_from", to(prefixes(), func(l *Listen) *[]netip.Prefix { return &l.ProxyFrom }), []any{}, "proxies, which must send a PROXY header (version 1 or 2) before all else; everything is about the client that it names"},
			{"xclient_from", to(prefixes(), func(l *Listen) *[]netip.Prefix { return &l.XclientFrom }), []any{}, "clients that may use XCLIENT and XFORWARD"},
			{"relay_from", to(prefixes(), func(l *Listen) *[]netip.Prefix { return &l.RelayFrom }), []any{}, "clients that may send anywhere; they are exempt from `connections_per_client`"},
			{"rules", to(path(), func(l *Listen) *string { return &l.Rules }), "", "file of connection rules in the tcprules language ([docs/qmail.md](qmail.md#tcpserver-tcprules-and-rblsmtpd)); empty: none"},
		},
	}
}

func limitsKeys() section[Limits] {
	return section[Limits]{
		name: "limits", doc: "Bounds of what one client, and all together, may ask for.",
		rows: []row[Limits]{
			{"message_size", to(size(), func(l *Limits) *int64 { return &l.MessageSize }), "50MiB", "largest message, announced as SIZE"},
			{"header_size", to(size(), func(l *Limits) *int64 { return &l.HeaderSize }), "1MiB", "largest header section of a message"},
			{"recipients", to(count(1), func(l *Limits) *int { return &l.Recipients }), 1000, "recipients of one message; the next gets 452"},
			{"connections", to(count(1), func(l *Limits) *int { return &l.Connections }), 2000, "connections at a time, all clients together"},
			{"connections_per_client", to(count(1), func(l *Limits) *int { return &l.ConnectionsPerClient }), 200, "connections of one address at a time; clients in `relay_from` are exempt"},
			{"errors", to(count(1), func(l *Limits) *int { return &l.Errors }), 10, "negative replies in a connection before the next command gets 421"},
			{"hops", to(count(1), func(l *Limits) *int { return &l.Hops }), 100, "Received and Delivered-To fields above which a message is in a loop"},
			{"command_timeout", to(duration(time.Second), func(l *Limits) *time.Duration { return &l.CommandTimeout }), "5m", "time to the end of the next command line"},
			{"data_timeout", to(duration(time.Second), func(l *Limits) *time.Duration { return &l.DataTimeout }), "10m", "time for a message's body, to which each `min_data_rate` received adds a second"},
			{"min_data_rate", to(size(), func(l *Limits) *int64 { return &l.MinDataRate }), "4KiB", "bytes a second that a body must keep up in the long run"},
			{"bare_lf", to(enum(options{now: []string{"reject", "normalise"}}), func(l *Limits) *string { return &l.BareLF }), "reject", "what becomes of a message with LF that no CR precedes: refused with 554 5.6.11, or its lines ended as they should"},
		},
	}
}

func tlsKeys() section[TLS] {
	files := listOf(path(), `"cert.pem"`)
	return section[TLS]{
		name: "tls", doc: "Certificates, read again at a reload. As many keys as certificates, in the same order.",
		rows: []row[TLS]{
			{"certificate", to(files, func(t *TLS) *[]string { return &t.Certificate }), []any{}, "PEM files, each with its chain; empty: a self-signed one is made for the host name"},
			{"key", to(files, func(t *TLS) *[]string { return &t.Key }), []any{}, "PEM files of the private keys"},
			{"ca", to(listOf(path(), `"ca.pem"`), func(t *TLS) *[]string { return &t.CA }), []any{}, "PEM files of the authorities that may have signed the certificates of next hops (`tls = \"verify\"`); empty: the system's"},
			{"client_ca", to(path(), func(t *TLS) *string { return &t.ClientCA }), "", "PEM file of authorities: clients are asked for a certificate, and one that these vouch for is known to policies; empty: none is asked for"},
		},
	}
}

func authKeys() section[Auth] {
	return section[Auth]{
		name: "auth", list: true, doc: "Who knows the users that may log in by AUTH. The first entry that has a user decides. AUTH is never offered in the clear.",
		begin: func(a *Auth, v value) { a.Pos = v.pos("auth") },
		rows: []row[Auth]{
			{"use", to(enum(options{[]string{"file"}, []string{"dovecot", "ldap"}}), func(a *Auth) *string { return &a.Use }), required(`"file"`), "`file`: a password file"},
			{"path", to(path(), func(a *Auth) *string { return &a.Path }), required(`"users.txt"`), "lines of `user:hash`: bcrypt (`$2y$…`), argon2id (`$argon2id$…`), or `$scram-sha-256$ITERATIONS$SALT$STOREDKEY$SERVERKEY` (RFC 5803's form too), which all mechanisms can use; read again when it changes"},
		},
	}
}

func dkimKeys() section[DKIM] {
	return section[DKIM]{
		name: "dkim", list: true, doc: "A key that mail of ours is signed with: what relaying and authenticated clients send, what is made on this host, and bounces. The domain of the From field decides which keys sign, or one above it that has keys; else that of the envelope sender. All keys of a domain sign, so that an RSA key may stand beside an Ed25519 one. A reload reads the files again.",
		begin: func(d *DKIM, v value) { d.Pos = v.pos("dkim") },
		rows: []row[DKIM]{
			{"domain", to(signer(`"example.net"`), func(d *DKIM) *string { return &d.Domain }), required(`"example.net"`), "the domain that signs (d=)"},
			{"selector", to(signer(`"2026a"`), func(d *DKIM) *string { return &d.Selector }), required(`"2026a"`), "name of the key: its record stands at `SELECTOR._domainkey.DOMAIN`"},
			{"key", to(path(), func(d *DKIM) *string { return &d.Key }), required(`"2026a.pem"`), "PEM file of the private key, RSA (1024 bits or more) or Ed25519, that its owner alone can read; `postern dkim keygen` makes one"},
			{"headers", to(some(word("from"), `"from"`), func(d *DKIM) *[]string { return &d.Headers }), computed("those of RFC 6376 section 5.4.1"), "names of the fields to sign; From always is. Of From, To, Cc, Subject, Date, Reply-To, Message-ID and MIME's fields nobody can add another one"},
			{"expire", to(duration(time.Minute), func(d *DKIM) *time.Duration { return &d.Expire }), computed("never"), "time after which the signature counts no more (x=); longer than mail may be under way"},
			{"from", to(timestamp(), func(d *DKIM) *time.Time { return &d.From }), computed("always"), "when the key begins to sign: `2027-01-01` (UTC), or a time as in RFC 3339"},
			{"until", to(timestamp(), func(d *DKIM) *time.Time { return &d.Until }), computed("always"), "when it ends to; another entry whose `from` is the same takes over. Leave the record published for as long as mail may be under way"},
		},
	}
}

func arcKeys() section[ARC] {
	return section[ARC]{
		name: "arc", doc: "Seals for the mail of others that goes on through us (ARC, RFC 8617), so that the next server can tell what was found out here before anything was changed. All three keys, or none.",
		rows: []row[ARC]{
			{"domain", to(signer(`"example.net"`), func(a *ARC) *string { return &a.Domain }), computed("none, and nothing is sealed"), "the domain that seals"},
			{"selector", to(signer(`"2026a"`), func(a *ARC) *string { return &a.Selector }), computed("none"), "name of the key, whose record is one of DKIM: it may be the key of a [[dkim]] too"},
			{"key", to(path(), func(a *ARC) *string { return &a.Key }), computed("none"), "PEM file of the private key, as in [[dkim]]"},
		},
	}
}

func dnsKeys() section[DNS] {
	return section[DNS]{
		name: "dns", doc: "Who is asked for names.",
		rows: []row[DNS]{
			{"servers", to(listOf(scalar("address", `"127.0.0.1:53"`, parseServer), `"127.0.0.1:53"`), func(d *DNS) *[]netip.AddrPort { return &d.Servers }), []any{}, "addresses, with a port where it isn't 53; empty: the system's"},
			{"timeout", to(duration(time.Millisecond), func(d *DNS) *time.Duration { return &d.Timeout }), "5s", "time for one answer, all attempts together"},
		},
	}
}

func domainKeys() section[Domain] {
	return section[Domain]{
		name: "domain", list: true, doc: "A domain that is ours: mail for it is taken from everyone. Without any, nothing is ours.",
		begin: func(d *Domain, v value) { d.Pos = v.pos("domain") },
		rows: []row[Domain]{
			{"name", to(optional(domainName()), func(d *Domain) **string { return &d.written }), required(`"example.net"`), "`example.net`; `*.example.net` for all below it; `@file.txt`, a file with one of these a line, or `.example.net` as in rcpthosts; empty: the host name"},
			{"recipients", to(recipients(), func(d *Domain) *Recipients { return &d.Recipients }), "any", "`any`; `@file.txt`: a file with a local part or an address a line; `local`: the users of [local] and their `.qmail` files; `callout`: the server that the domain's [[route]] leads to is asked by a RCPT that no message follows; `lookup:NAME`: a map of that [[lookup]] has the address, or `@` and its domain"},
			{"subaddress", to(scalar("string", `"+"`, parseSeparator), func(d *Domain) *string { return &d.Subaddress }), "", "of lists and maps of recipients: what stands behind this in a local part is left out where the whole is not found, so that `user+list` is `user`; empty: nothing is"},
		},
	}
}

func calloutKeys() section[Callout] {
	return section[Callout]{
		name: "callout", doc: "How next hops are asked about the recipients of domains with `recipients = \"callout\"`, and for how long their answers count. What is remembered outlives a reload.",
		rows: []row[Callout]{
			{"positive", to(duration(time.Second), func(c *Callout) *time.Duration { return &c.Positive }), "24h", "how long a recipient counts as one that exists"},
			{"negative", to(duration(time.Second), func(c *Callout) *time.Duration { return &c.Negative }), "1h", "how long a recipient counts as one that does not; also how long a next hop that takes every recipient is not asked"},
			{"entries", to(count(1), func(c *Callout) *int { return &c.Entries }), 100000, "answers that are remembered; beyond it, the one not used for the longest time goes"},
			{"concurrency", to(count(1), func(c *Callout) *int { return &c.Concurrency }), 20, "questions at a time, all next hops together"},
			{"timeout", to(duration(time.Second), func(c *Callout) *time.Duration { return &c.Timeout }), "30s", "time for an answer, waiting for its turn included; then the client gets 451"},
		},
	}
}

func routeKeys() section[Route] {
	return section[Route]{
		name: "route", list: true, doc: "Where mail goes; the first entry that matches. An entry matches where each pattern key it has does.",
		begin: func(r *Route, v value) { r.Pos = v.pos("route") },
		rows: []row[Route]{
			{"to_domain", to(patterns(), func(r *Route) *[]string { return &r.ToDomain }), nil, "recipient's domain: `example.net`, `*.example.net` for all below it, `*` for all"},
			{"to_address", to(addresses(false), func(r *Route) *[]string { return &r.ToAddress }), nil, "recipient's address"},
			{"from_domain", to(patterns(), func(r *Route) *[]string { return &r.FromDomain }), nil, "sender's domain, as `to_domain`"},
			{"from_address", to(addresses(true), func(r *Route) *[]string { return &r.FromAddress }), nil, "sender's address; `<>` is the null sender"},
			{"client", to(somePrefixes(), func(r *Route) *[]netip.Prefix { return &r.Client }), nil, "address of the client that brought the message"},
			{"tag", to(some(word("bulk"), `"bulk"`), func(r *Route) *[]string { return &r.Tag }), nil, "tag that a policy gave the message"},
			{"next_hop", to(nextHop(), func(r *Route) *NextHop { return &r.NextHop }), required(`"smtp://192.0.2.1:25"`), "`smtp://HOST:PORT`, `smtps://HOST:PORT` (TLS from the first byte), `lmtp://HOST:PORT` or `lmtp:///PATH` (a unix socket), `qmqp://HOST:PORT,…` (the first of these that takes the connection), `mx` (the domain's mail exchangers), `local` (a Maildir below `data_dir`, or users, see [local]), `pipe:/PROGRAM ARGUMENTS` (a program for each recipient, see docs/local.md; policies can choose one that a route has) or `discard`; ports that are not written are 25, 465, 24 and 628"},
			{"mode", to(enum(options{now: []string{"queue", "proxy"}}), func(r *Route) *string { return &r.Mode }), "queue", "`queue`: accepted mail is kept and sent on from the queue; `proxy`: one server, `smtp://`, `smtps://` or `lmtp://`, answers for each recipient and for the message while the client waits, and nothing is kept"},
			{"tls", to(enum(options{[]string{"none", "may", "encrypt", "verify"}, []string{"dane"}}), func(r *Route) *string { return &r.TLS }), "may", "`may`: TLS where the next hop offers it and it works; `encrypt`: mail waits where it doesn't; `verify`: also where the certificate is not by a known authority for the next hop's name (for `mx`: the mail exchanger's)"},
			{"auth", table(loginKeys(), func(r *Route) *Login { return &r.Auth }), nil, ""},
			{"source", to(scalar("address", `"192.0.2.1"`, parseSource), func(r *Route) *netip.Addr { return &r.Source }), computed("the system chooses"), "address of this machine to connect from; next hops of the other address family are left out"},
			{"srs", to(boolean(), func(r *Route) *bool { return &r.SRS }), false, "whether senders that are not of our domains are rewritten as [srs] says, so that SPF passes at the next hop"},
		},
	}
}

func loginKeys() section[Login] {
	return section[Login]{
		name: "route.auth", doc: "How to authenticate to the next hop of a route: `auth = { user = \"me\", password_file = \"password\" }`, by SCRAM-SHA-256, PLAIN or LOGIN, whichever it offers first in this order. It is never done without TLS: `may` counts as `encrypt`.",
		rows: []row[Login]{
			{"user", to(scalar("user", `"me"`, parseUser), func(a *Login) *string { return &a.User }), required(`"me"`), "the name to log in with"},
			{"password_file", to(path(), func(a *Login) *string { return &a.PasswordFile }), required(`"password"`), "file whose first line is the password; read for each connection, by the account that `user` in [server] names"},
		},
	}
}

func queueKeys() section[Queue] {
	return section[Queue]{
		name: "queue", doc: "How long mail is tried.",
		rows: []row[Queue]{
			{"lifetime", to(duration(time.Second), func(q *Queue) *time.Duration { return &q.Lifetime }), "7d", "age at which the last attempt is made and the message bounces"},
			{"delay_notice", to(duration(0), func(q *Queue) *time.Duration { return &q.DelayNotice }), "4h", "age at which the sender is told once that delivery is late; 0: never"},
			{"retry", to(retry(), func(q *Queue) *Retry { return &q.Retry }), "quadratic", "qmail's schedule; or the waits between attempts, the last of which repeats; or the first wait (`start`), by what each further one is longer (`factor`, 2 where it is not written), the longest (`max`, 4h), and the part of each wait that chance adds to it at most (`jitter`, 0)"},
			{"double_bounce_to", to(mailboxOrNone(), func(q *Queue) *string { return &q.DoubleBounceTo }), "", "who gets null-sender mail that fails; empty: postmaster at the host name if that is ours, else nobody"},
		},
	}
}

func deliveryKeys() section[Delivery] {
	return section[Delivery]{
		name: "delivery", doc: "How mail is sent on.",
		rows: []row[Delivery]{
			{"concurrency_local", to(count(0), func(d *Delivery) *int { return &d.ConcurrencyLocal }), 10, "deliveries on this machine at a time; 0: none, they wait"},
			{"concurrency_remote", to(count(0), func(d *Delivery) *int { return &d.ConcurrencyRemote }), 200, "deliveries to other machines at a time; 0: none, they wait"},
			{"per_destination", to(count(1), func(d *Delivery) *int { return &d.PerDestination }), 20, "of these, to one destination"},
			{"helo", to(domain(), func(d *Delivery) *string { return &d.Helo }), computed("the host name"), "name given to next hops"},
			{"rule", tables(ruleKeys(), func(d *Delivery) *[]DeliveryRule { return &d.Rules }), nil, ""},
		},
	}
}

func ruleKeys() section[DeliveryRule] {
	return section[DeliveryRule]{
		name: "delivery.rule", list: true, doc: "Bounds for some destinations; the first entry that names one applies to it.",
		begin: func(r *DeliveryRule, v value) { r.Pos = v.pos("delivery.rule") },
		rows: []row[DeliveryRule]{
			{"destination", to(destinations(), func(r *DeliveryRule) *[]string { return &r.Destination }), required(`["slow.example"]`), "domains of mail that goes by `mx` or `local`, as in `to_domain`; hosts of `smtp://` next hops, also as HOST:PORT"},
			{"concurrency", to(count(1), func(r *DeliveryRule) *int { return &r.Concurrency }), computed("`per_destination`"), "deliveries at a time"},
			{"rate", to(scalar("rate", `"60/min"`, ParseRate), func(r *DeliveryRule) *Rate { return &r.Rate }), computed("no bound"), "deliveries begun in a second (`/s`), minute (`/min`), hour (`/hour`) or day (`/day`)"},
		},
	}
}

func policyKeys() section[Policy] {
	return section[Policy]{
		name: "policy", list: true, doc: "A policy, in the order in which they are asked. All further keys are the policy's own settings: `postern policy show NAME` lists them. Write tables inline.",
		begin: func(p *Policy, v value) { p.Pos = v.pos("policy") },
		other: func(p *Policy, name string, v value) {
			if p.Settings == nil {
				p.Settings = map[string]any{}
			}
			p.Settings[name] = v.raw
		},
		rows: []row[Policy]{
			{"use", to(policyUse(), func(p *Policy) *string { return &p.Use }), required(`"greylist"`), "name of a built-in, script or plugin, or a path (with a slash)"},
			{"name", to(word("greylist"), func(p *Policy) *string { return &p.Name }), computed("that of the file without .lua"), "what the log, metrics and other policies call it"},
			{"mode", to(enum(options{now: []string{"enforce", "shadow", "off"}}), func(p *Policy) *string { return &p.Mode }), "enforce", "`shadow`: it is asked and traced, and nothing follows"},
			{"timeout", to(duration(time.Millisecond), func(p *Policy) *time.Duration { return &p.Timeout }), computed("as the policy says, else 30s"), "time for one answer; later is a failure"},
			{"on_failure", to(enum(options{now: []string{"defer", "pass"}}), func(p *Policy) *string { return &p.OnFailure }), computed("as the policy says, else `defer`"), "what follows a failure: 451, or the next policy"},
			{"when", table(whenKeys(), func(p *Policy) *When { return &p.When }), nil, ""},
			{"immune", to(listOf(enum(options{now: []string{"relaying", "authenticated"}}), `"relaying"`), func(p *Policy) *[]string { return &p.Immune }), computed("as the policy says"), "clients that the policy leaves alone"},
			{"deny_at", to(enum(options{now: []string{"helo", "mail", "rcpt", "data", "headers", "message", "queue"}}), func(p *Policy) *string { return &p.DenyAt }), computed("as the policy says, else a refusal is said at once"), "stage until which the policy's refusals are kept, see docs/stages.md"},
			{"sample", to(share(), func(p *Policy) *float64 { return &p.Sample }), computed("1, all"), "part of the clients that the policy is asked about: over 0, up to 1; a client is in it or not by its address"},
			{"every", to(duration(time.Second), func(p *Policy) *time.Duration { return &p.Every }), computed("as the policy says"), "time between two calls of its stage `tick`"},
			{"isolate", later[Policy](), nil, "runs a script in a process of its own"},
			{"sha256", to(checksum(), func(p *Policy) *string { return &p.SHA256 }), "", "SHA-256 that a plugin's file must have at each start, in hex; empty: any"},
			{"run_as", to(account(), func(p *Policy) *string { return &p.RunAs }), "", "account that a plugin's process runs under, where the server runs as root; empty: the server's"},
			{"concurrency", to(count(1), func(p *Policy) *int { return &p.Concurrency }), computed("64"), "calls that a plugin gets at a time; more wait, which counts against their time"},
		},
	}
}

func whenKeys() section[When] {
	return section[When]{
		name: "policy.when", doc: "Limits a policy: `when = { … }`. All that is given must match.",
		rows: []row[When]{
			{"listener", to(some(word("mx"), `"mx"`), func(w *When) *[]string { return &w.Listener }), nil, "names of [[listen]] entries"},
			{"client", to(somePrefixes(), func(w *When) *[]netip.Prefix { return &w.Client }), nil, "addresses of clients"},
			{"client_not", to(prefixes(), func(w *When) *[]netip.Prefix { return &w.ClientNot }), nil, "clients that are left alone"},
			{"rcpt_domain", to(patterns(), func(w *When) *[]string { return &w.RcptDomain }), nil, "recipient's domain, as `to_domain` of a route"},
			{"sender_domain", to(patterns(), func(w *When) *[]string { return &w.SenderDomain }), nil, "sender's domain"},
			{"authenticated", to(optional(boolean()), func(w *When) **bool { return &w.Authenticated }), nil, "whether the client has authenticated"},
		},
	}
}

func scoreKeys() section[Score] {
	return section[Score]{
		name: "score", doc: "What a message's points lead to; a threshold that is not written is off.",
		rows: []row[Score]{
			{"tag", to(optional(number()), func(s *Score) **float64 { return &s.Tag }), nil, "points from which a message is marked"},
			{"quarantine", to(optional(number()), func(s *Score) **float64 { return &s.Quarantine }), nil, "points from which it is quarantined"},
			{"reject", to(optional(number()), func(s *Score) **float64 { return &s.Reject }), nil, "points from which it is refused"},
			{"rule", tables(scoreRuleKeys(), func(s *Score) *[]ScoreRule { return &s.Rules }), nil, ""},
		},
	}
}

func scoreRuleKeys() section[ScoreRule] {
	return section[ScoreRule]{
		name: "score.rule", list: true, doc: "Points for what policies found together. The conditions are looked at after stage `message`, in their order, before the thresholds.",
		begin: func(r *ScoreRule, v value) { r.Pos = v.pos("score.rule") },
		rows: []row[ScoreRule]{
			{"when", to(sentence("`dnsbl.listed >= 2`"), func(r *ScoreRule) *string { return &r.When }), required(`"dnsbl.listed >= 2"`), "condition over results, points, tags and the client, see [docs/scoring.md](scoring.md)"},
			{"points", to(number(), func(r *ScoreRule) *float64 { return &r.Points }), required("3"), "what it adds; less than 0 takes away"},
			{"name", to(word("two_lists"), func(r *ScoreRule) *string { return &r.Name }), computed("`rule_N`, its place"), "the symbol's name in scores, stories and metrics"},
			{"why", to(sentence(`"on two lists"`), func(r *ScoreRule) *string { return &r.Why }), computed("the condition"), "a sentence for the story"},
		},
	}
}

func geoipKeys() section[GeoIP] {
	return section[GeoIP]{
		name: "geoip", doc: "What policies can learn of an IP address.",
		rows: []row[GeoIP]{
			{"databases", to(listOf(path(), `"GeoLite2-Country.mmdb"`), func(g *GeoIP) *[]string { return &g.Databases }), []any{}, "files in the form of MaxMind (mmdb) that the Lua library geoip asks; a reload reads those that changed"},
		},
	}
}

func storeKeys() section[Store] {
	return section[Store]{
		name: "store", doc: "Memory that policies share.",
		rows: []row[Store]{
			{"engine", to(engine(), func(s *Store) *string { return &s.Engine }), "embedded", "where it is kept: `embedded`: below `data_dir`; a Redis server, which several nodes can share: `redis://HOST:PORT/NUMBER`, `rediss://…` (TLS) or `unix:///PATH`. The other keys but `max_size` are for that"},
			{"max_size", to(size(), func(s *Store) *int64 { return &s.MaxSize }), "1GiB", "how much the embedded memory may have on disk, 16 MiB at least; beyond, what would expire first goes, first attempts of greylists before what is known for long."},
			{"user", to(scalar("user", `"postern"`, parseUser), func(s *Store) *string { return &s.User }), nil, "name to log in with"},
			{"password_file", to(path(), func(s *Store) *string { return &s.PasswordFile }), "", "file whose first line is the password, read for each connection"},
			{"timeout", to(duration(time.Millisecond), func(s *Store) *time.Duration { return &s.Timeout }), "2s", "time for one operation; later is a failure, and policies do what they say for failures"},
			{"concurrency", to(count(1), func(s *Store) *int { return &s.Concurrency }), 32, "connections, at most"},
		},
	}
}

func recorderKeys() section[Recorder] {
	return section[Recorder]{
		name: "recorder", doc: "The flight recorder behind `postern why`.",
		rows: []row[Recorder]{
			{"enabled", to(boolean(), func(r *Recorder) *bool { return &r.Enabled }), true, "whether it records; without it `postern why`, `replay` and `shadow report` know nothing"},
			{"keep", to(duration(time.Second), func(r *Recorder) *time.Duration { return &r.Keep }), "7d", "how long it remembers"},
			{"max_size", to(size(), func(r *Recorder) *int64 { return &r.MaxSize }), "1GiB", "how much it remembers; the oldest goes first"},
			{"bodies", to(boolean(), func(r *Recorder) *bool { return &r.Bodies }), false, "whether it keeps bodies of messages too"},
		},
	}
}

func quarantineKeys() section[Quarantine] {
	return section[Quarantine]{
		name: "quarantine", doc: "Mail that waits for an operator's judgement, see `postern quarantine`.",
		rows: []row[Quarantine]{
			{"keep", to(duration(time.Second), func(q *Quarantine) *time.Duration { return &q.Keep }), "30d", "age at which it is deleted"},
			{"max_size", to(size(), func(q *Quarantine) *int64 { return &q.MaxSize }), "1GiB", "how much is kept; the oldest goes first"},
		},
	}
}

func logKeys() section[Log] {
	return section[Log]{
		name: "log", doc: "The log.",
		rows: []row[Log]{
			{"format", to(enum(options{now: []string{"auto", "text", "json", "qmail"}}), func(l *Log) *string { return &l.Format }), "auto", "`auto`: coloured lines on a terminal, else text; `qmail`: qmail-send's lines, see docs/log.md"},
			{"level", to(level(), func(l *Log) *slog.Level { return &l.Level }), "info", "the least that is logged"},
		},
	}
}

func consoleKeys() section[Console] {
	return section[Console]{
		name: "console", doc: "HTTP: the state page, /metrics, /healthz, /readyz.",
		rows: []row[Console]{
			{"address", to(listenAddressOrNone(), func(c *Console) *string { return &c.Address }), "127.0.0.1:2580", "address and port; empty: none"},
		},
	}
}
