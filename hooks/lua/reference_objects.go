package lua

import "github.com/postern-mta/postern/hooks"

// objectSections are what handlers see.
func objectSections() []section {
	return []section{
		txSection(), headersSection(), bodySection(), mimeSection(), partSection(), archiveSections()[0], archiveSections()[1], recipientsSection(), rcptSection(), copySection(), connSection(), notesSection(),
		capabilitiesSection(), loginSection(), lineSection(), planSection(), noticeSection(), refusalSection(), tlsSection(), totalsSection(), replySection(),
		addressSection(), ipSection(), netsSection(), domainsSection(), fileSection(), regexSection(), decisionMembers(), errorSection(),
	}
}

func txSection() section {
	return section{name: "tx", class: "tx", doc: "The transaction: one message on its way.", items: []member{
		def("id", "string", "The message's id, as in the log and in postern why.", "tx.id --> \"message0001\""),
		def("sender", "address", "The envelope sender; its null is true for <>. Set it to an address, or to \"\" for the null path.", "tx.sender = \"new@example.org\"\ntx.sender --> new@example.org").settable(hooks.SetSender),
		def("recipients", "recipients", "The recipients, a list; its methods change it.", "#tx.recipients --> 2"),
		def("params", "table<string, string>", "The parameters of MAIL by their upper-case names, \"\" for one without a value.", "tx.params.SIZE --> \"123\""),
		def("size", "integer", "Bytes of the message as received; before it, what SIZE= said.", "tx.size > 100 --> true"),
		def("headers", "headers", "The header section.", "tx.headers:get(\"X-Two\") --> \"1\"").at(hooks.Headers, hooks.Message, hooks.Queue),
		def("body", "body", "The message's content.", "tx.body.size == tx.size --> true").at(hooks.Message, hooks.Queue),
		def("mime", "mime", "The message's parts.", "tx.mime.root.type --> \"text/plain\"").at(hooks.Message, hooks.Queue),
		def("conn", "conn", "The connection.", "tx.conn.ip --> 192.0.2.1"),
		def("notes", "notes", "Values of your own, which travel with the queued message.", "tx.notes.seen = 1\ntx.notes.seen --> 1"),
		def("total", "number", "The points so far; final at stage queue.", "tx:score(\"words\", 1.5) tx:score(\"size\", 1)\ntx.total --> 2.5"),
		def("received", "string", "The text of our Received field, where a policy replaced it.", "tx.received = \"by mx.example.net\"\ntx.received --> \"by mx.example.net\"").settable(hooks.SetReceived),
		def(":score", "(name: string, points: number, why?: string)", "Adds a named symbol and its points.", "tx:score(\"subject_words\", 2.5, \"casino\")").edits(hooks.AddScore),
		def(":result", "(name: string, fields: table<string, plain>)", "Leaves a named result for later policies, score rules and the story.", "tx:result(\"scan\", { clean = true })").edits(hooks.SetResult),
		def(":results", "(name: string): table?", "A result that a policy left, or nil.", "tx:result(\"scan\", { clean = true })\ntx:results(\"scan\") --> { clean = true }\ntx:results(\"none\") --> nil"),
		def(":tag", "(tag: string)", "Sets a tag, which routes and the story know.", "tx:tag(\"newsletter\")").edits(hooks.AddTag),
		def(":skip", "(policy: string)", "The policy is not asked about this message any more, at delivery neither.", "tx:skip(\"greylist\")").edits(hooks.SkipPolicy),
		def(":route", "(url: string)", "The next hop for all recipients.", "tx:route(\"smtp://scanner.example.net\")").edits(hooks.SetRoute),
		def(":pardon", "(policy?: string)", "Drops the refusals that deny_at of a policy keeps, or of all.", "tx:pardon(\"dnsbl\")").edits(hooks.Pardon),
		def(":ret", "(value: \"full\"|\"hdrs\")", "Whether a bounce brings the whole message back, or its header section (DSN parameter RET).", "tx:ret(\"hdrs\")").edits(hooks.SetReturn),
		def(":each_rcpt", "(judge: function): decision", "Asks the function about each recipient, and makes one decision of what it returns; nil and pass leave a recipient to the next policy. LMTP and PRDR give each its reply; else `[server] mixed_recipients` says what follows.",
			"return tx:each_rcpt(function(rcpt)\n  if rcpt.user == \"c\" then return reject(\"5.7.1\", \"Not for %s\", rcpt.user) end\nend)").at(hooks.Message, hooks.Queue),
		def(":priority", "(n: integer)", "What waits for the same next hop goes in the order of priorities, the highest first; 0 where none is set.", "tx:priority(5)").edits(hooks.SetPriority),
	}}
}

func headersSection() section {
	return section{
		name: "tx.headers", class: "headers", doc: "The header section, own changes made. Names are matched without case.",
		stages: []hooks.Stage{hooks.Headers, hooks.Message, hooks.Queue}, at: hooks.Message,
		items: []member{
			def(":get", "(name: string): string?", "The decoded text of the first field of that name, or nil.", "tx.headers:get(\"subject\") --> \"Grüße aus dem Casino\""),
			def(":all", "(name: string): string[]", "The decoded texts of all fields of that name.", "tx.headers:all(\"X-Two\") --> { \"1\", \"2\" }"),
			def(":raw", "(name: string): string?", "The first field from behind its colon, as it came.", "tx.headers:raw(\"Subject\") --> \" =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus dem Casino\""),
			def(":each", "(): function", "Walks all fields: name, decoded text.", "for name, text in tx.headers:each() do assert(name ~= \"\") end"),
			def(":prepend", "(name: string, value: string)", "Puts a field on top. UTF-8 is encoded; CR and LF are an error.", "tx.headers:prepend(\"X-Checked\", \"yes\")").edits(hooks.AddHeader),
			def(":append", "(name: string, value: string)", "Puts a field at the end.", "tx.headers:append(\"X-Checked\", \"yes\")").edits(hooks.AppendHeader),
			def(":replace", "(name: string, value: string)", "Gives the first field of that name a new text and takes the others away, or puts one at the end.", "tx.headers:replace(\"Subject\", \"[list] Grüße\")\ntx.headers:get(\"Subject\") --> \"[list] Grüße\"").edits(hooks.ReplaceHeader),
			def(":remove", "(name: string, n?: integer)", "Takes all fields of that name away, or the n-th from the top.", "tx.headers:remove(\"X-Two\", 1)\ntx.headers:all(\"X-Two\") --> { \"2\" }").edits(hooks.RemoveHeader),
		},
	}
}

func bodySection() section {
	return section{
		name: "tx.body", class: "body", doc: "The whole message, header section included: as it came, or as it was when its body was changed last, by the handler itself, too. It is searched in place. Changes of fields alone show in tx.headers.",
		stages: []hooks.Stage{hooks.Message, hooks.Queue}, at: hooks.Message,
		items: []member{
			def("size", "integer", "Bytes.", "tx.body.size > 0 --> true"),
			def(":read", "(from?: integer, n?: integer): string?, error?", "n bytes (at most 1 MiB) from a position, the first being 1; nil behind the end.", "tx.body:read(1, 4) --> \"From\""),
			def(":contains", "(text: string, ...: string): boolean?, error?", "Whether one of the texts is in the message, byte for byte.", "tx.body:contains(\"Hello world\") --> true"),
			def(":replace", "(text: string, type?: string)", "Makes the message that text, UTF-8 of type text/plain where nothing is said, and gives it the MIME fields that it needs. Type \"raw\": the text is the content as it stands, for the fields that are there. The handler sees the change at once, others when it has returned; where it can't be made the message is deferred, whatever on_failure says.", "tx.body:replace(\"The file was taken out.\")").edits(hooks.ReplaceBody),
			def(":footer", "(footer: table)", "Adds { text =, html =, top = true } at the end, or the top, of the text that a reader shows: in each text of a multipart/alternative, in the part's own charset and encoding, as a part of its own where the text can't hold it. Signed and encrypted mail is left alone; the story tells how it was done.", "tx.body:footer{ text = \"Example Ltd\", html = \"<p>Example Ltd</p>\" }").edits(hooks.AddFooter),
			def(":match", "(regex: someregex): ...", "The groups of the first match, or all of it; nil where there is none.", "tx.body:match(\"order ([0-9]+)\") --> \"4711\""),
		},
	}
}

func recipientsSection() section {
	return section{name: "tx.recipients", class: "recipients", doc: "The recipients: a list of rcpt that changes by its methods.", items: []member{
		def(":add", "(address: someaddress)", "A further recipient.", "tx.recipients:add(\"copy@example.net\")").edits(hooks.AddRecipient),
		def(":remove", "(address: someaddress)", "Takes a recipient away.", "tx.recipients:remove(\"c@example.net\")\n#tx.recipients --> 1").edits(hooks.RemoveRecipient),
		def(":replace", "(address: someaddress, to: someaddress, ...: someaddress)", "Puts one or more in the place of a recipient.", "tx.recipients:replace(\"c@example.net\", \"d@example.net\", \"e@example.net\")\n#tx.recipients --> 3").edits(hooks.ReplaceRecipient),
	}}
}

func rcptSection() section {
	return section{name: "rcpt", class: "rcpt", doc: "A recipient.", items: []member{
		def("address", "string", "The address, its domain in lower case.", "rcpt.address --> \"b@example.net\""),
		def("user", "string", "The local part.", "rcpt.user --> \"b\""),
		def("domain", "string", "The domain.", "rcpt.domain --> \"example.net\""),
		def("ours", "boolean", "Whether the domain is one of ours.", "rcpt.ours --> true"),
		def("params", "table<string, string>", "The parameters of RCPT by their upper-case names.", "rcpt.params.NOTIFY --> nil"),
		def("notes", "notes", "Values of your own about this recipient.", "rcpt.notes.x --> \"y\"\nrcpt.notes.x = 2\nrcpt.notes.x --> 2"),
		def("headers", "rcpthead", "Changes of the header section in this recipient's copy alone.", "rcpt.headers:prepend(\"X-For\", rcpt.user)").edits(hooks.AddRcptHeader),
		def(":pardon", "(policy?: string)", "Spares this recipient the refusals that deny_at of a policy keeps, or of all; the others still hear them. A policy that is named and stands behind is not asked about it at rcpt either.", "rcpt:pardon(\"dnsbl\")").edits(hooks.Pardon),
		def(":notify", "(words: string)", "Of what the sender is told: never, or some of success, failure and delay (DSN parameter NOTIFY).", "rcpt:notify(\"failure, delay\")").edits(hooks.SetNotify),
		def(":replace", "(address: someaddress)", "Puts another address in its place.", "rcpt:replace(\"other@example.net\")\nrcpt.address --> \"other@example.net\"").edits(hooks.ReplaceRecipient),
		def(":route", "(url: string)", "The next hop for this recipient.", "rcpt:route(\"lmtp://mail.example.net:24\")").edits(hooks.SetRoute),
	}}
}

func copySection() section {
	return section{name: "rcpt.headers", class: "rcpthead", doc: "The header section of one recipient's copy: it is changed when the message is sent to that recipient, and can't be read before.", items: []member{
		def(":prepend", "(name: string, value: string)", "Puts a field on top. CR and LF are an error.", "rcpt.headers:prepend(\"X-For\", rcpt.user)").edits(hooks.AddRcptHeader),
		def(":append", "(name: string, value: string)", "Puts a field at the end.", "rcpt.headers:append(\"X-For\", rcpt.user)").edits(hooks.AppendRcptHeader),
		def(":remove", "(name: string, n?: integer)", "Takes all fields of that name away, or the n-th from the top.", "rcpt.headers:remove(\"X-Two\", 1)").edits(hooks.RemoveRcptHeader),
	}}
}

func connSection() section {
	return section{name: "conn", class: "conn", doc: "The connection, as conn at stages of the connection and as tx.conn. Mail handed over on this host comes from 127.0.0.1.", items: []member{
		def("id", "string", "The session's id.", "conn.id --> \"session0001\""),
		def("ip", "ip", "The client's address.", "conn.ip --> 192.0.2.1"),
		def("port", "integer", "The client's port.", "conn.port --> 4321"),
		def("local_ip", "ip", "The address that it came to.", "conn.local_ip --> 192.0.2.99"),
		def("local_port", "integer", "The port that it came to.", "conn.local_port --> 25"),
		def("host", "string?", "The client's confirmed name, or nil. Asks the DNS on first use.", "conn.host --> \"mx.example.org\""),
		def("helo", "string?", "What the client called itself.", "conn.helo --> \"client.example.org\""),
		def("extended", "boolean", "EHLO, not HELO.", "conn.extended --> true"),
		def("tls", "tls?", "Facts of the TLS session; nil in the clear.", "conn.tls.version --> \"TLSv1.3\""),
		def("user", "string?", "Who authenticated.", "conn.user --> nil"),
		def("authenticated", "boolean", "Whether somebody did.", "conn.authenticated --> false"),
		def("relaying", "boolean", "Whether the client may send anywhere.", "conn.relaying --> false"),
		def("listener", "string", "The name of the [[listen]].", "conn.listener --> \"mx\""),
		def("protocol", "string", "smtp, submission, lmtp, qmqp, qmtp; local or qmail-queue for mail handed over on this host.", "conn.protocol --> \"smtp\""),
		def("notes", "notes", "Values of your own, for as long as the connection.", "conn.notes.asked = true\nconn.notes.asked --> true"),
		def("env", "table<string, string>", "What the connection rule set.", "conn.env.WORLD --> \"1\""),
		def("totals", "totals", "What the connection did; complete at stage disconnect.", "conn.totals.messages --> 0"),
		def(":score", "(name: string, points: number, why?: string)", "Adds a named symbol and its points, carried into each transaction.", "conn:score(\"no_name\", 1)").edits(hooks.AddScore),
		def(":result", "(name: string, fields: table<string, plain>)", "Leaves a named result.", "conn:result(\"dnsbl\", { listed = 2 })").edits(hooks.SetResult),
		def(":results", "(name: string): table?", "A result that a policy left, or nil.", "conn:results(\"dnsbl\") --> nil"),
		def(":tag", "(tag: string)", "Sets a tag.", "conn:tag(\"known\")").edits(hooks.AddTag),
		def(":skip", "(policy: string)", "The policy is not asked any more on this connection.", "conn:skip(\"greylist\")").edits(hooks.SkipPolicy),
		def("capabilities", "capabilities", "What EHLO will say; at stage helo.", "conn.capabilities:get(\"SIZE\") --> \"1000\"").at(hooks.Helo),
		def(":pardon", "(policy?: string)", "Drops the refusals that deny_at of a policy keeps, or of all.", "conn:pardon()").edits(hooks.Pardon),
		def(":early", "(wait: span): boolean?, error?", "Whether the client speaks before its turn, within a time of at most a minute.", "conn:early(\"1s\") --> true"),
	}}
}

func notesSection() section {
	return section{name: "notes", class: "notes", open: true, doc: "Values of your own by name: plain values only, shared by all policies. A table that was read is a copy: assign a new one.", items: nil}
}

func capabilitiesSection() section {
	return section{
		name: "conn.capabilities", class: "capabilities", doc: "The answer to EHLO. What is removed is not served either.", stages: []hooks.Stage{hooks.Helo}, at: hooks.Helo,
		items: []member{
			def(":add", "(capability: string)", "Says a keyword with its parameters, in the place of one of that keyword.", "conn.capabilities:add(\"X-OURS 1\")\nconn.capabilities:get(\"x-ours\") --> \"1\"").edits(hooks.AddCapability),
			def(":remove", "(keyword: string)", "Does not say the keyword.", "conn.capabilities:remove(\"CHUNKING\")\nconn.capabilities:get(\"CHUNKING\") --> nil").edits(hooks.RemoveCapability),
			def(":get", "(keyword: string): string?", "The parameters of a keyword, \"\" for one without; nil where it is not offered.", "conn.capabilities:get(\"PIPELINING\") --> \"\""),
			def(":list", "(): string[]", "All of them.", "#conn.capabilities:list() --> 3"),
		},
	}
}

func loginSection() section {
	return section{
		name: "login", class: "login", plain: true, doc: "The credentials that a client offers.", stages: []hooks.Stage{hooks.Auth}, at: hooks.Auth,
		items: []member{
			def("mechanism", "string", "PLAIN, LOGIN or SCRAM-SHA-256.", "login.mechanism --> \"PLAIN\""),
			def("user", "string", "Who the client says it is.", "login.user --> \"jane\""),
			def("password", "string?", "The password; nil for mechanisms that do not tell it.", "login.password --> \"secret\""),
		},
	}
}

func lineSection() section {
	return section{
		name: "line", class: "line", plain: true, doc: "A command.", stages: []hooks.Stage{hooks.Command}, at: hooks.Command,
		items: []member{
			def("verb", "string", "Its first word in upper case.", "line.verb --> \"VRFY\""),
			def("argument", "string", "What follows.", "line.argument --> \"jane\""),
		},
	}
}

func noticeSection() section {
	return section{
		name: "notice", class: "notice", doc: "The notice that is about to be queued; tx.headers are its own.", stages: []hooks.Stage{hooks.DSN}, at: hooks.DSN,
		items: []member{
			def("kind", "string", "bounce, delay, success, or double: a bounce that failed, for the postmaster.", "notice.kind --> \"bounce\""),
			def("recipients", "string[]", "The addresses that it tells of.", "notice.recipients --> { \"b@example.net\" }"),
			def("to", "address", "Who gets it.", "notice.to = \"postmaster@example.net\"\nnotice.to --> postmaster@example.net").settable(hooks.SetNotice),
		},
	}
}

func planSection() section {
	return section{
		name: "try", class: "plan", doc: "What is known of a delivery: plan at stage route, try at the others.", at: hooks.Deferred,
		stages: []hooks.Stage{hooks.Route, hooks.Attempt, hooks.Delivered, hooks.Deferred, hooks.Bounced},
		items: []member{
			def("next_hop", "string", "Where it goes.", "try.next_hop --> \"mx\"").settable(hooks.SetRoute),
			def("attempt", "integer", "1 for the first.", "try.attempt --> 2"),
			def("tls", "string", "The demand for TLS.", "plan.tls = \"encrypt\"\nplan.tls --> \"encrypt\"").settable(hooks.SetPlan),
			def("source", "string", "The address that connections leave from; \"\" is the system's choice.", "plan.source = \"192.0.2.25\"\nplan.source --> \"192.0.2.25\"").settable(hooks.SetPlan),
			def("retry", "string", "The retry plan: quadratic, waits such as `5m, 1h`, or waits that grow, such as `start=5m factor=2 max=4h jitter=0.2`; \"\" is the configuration's.", "plan.retry = \"5m, 1h\"\nplan.retry --> \"5m, 1h\"").settable(hooks.SetPlan),
			def("peer", "string", "Name and address of the server that answered, \"\" before.", "try.peer --> \"mx.example.net\""),
			def("age", "number", "Seconds since arrival.", "try.age --> 90"),
			def("reply", "reply", "What the server said.", "try.reply.code --> 450"),
		},
	}
}

func refusalSection() section {
	return section{
		name: "refusal", class: "refusal", plain: true, doc: "The negative reply that is about to be sent.", stages: []hooks.Stage{hooks.Deny}, at: hooks.Deny,
		items: []member{
			def("stage", "string", "Where it was decided.", "refusal.stage --> \"rcpt\""),
			def("policy", "string", "Who refused; \"\" for the protocol itself.", "refusal.policy --> \"other\""),
			def("code", "integer", "The reply's code.", "refusal.code --> 450"),
			def("enhanced", "string", "Its status.", "refusal.enhanced --> \"4.2.0\""),
			def("text", "string", "Its text.", "refusal.text --> \"later\""),
			def("conn", "conn", "The connection, whether a message is under way or not.", "refusal.conn.ip --> 192.0.2.1"),
		},
	}
}

func tlsSection() section {
	return section{name: "conn.tls", class: "tls", plain: true, doc: "Facts of a TLS session.", items: []member{
		def("version", "string", "Its version.", "conn.tls.version --> \"TLSv1.3\""),
		def("cipher", "string", "The cipher suite as IANA names it.", "conn.tls.cipher --> \"X\""),
		def("client", "string?", "The subject of a verified client certificate.", "conn.tls.client --> nil"),
	}}
}

func totalsSection() section {
	return section{name: "conn.totals", class: "totals", plain: true, doc: "What a connection did.", items: []member{
		def("messages", "integer", "Messages accepted.", "conn.totals.messages --> 0"),
		def("refused", "integer", "Negative replies.", "conn.totals.refused --> 0"),
		def("bytes", "integer", "Bytes of accepted messages.", "conn.totals.bytes --> 0"),
		def("transactions", "integer", "Transactions begun.", "conn.totals.transactions --> 0"),
		def("duration", "number", "Seconds, at stage disconnect.", "conn.totals.duration --> 0"),
	}}
}

func replySection() section {
	return section{name: "try.reply", class: "reply", plain: true, doc: "A server's reply.", at: hooks.Deferred, stages: planSection().stages, items: []member{
		def("code", "integer", "The code.", "try.reply.code --> 450"),
		def("enhanced", "string", "The status.", "try.reply.enhanced --> \"4.2.0\""),
		def("text", "string", "The text.", "try.reply.text --> \"later\""),
	}}
}

func addressSection() section {
	return section{name: "address", class: "address", doc: "An address; tostring is user@domain, == compares, .. joins.", items: []member{
		def("user", "string", "The local part.", "tx.sender.user --> \"a\""),
		def("domain", "string", "The domain in lower case.", "tx.sender.domain --> \"example.org\""),
		def("null", "boolean", "Whether it is the empty path <>.", "tx.sender.null --> false"),
	}}
}

func ipSection() section {
	return section{name: "ip", class: "ip", doc: "An IP address; tostring is its text, == compares.", items: []member{
		def(":prefix", "(n4: integer, n6?: integer): string", "Its network of that length as a text; n6 is for IPv6.", "conn.ip:prefix(24, 64) --> \"192.0.2.0/24\""),
		def("version", "integer", "4 or 6.", "conn.ip.version --> 4"),
		def("loopback", "boolean", "127.0.0.0/8 or ::1.", "conn.ip.loopback --> false"),
		def("private", "boolean", "A private or link-local address.", "ip.parse(\"10.0.0.1\").private --> true"),
	}}
}

func netsSection() section {
	return section{name: "cidrs", class: "cidrs", doc: "A list of networks: the value of a setting, or of ip.set.", items: []member{
		def(":match", "(ip: someip): boolean", "Whether the address is in one of them.", "ip.set{ \"192.0.2.0/24\" }:match(conn.ip) --> true"),
	}}
}

func domainsSection() section {
	return section{name: "domains", class: "domainlist", doc: "A list of domains: the value of a setting.", items: []member{
		def(":match", "(domain: string): boolean", "Whether the domain is one of them.",
			"local p = policy { settings = { ours = domains { \"*.example.org\" } } }\n\nfunction p.rcpt(tx, rcpt)\n  p.ours:match(\"mail.example.org\") --> true\nend\n\nreturn p"),
	}}
}

func fileSection() section {
	field := func(name, kind, doc, shown string) member {
		return def(name, kind, doc, "local p = policy { settings = { words = file \"words\" } }\n\nfunction p.rcpt(tx, rcpt)\n  "+shown+"\nend\n\nreturn p")
	}
	return section{name: "file", class: "filevalue", plain: true, doc: "The value of a file setting.", items: []member{
		field("path", "string", "Where it is.", "p.words.path:match(\"[^/]*$\") --> \"words\""),
		field("text", "string", "All of it.", "#p.words.text --> 14"),
		field("lines", "string[]", "Its lines without blank ones and those that begin with #.", "p.words.lines --> { \"casino\" }"),
	}}
}

func regexSection() section {
	const re = "local re = regex.compile(\"([a-z]+)@([a-z.]+)\")\n"
	return section{name: "regex", class: "regex", doc: "A compiled RE2 expression.", items: []member{
		def(":match", "(s: string): ...", "The groups of the first match, or all of it; nil where there is none.", re+"re:match(\"to a@example.org\") --> \"a\", \"example.org\""),
		def(":find", "(s: string, from?: integer): integer?, ...", "First and last position of the first match, and its groups.", re+"re:find(\"to a@b\") --> 4, 6, \"a\", \"b\""),
		def(":gmatch", "(s: string): function", "Walks all matches.", re+"for user in re:gmatch(\"a@b c@d\") do assert(#user == 1) end"),
		def(":replace", "(s: string, with: string): string", "Replaces all matches; $1 is a group.", re+"re:replace(\"a@b\", \"$1 at $2\") --> \"a at b\""),
	}}
}

func decisionMembers() section {
	return section{name: "decision", class: "decision", doc: "What a handler returns. It has no members.", items: nil}
}

func errorSection() section {
	return section{name: "error", class: "error", plain: true, doc: "Why a look-up gave nil.", items: []member{
		def("kind", "\"temporary\"|\"none\"|\"bad\"", "temporary: try later; none: there is no such thing; bad: the question itself is wrong.", "local list, err = dns.a(\"nothing.example.org\")\nerr.kind --> \"none\""),
		def("text", "string", "For people.", "local a, err = addr.parse(\"nonsense\")\n#err.text > 0 --> true"),
	}}
}
