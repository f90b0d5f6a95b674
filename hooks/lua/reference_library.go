package lua

// librarySections are Postern's own libraries and what they give.
func librarySections() []section {
	return append([]section{libraryGlobals(), dnsLibrary(), mxSection(), listingSection(), ipLibrary(), addrLibrary(), mailboxSection(), storeLibrary(), lookupLibrary(), httpLibrary(), responseSection(), tcpLibrary(), connectionSection(), regexLibrary(), mimeLibrary(), jsonLibrary(), base64Library(), hashLibrary(), timeLibrary(), dateSection(), geoipLibrary(), hostLibrary(), metricLibrary(), logLibrary()}, authSections()...)
}

// libraryGlobals are the names of all libraries.
func libraryGlobals() section {
	return section{doc: "libraries", items: append([]member{
		lib("string", "stringlib", "Texts; also the type of a setting: string \"default\"."),
		lib("table", "tablelib", "Lists."),
		lib("math", "mathlib", "Numbers."),
		lib("debug", "debuglib", "For finding mistakes."),
		lib("dns", "dnslib", "Questions to the DNS, cached."),
		lib("ip", "iplib", "IP addresses and networks."),
		lib("addr", "addrlib", "Mail addresses."),
		lib("store", "storelib", "The memory that policies share."),
		lib("lookup", "lookuplib", "Maps from files."),
		lib("http", "httplib", "Requests to web servers."),
		lib("tcp", "tcplib", "Connections to services that speak in lines."),
		lib("regex", "regexlib", "RE2 expressions."),
		lib("mime", "mimelib", "Mail within mail, and the words of header fields."),
		lib("json", "jsonlib", "JSON."),
		lib("base64", "base64lib", "Base64."),
		lib("hash", "hashlib", "Hash functions."),
		lib("time", "timelib", "Dates."),
		lib("geoip", "geoiplib", "What is known of an IP address."),
		lib("host", "hostlib", "The machine that all this runs on."),
		lib("metric", "metriclib", "Metrics of your own."),
		lib("log", "loglib", "Lines in the log."),
		def("parallel", "(lookups: any[][]): any[], error[]", "Runs look-ups (dns, store, http, lookup) beside each other, at most 64, 16 at a time. Each is a table of the function and its arguments. Gives the values in their order, and a table that has the error where a value is nil.",
			"local found, errs = parallel { { dns.a, \"mx.example.org\" }, { dns.a, \"slow.example\" } }\nfound[1] --> { 192.0.2.1 }\nerrs[2].kind --> \"temporary\""),
		def("pause", "(wait: span)", "Makes the client wait, at most a minute and within the policy's timeout. A policy that pauses holds one of the pool's states, so let only those wait who deserve it.", "pause(\"2s\")"),
	}, authGlobals()...)}
}

func dnsLibrary() section {
	return section{name: "dns", class: "dnslib", doc: "Questions to the DNS, cached. Where there is no such name or record the error's kind is none.", items: []member{
		def("a", "(name: string): ip[]?, error?", "The IPv4 addresses of a name.", "dns.a(\"mx.example.org\") --> { 192.0.2.1 }\ndns.a(\"slow.example\") --> nil, { kind = \"temporary\" }"),
		def("aaaa", "(name: string): ip[]?, error?", "The IPv6 addresses of a name.", "dns.aaaa(\"six.example.org\") --> { 2001:db8::1 }"),
		def("mx", "(name: string): mx[]?, error?", "The mail exchangers of a domain, best first; a host of \"\" says that the domain takes no mail.", "dns.mx(\"example.org\") --> { { host = \"mx.example.org\", preference = 10 } }"),
		def("txt", "(name: string): string[]?, error?", "The texts of a name.", "dns.txt(\"t.example\") --> { \"one\", \"two\" }"),
		def("ptr", "(ip: someip): string[]?, error?", "The names that an address gives itself.", "dns.ptr(\"192.0.2.1\") --> { \"mx.example.org\" }"),
		def("fcrdns", "(ip: someip): string?, error?", "The name of an address that leads back to it.", "dns.fcrdns(conn.ip) --> \"mx.example.org\"\ndns.fcrdns(\"192.0.2.2\") --> nil, { kind = \"none\" }"),
		def("dnsbl", "(ip: someip, zones: string|string[]): listing[]?, error?", "Asks block lists at once, at most 64. An empty list where nothing is listed; an error only where nothing is listed and a list did not answer.", "dns.dnsbl(\"127.0.0.2\", { \"bl.example\", \"dead.example\" }) --> { { answer = \"127.0.0.2\", text = \"listed for a test\", zone = \"bl.example\" } }"),
		def("listed", "(names: string|string[], zones: string|string[]): listing[]?, error?", "Asks block lists of domains about names, at once, at most 64 names and 64 lists; what comes back is as of dnsbl, with the name of each.", "dns.listed({ \"bad.example\", \"mx.example.org\" }, \"dbl.example\") --> { { answer = \"127.0.1.2\", name = \"bad.example\", text = \"\", zone = \"dbl.example\" } }"),
	}}
}

func mxSection() section {
	return section{name: "mx", class: "mx", plain: true, doc: "A mail exchanger.", items: []member{
		def("host", "string", "Its name.", "dns.mx(\"example.org\")[1].host --> \"mx.example.org\""),
		def("preference", "integer", "Lower is better.", "dns.mx(\"example.org\")[1].preference --> 10"),
	}}
}

func listingSection() section {
	const one = "local one = dns.dnsbl(\"127.0.0.2\", \"bl.example\")[1]\n"
	return section{name: "listing", class: "listing", plain: true, doc: "What a block list says of an address or name.", items: []member{
		def("zone", "string", "The list.", one+"one.zone --> \"bl.example\""),
		def("answer", "string", "Its answer, an address in 127.0.0.0/8.", one+"one.answer --> \"127.0.0.2\""),
		def("text", "string", "Its reason, \"\" where it gives none.", one+"one.text --> \"listed for a test\""),
		def("name", "string?", "The name that it is about, of dns.listed.", one+"one.name --> nil"),
	}}
}

func ipLibrary() section {
	return section{name: "ip", class: "iplib", doc: "IP addresses and networks.", items: []member{
		def("parse", "(text: someip): ip?, error?", "The address of a text.", "ip.parse(\"2001:DB8::1\") --> 2001:db8::1\nip.parse(\"nonsense\") --> nil, { kind = \"bad\" }"),
		def("prefix", "(ip: someip, n4: integer, n6?: integer): string?, error?", "The network of that length as a text; n6 is for IPv6.", "ip.prefix(\"2001:db8:1::1\", 24, 32) --> \"2001:db8::/32\""),
		def("set", "(networks: string[]): cidrs?, error?", "A list of networks with :match(ip).", "ip.set{ \"192.0.2.0/24\", \"2001:db8::/32\" }:match(\"2001:db8::1\") --> true"),
		def("match", "(ip: someip, networks: string[]): boolean?, error?", "Whether the address is in one of the networks.", "ip.match(conn.ip, { \"198.51.100.0/24\" }) --> false"),
	}}
}

func addrLibrary() section {
	return section{name: "addr", class: "addrlib", doc: "Mail addresses.", items: []member{
		def("parse", "(text: someaddress): address?, error?", "The address of a text, with or without angle brackets.", "addr.parse(\"<User@Example.ORG>\") --> User@example.org\naddr.parse(\"a b\") --> nil, { kind = \"bad\" }"),
		def("subaddress", "(address: someaddress, separator?: string): address?, string|error?", "The address without what stands behind the separator (\"+\"), and that part or nil.", "addr.subaddress(\"user+list@example.net\") --> user@example.net, \"list\""),
		def("verp", "(sender: someaddress, recipient: someaddress, separator?: string): address?, error?", "A sender that tells for whom the copy was, so that its bounce does too.", "addr.verp(\"list@example.net\", rcpt) --> list-b=example.net@example.net"),
		def("unverp", "(address: someaddress, sender: someaddress, separator?: string): address?, error?", "For whom the copy was, of an address that verp made.", "addr.unverp(\"list-user=example.org@example.net\", \"list@example.net\") --> user@example.org\naddr.unverp(\"other@example.net\", \"list@example.net\") --> nil, { kind = \"none\" }"),
		def("srs_forward", "(sender: someaddress): address?, error?", "The sender that forwarded mail goes on with, by the secret of [srs] (routes with srs = true do it by themselves). The null path, and an address that was rewritten here, stay.", "addr.srs_forward(\"user@example.org\") --> SRS0=pUf5=JL=example.org=user@example.net"),
		def("srs_reverse", "(address: someaddress): address?, error?", "Whom a bounce to an address that srs_forward made is for. The error's kind is none where it is no such address, and bad where it is forged or too old.", "addr.srs_reverse(\"srs0=puf5=jl=example.org=user@example.net\") --> user@example.org\naddr.srs_reverse(\"SRS0=AAAA=C7=example.org=user@example.net\") --> nil, { kind = \"bad\" }\naddr.srs_reverse(\"user@example.net\") --> nil, { kind = \"none\" }"),
		def("batv_sign", "(sender: someaddress): address?, error?", "The sender with a tag of today, by the key of [batv] (mail that clients send from its domains gets one by itself).", "addr.batv_sign(\"user@example.net\") --> prvs=0786c98398=user@example.net"),
		def("batv_check", "(address: someaddress): address?, error?", "The address without its tag, if that is one of ours that still counts. The error's kind is none where there is no tag, and bad where it is forged or too old.", "addr.batv_check(\"prvs=0786c98398=user@example.net\") --> user@example.net\naddr.batv_check(\"prvs=0786000000=user@example.net\") --> nil, { kind = \"bad\" }\naddr.batv_check(\"user@example.net\") --> nil, { kind = \"none\" }"),
		def("ours", "(domain: someaddress): boolean", "Whether the domain, or that of an address, is one of ours.", "addr.ours(\"example.net\") --> true"),
		def("list", "(field: string): mailbox[]?, error?", "Who a field such as From or Reply-To names; give it the field as it came, of tx.headers:raw. Where the grammar is not kept, the one pair of angle brackets is read.", "addr.list(\"Jane Doe <jane@example.org>, joe@example.net\") --> { { address = jane@example.org, name = \"Jane Doe\" }, { address = joe@example.net, name = \"\" } }\naddr.list(\"undisclosed-recipients:;\") --> nil, { kind = \"bad\" }"),
		def("organization", "(domain: someaddress): string?, error?", "The domain that somebody registered, by the public suffix list: that of a.b.example.co.uk is example.co.uk. The error's kind is none of a public suffix, an address literal or what is no name.", "addr.organization(\"mail.eu.example.co.uk\") --> \"example.co.uk\"\naddr.organization(tx.sender) --> \"example.org\"\naddr.organization(\"co.uk\") --> nil, { kind = \"none\" }"),
	}}
}

func mailboxSection() section {
	const one = "local one = addr.list(\"=?utf-8?q?J=C3=BCrgen?= <j@example.org>\")[1]\n"
	return section{name: "mailbox", class: "mailbox", plain: true, doc: "One whom a field names.", items: []member{
		def("name", "string", "The name that readers show, decoded; \"\" where there is none.", one+"one.name --> \"Jürgen\""),
		def("address", "address", "The address.", one+"one.address --> j@example.org"),
	}}
}

func storeLibrary() section {
	return section{name: "store", class: "storelib", doc: "The memory that all policies share. It outlives restarts; entries with a time to live go when it is over.", items: []member{
		def("get", "(key: key): plain, error?", "The value, or nil and an error of kind none.", "store.put({ \"hello\", conn.ip }, 5)\nstore.get{ \"hello\", conn.ip } --> 5\nstore.get(\"nothing\") --> nil, { kind = \"none\" }"),
		def("put", "(key: key, value: plain, ttl?: span): boolean?, error?", "Stores a value, for a time or for ever.", "store.put(\"hello.last\", { from = \"a\", n = 1 }, \"1d\") --> true"),
		def("incr", "(key: key, by?: integer, ttl?: span): integer?, error?", "Adds to a counter, and gives the sum. The time to live counts from the first.", "store.incr(\"hello.count\") --> 1\nstore.incr(\"hello.count\", 5) --> 6"),
		def("swap", "(key: key, old: plain, new: plain, ttl?: span): boolean?, error?", "Stores the new value if the old one is what is there; nil stands for no entry.", "store.swap(\"hello.owner\", nil, \"a\") --> true\nstore.swap(\"hello.owner\", nil, \"b\") --> false"),
		def("delete", "(key: key): boolean?, error?", "Removes the entry.", "store.delete(\"hello.last\") --> true"),
		def("take", "(key: key, capacity: number, per: span, n?: number): boolean?, number|error?", "A rate limit: takes n tokens (1) from a bucket that holds capacity and is refilled evenly, from empty to full in per. False and the seconds to wait where there are too few.", "store.take({ \"hello\", \"rate\" }, 1, \"1m\") --> true\nstore.take({ \"hello\", \"rate\" }, 1, \"1m\") --> false, 60"),
	}}
}

func lookupLibrary() section {
	return section{name: "lookup", class: "lookuplib", doc: "The maps of [[lookup]]: text files, TOML, constant databases. A changed file counts within a second. Values are texts, in TOML also numbers, booleans, lists and tables; where there is none the error's kind is none, and bad where there is no such map.", items: []member{
		def("get", "(map: string, key: string): plain, error?", "The value of a key. In text files and TOML, letter case of ASCII does not count.", "lookup.get(\"partners\", \"example.org\") --> \"gold\"\nlookup.get(\"partners\", \"nobody\") --> nil, { kind = \"none\" }"),
		def("domain", "(map: string, domain: string): plain, string|error?", "The value of a domain, or of the nearest \".parent\" above it, and the key that has it.", "lookup.domain(\"partners\", \"a.b.example.com\") --> \"silver\", \".example.com\""),
		def("address", "(map: string, address: someaddress): plain, string|error?", "The value of an address, of that without its detail (\"+…\"), of its domain, or of what is above that; and the key that has it. The null path has the key \"<>\".", "lookup.address(\"partners\", \"jane+x@example.org\") --> \"gold\", \"example.org\"\nlookup.address(\"partners\", \"jane@example.edu\") --> nil, { kind = \"none\" }"),
		def("ip", "(map: string, ip: someip): plain, string|error?", "The value of an IP address, or of the smallest network around it, and the key that has it.", "lookup.ip(\"partners\", \"198.51.100.7\") --> \"lab\", \"198.51.100.0/24\""),
		def("user", "(rcpt: someaddress, setting: string): plain, error?", "A setting of a recipient, from the map \"users\": of the address, of that without its detail, of its domain, of what is above that, or of \"*\". In TOML an entry is a table of settings; in other files the key is the entry's, a slash, and the setting's name.", "lookup.user(rcpt, \"spam\") --> \"strict\"\nlookup.user(\"x@example.net\", \"spam\") --> \"loose\"\nif lookup.user(rcpt, \"closed\") then return reject(\"5.2.1\", \"Takes no mail\") end"),
	}}
}

func httpLibrary() section {
	return section{name: "http", class: "httplib", doc: "Requests to web servers. Certificates are verified; redirects are followed within a scheme, at most 5. Options: headers, a table; wait, how long all of it may take (10s, at most 1m); max, bytes of the answer (256 KiB, at most 4 MiB; a longer one is an error).", items: []member{
		def("get", "(url: string, options?: table): response?, error?", "Gets a page. Any status is an answer, not an error.",
			"local r, err = http.get(\"http://api.example.net/words\", { wait = \"3s\", headers = { Accept = \"text/plain\" } })\nr.status --> 200\nr.body --> \"casino\"\nhttp.get(\"http://down.example.net/\") --> nil, { kind = \"temporary\" }\nhttp.get(\"ftp://example.net/\") --> nil, { kind = \"bad\" }"),
		def("post", "(url: string, body: string|table, options?: table): response?, error?", "Posts a text, or a table as JSON.",
			"local r = http.post(\"http://api.example.net/echo\", { from = tostring(tx.sender) })\njson.decode(r.body).from --> \"a@example.org\""),
	}}
}

func responseSection() section {
	const get = "local r = http.get(\"http://api.example.net/words\")\n"
	return section{name: "response", class: "response", plain: true, doc: "A web server's answer.", items: []member{
		def("status", "integer", "Its status.", get+"r.status --> 200"),
		def("headers", "table<string, string>", "Its header fields by their lower-case names.", get+"r.headers[\"content-type\"] --> \"text/plain\""),
		def("body", "string", "Its content.", get+"r.body --> \"casino\""),
	}}
}

func tcpLibrary() section {
	return section{name: "tcp", class: "tcplib", doc: "Connections to services that speak in lines; at most 8 at a time. What a call leaves open is closed when it ends.", items: []member{
		def("connect", "(address: string, options?: table): connection?, error?", "Opens a connection to \"host:port\". Options: wait, how long this and each later step may take (5s, at most 1m); tls, true for TLS with a verified certificate; name, which that must have, if it is not the host.",
			"local c, err = tcp.connect(\"spamd.example.net:783\", { wait = \"2s\" })\nc:write(\"PING SPAMC/1.5\\r\\n\\r\\n\")\nc:line() --> \"SPAMD/1.5 0 PONG\"\ntcp.connect(\"down.example.net:783\") --> nil, { kind = \"temporary\" }"),
	}}
}

func connectionSection() section {
	const ping = "local c = tcp.connect(\"spamd.example.net:783\")\nc:write(\"PING SPAMC/1.5\\r\\n\\r\\n\")\n"
	return section{name: "connection", class: "connection", doc: "An open connection. An error of kind none says that the other side closed it.", items: []member{
		def(":write", "(text: string): boolean?, error?", "Sends a text as it is.", "local c = tcp.connect(\"spamd.example.net:783\")\nc:write(\"PING SPAMC/1.5\\r\\n\\r\\n\") --> true"),
		def(":line", "(): string?, error?", "The next line, without its end; at most 64 KiB.", ping+"c:line() --> \"SPAMD/1.5 0 PONG\"\nc:line() --> nil, { kind = \"none\" }"),
		def(":read", "(n: integer): string?, error?", "n bytes, at most 1 MiB; fewer where the other side ends.", ping+"c:read(9) --> \"SPAMD/1.5\""),
		def(":close", "()", "Closes it.", ping+"c:close()\nc:line() --> nil, { kind = \"bad\" }"),
	}}
}

func regexLibrary() section {
	return section{name: "regex", class: "regexlib", doc: "RE2 expressions. Where an expression is expected its text will do.", items: []member{
		def("compile", "(text: string): regex?, error?", "A compiled expression.", "regex.compile(\"^a+$\") --> ^a+$\nregex.compile(\"(\") --> nil, { kind = \"bad\" }"),
		def("match", "(re: someregex, s: string): ...", "The groups of the first match, or all of it; nil where there is none.", "regex.match(\"([a-z]+)[0-9]+\", \"order4711\") --> \"order\""),
		def("find", "(re: someregex, s: string, from?: integer): integer?, ...", "First and last position of the first match, and its groups.", "regex.find(\"[0-9]+\", \"order4711\") --> 6, 9"),
		def("gmatch", "(re: someregex, s: string): function", "Walks all matches.", "for n in regex.gmatch(\"[0-9]\", \"1 2\") do assert(tonumber(n)) end"),
		def("replace", "(re: someregex, s: string, with: string): string", "Replaces all matches; $1 is a group.", "regex.replace(\"[0-9]+\", \"order 4711\", \"#\") --> \"order #\""),
		def("quote", "(s: string): string", "An expression that matches the text itself.", "regex.quote(\"a.b\") --> \"a\\.b\""),
	}}
}

func jsonLibrary() section {
	return section{name: "json", class: "jsonlib", doc: "JSON, at most 1 MiB.", items: []member{
		def("encode", "(value: plain): string?, error?", "The text of a value; an empty table is a list.", "json.encode{ a = 1, b = { true, \"x\" } } --> '{\"a\":1,\"b\":[true,\"x\"]}'"),
		def("decode", "(text: string): plain, error?", "The value of a text; null is nil.", "json.decode('{\"a\":[1,2]}') --> { a = { 1, 2 } }\njson.decode(\"{\") --> nil, { kind = \"bad\" }"),
	}}
}

func logLibrary() section {
	one := func(name, doc, example string) member { return def(name, "(text: string, ...: any)", doc, example) }
	return section{name: "log", class: "loglib", doc: "Lines in the log, with the policy's name and the message's id; at most 100 in one call.", items: []member{
		one("debug", "A line of level debug.", "log.debug(\"asked %s\", conn.ip)"),
		one("info", "A line of level info.", "log.info(\"known client\")"),
		one("warn", "A line of level warn.", "log.warn(\"%d listings\", 3)"),
		one("error", "A line of level error.", "log.error(\"the list %s is broken\", \"bl.example\")"),
	}}
}

func base64Library() section {
	return section{name: "base64", class: "base64lib", doc: "Base64.", items: []member{
		def("encode", "(text: string, form?: \"url\"): string", "The text as base64; the form \"url\" has - and _ and no padding.", "base64.encode(\"hello?>\") --> \"aGVsbG8/Pg==\"\nbase64.encode(\"hello?>\", \"url\") --> \"aGVsbG8_Pg\""),
		def("decode", "(text: string): string?, error?", "The text of base64 of either form; white space is left out.", "base64.decode(\"aGVs\\r\\nbG8=\") --> \"hello\"\nbase64.decode(\"*\") --> nil, { kind = \"bad\" }"),
	}}
}

func hashLibrary() section {
	const form = "form?: \"hex\"|\"base64\"|\"raw\""
	one := func(name, doc, sum string) member {
		return def(name, "(text: string, "+form+"): string", doc, "hash."+name+"(\"abc\")"+sum)
	}
	return section{name: "hash", class: "hashlib", doc: "Hash functions, in hexadecimal unless asked otherwise.", items: []member{
		one("md5", "MD5, for old formats.", " --> \"900150983cd24fb0d6963f7d28e17f72\""),
		one("sha1", "SHA-1, for old formats.", " --> \"a9993e364706816aba3e25717850c26c9cd0d89d\""),
		one("sha256", "SHA-256.", ":sub(1, 16) --> \"ba7816bf8f01cfea\""),
		one("sha512", "SHA-512.", ":sub(1, 16) --> \"ddaf35a193617aba\""),
		def("hmac", "(algorithm: \"md5\"|\"sha1\"|\"sha256\"|\"sha512\", key: string, text: string, "+form+"): string", "A keyed hash (RFC 2104).", "hash.hmac(\"sha1\", \"key\", \"text\", \"base64\") --> \"Np4pWetJRQM4shJ0j3fY3tdIR7s=\""),
		def("equal", "(a: string, b: string): boolean", "Compares in a time that does not tell where texts differ.", "hash.equal(\"abc\", \"abd\") --> false"),
	}}
}

func timeLibrary() section {
	return section{name: "time", class: "timelib", doc: "Dates. Times are seconds since 1970, as of now(); a zone is \"UTC\" (the default), \"local\" or a name such as \"Europe/Berlin\".", items: []member{
		def("format", "(time: number, layout?: string, zone?: string): string?, error?", "The date as a text: \"rfc5322\" (the default), \"rfc3339\", or a layout with %Y %m %d %H %M %S %a %A %b %B %j %u %z %Z %F %T %I %p %y %e %s %%.", "time.format(now()) --> \"Sun, 22 Nov 2026 12:00:00 +0000\"\ntime.format(0, \"rfc3339\") --> \"1970-01-01T00:00:00Z\"\ntime.format(now(), \"%a %H:%M\", \"Asia/Tokyo\") --> \"Sun 21:00\""),
		def("parse", "(text: string): number?, error?", "The time of a date as in mail (RFC 5322) or of RFC 3339.", "time.parse(\"Sun, 22 Nov 2026 13:00:00 +0100\") == now() --> true\ntime.parse(\"1970-01-02T00:00:00Z\") --> 86400\ntime.parse(\"soon\") --> nil, { kind = \"bad\" }"),
		def("date", "(time: number, zone?: string): date?, error?", "The parts of a date.", "time.date(now()).hour --> 12"),
	}}
}

func dateSection() section {
	one := func(name, kind, doc, shown string) member {
		return def(name, kind, doc, "time.date(now())."+name+" --> "+shown)
	}
	return section{name: "date", class: "date", plain: true, doc: "The parts of a date.", items: []member{
		one("year", "integer", "The year.", "2026"), one("month", "integer", "1 to 12.", "11"), one("day", "integer", "1 to 31.", "22"),
		one("hour", "integer", "0 to 23.", "12"), one("min", "integer", "0 to 59.", "0"), one("sec", "integer", "0 to 59.", "0"),
		one("weekday", "integer", "1 for Monday to 7 for Sunday.", "7"), one("yearday", "integer", "1 to 366.", "326"),
		one("zone", "string", "The zone's short name.", "\"UTC\""), one("offset", "integer", "Seconds east of UTC.", "0"),
	}}
}

func geoipLibrary() section {
	return section{name: "geoip", class: "geoiplib", doc: "What is known of an IP address, from the databases of [geoip].", items: []member{
		def("country", "(ip: someip): string?, error?", "The ISO code of the country that the address is used in.", "geoip.country(conn.ip) --> \"DE\"\ngeoip.country(\"203.0.113.1\") --> nil, { kind = \"none\" }"),
		def("asn", "(ip: someip): integer?, string|error?", "Number and name of the network's operator.", "geoip.asn(conn.ip) --> 64496, \"Example\""),
		def("lookup", "(ip: someip): table?, error?", "All that the databases say, in their own form.", "geoip.lookup(conn.ip).country.iso_code --> \"DE\""),
	}}
}

func metricLibrary() section {
	return section{name: "metric", class: "metriclib", doc: "Metrics of your own, beside those of the gateway, with the policy's name as a label. At most 5 labels, whose values should be few: beyond 2000 sets they are \"other\".", items: []member{
		def("counter", "(name: string, labels?: table<string, string|number|boolean>, n?: number): boolean?, error?", "Adds n (1) to postern_script_NAME_total.", "metric.counter(\"listed\", { list = \"bl.example\" }) --> true"),
		def("histogram", "(name: string, value: number, labels?: table<string, string|number|boolean>): boolean?, error?", "Adds a value to postern_script_NAME.", "metric.histogram(\"answer_seconds\", 0.25) --> true"),
	}}
}

func hostLibrary() section {
	return section{name: "host", class: "hostlib", doc: "The machine that all this runs on.", items: []member{
		def("load", "(): number?, integer|error?", "The load average of the last minute, and the number of processors.", "host.load() < 1000 --> true"),
	}}
}
