package lua

import "github.com/postern-mta/postern/hooks"

// authSections are the libraries that judge who sent a message.
func authSections() []section {
	return []section{spfLibrary(), spfResultSection(), spfStepSection(), dkimLibrary(), dkimResultSection(), dkimSignatureSection(), arcLibrary(), arcResultSection(), arcSetSection(), arcFindingSection(), dmarcLibrary(), dmarcResultSection(), dmarcIdentifierSection(), dmarcStepSection()}
}

// authGlobals are their names.
func authGlobals() []member {
	return []member{
		lib("spf", "spflib", "May the client send in the sender's name (RFC 7208)?"),
		lib("arc", "arclib", "Who handed the message on (RFC 8617)?"),
		lib("dkim", "dkimlib", "Who signed the message (RFC 6376)?"),
		lib("dmarc", "dmarclib", "Does the domain in From stand behind the message (RFC 9989)?"),
	}
}

func spfLibrary() section {
	return section{name: "spf", class: "spflib", doc: "May the client send in the sender's name (RFC 7208)? A verdict is found once in a transaction, however many policies ask.", items: []member{
		def("check", "(who: tx|conn|table, identity?: \"mailfrom\"|\"helo\"): spfresult?, error?", "Judges the client by the sender's domain, the null sender by the HELO name; with \"helo\" by the HELO name alone. A table says ip, helo and sender itself. What could not be asked is the verdict temperror, no error.",
			"spf.check(tx).verdict --> \"pass\"\nspf.check(tx, \"helo\").verdict --> \"none\"\nspf.check{ ip = \"198.51.100.9\", sender = \"a@example.org\" }.verdict --> \"fail\"\nspf.check{ ip = \"nonsense\" } --> nil, { kind = \"bad\" }"),
		def("claims", "(value: string): boolean", "Whether a Received-SPF field says that this server wrote it. In mail that comes in such a field is forged.",
			"spf.claims(\"pass receiver=mx.example.net\") --> true\nspf.claims(\"pass receiver=mx.example.org\") --> false"),
	}}
}

func spfResultSection() section {
	const fail = "local it = spf.check{ ip = \"198.51.100.9\", helo = \"mx.example.com\", sender = \"a@example.org\" }\n"
	return section{name: "spfresult", class: "spfresult", plain: true, at: hooks.Message, doc: "A verdict of spf.check, and what led to it. Texts that there are none of are \"\".", items: []member{
		def("verdict", "\"pass\"|\"fail\"|\"softfail\"|\"neutral\"|\"none\"|\"temperror\"|\"permerror\"", "The verdict.", fail+"it.verdict --> \"fail\""),
		def("identity", "\"mailfrom\"|\"helo\"", "Which name was judged.", fail+"it.identity --> \"mailfrom\""),
		def("domain", "string", "The domain that was judged, in A-labels.", fail+"it.domain --> \"example.org\""),
		def("sender", "string", "The sender that was judged.", fail+"it.sender --> \"a@example.org\""),
		def("mechanism", "string", "What matched, as the domain wrote it; default where nothing did.", fail+"it.mechanism --> \"-all\""),
		def("source", "string", "The domain whose record that stands in.", fail+"it.source --> \"example.org\""),
		def("record", "string", "The domain's record.", fail+"it.record --> \"v=spf1 mx -all exp=why.example.org\""),
		def("explanation", "string", "What the domain says of a fail. It is foreign text.", fail+"it.explanation --> \"198.51.100.9 is not ours\""),
		def("problem", "string", "Why the verdict is none, temperror or permerror.", "spf.check{ ip = \"192.0.2.1\", sender = \"a@nothing.example\" }.problem --> \"the domain has no SPF record\""),
		def("field", "string", "The value of a Received-SPF field (RFC 7208 9.1).", fail+"tx.headers:prepend(\"Received-SPF\", it.field)\nit.field:match(\"^fail .mx.example.net: \") --> \"fail (mx.example.net: \""),
		def("steps", "spfstep[]", "Each step, at most 101.", fail+"#it.steps --> 4"),
	}}
}

func spfStepSection() section {
	const mx = "local one = spf.check(tx).steps[2]\n"
	return section{name: "spfstep", class: "spfstep", plain: true, doc: "One thing that a check did.", items: []member{
		def("depth", "integer", "How many include and redirect led here.", mx+"one.depth --> 0"),
		def("domain", "string", "Whose record says so.", mx+"one.domain --> \"example.org\""),
		def("term", "string", "The term as published; \"\" where the record itself was asked for.", mx+"one.term --> \"mx\""),
		def("query", "string", "What was asked.", mx+"one.query --> \"MX example.org\""),
		def("answer", "string[]", "The records.", mx+"one.answer --> { \"MX 10 mx.example.org\", \"mx.example.org A 192.0.2.1\" }"),
		def("outcome", "string", "What came of it.", mx+"one.outcome --> \"match: pass\""),
	}}
}

func dkimLibrary() section {
	return section{name: "dkim", class: "dkimlib", at: hooks.Message, doc: "Who signed the message (RFC 6376)? It is verified as it was received, once, however many policies ask, from stage message on.", items: []member{
		def("check", "(tx: tx): dkimresult?, error?", "Verifies the signatures. A key that can't be had now is the verdict temperror, no error; a message that can't be read is the policy's failure.",
			"local it = dkim.check(tx)\nit.verdict --> \"pass\"\nit.domains[1] --> \"example.org\""),
	}}
}

func dkimResultSection() section {
	const it = "local it = dkim.check(tx)\n"
	return section{name: "dkimresult", class: "dkimresult", plain: true, at: hooks.Message, doc: "What dkim.check found.", items: []member{
		def("verdict", "\"none\"|\"pass\"|\"fail\"|\"policy\"|\"neutral\"|\"temperror\"|\"permerror\"", "The best verdict of its signatures, see docs/authentication.md.", it+"it.verdict --> \"pass\""),
		def("domains", "string[]", "The domains whose signatures pass.", it+"it.domains --> { \"example.org\" }"),
		def("signatures", "dkimsignature[]", "Each signature, at most 64.", it+"#it.signatures --> 1"),
		def("left", "integer", "Signatures beyond the limit, which were not looked at.", it+"it.left --> 0"),
	}}
}

func dkimSignatureSection() section {
	const one = "local one = dkim.check(tx).signatures[1]\n"
	return section{name: "dkimsignature", class: "dkimsignature", plain: true, at: hooks.Message, doc: "A signature. Texts that there are none of are \"\"; most of them are foreign text.", items: []member{
		def("verdict", "string", "Its verdict.", one+"one.verdict --> \"pass\""),
		def("pass", "boolean", "Whether that is pass.", one+"one.pass --> true"),
		def("reason", "string", "Why it does not pass.", one+"one.reason --> \"\""),
		def("domain", "string", "The domain that signed (d=).", one+"one.domain --> \"example.org\""),
		def("selector", "string", "The name of its key (s=).", one+"one.selector --> \"s1\""),
		def("identity", "string", "Who signed (i=), else @ and the domain.", one+"one.identity --> \"@example.org\""),
		def("algorithm", "string", "rsa-sha256 or ed25519-sha256.", one+"one.algorithm --> \"ed25519-sha256\""),
		def("canon", "string", "The canonical forms.", one+"one.canon --> \"relaxed/relaxed\""),
		def("bits", "integer", "Length of the key, 0 where there is none.", one+"one.bits --> 256"),
		def("testing", "boolean", "Whether the domain is testing (t=y): what does not pass is to count as not signed.", one+"one.testing --> false"),
		def("signed", "integer", "When it was signed (t=), 0 where that is not told.", one+"one.signed --> 0"),
		def("expires", "integer", "When it expires (x=), 0: never.", one+"one.expires --> 0"),
		def("length", "integer", "How much of the body is signed (l=), -1: all.", one+"one.length --> -1"),
		def("unsigned", "integer", "Bytes of the body that l= leaves out.", one+"one.unsigned --> 0"),
		def("fields", "string[]", "The signed fields.", one+"one.fields --> { \"from\", \"subject\" }"),
		def("extra", "string[]", "Fields that should stand once, of which some are not signed.", one+"#one.extra --> 0"),
		def("b", "string", "The first eight characters of the signature.", one+"#one.b --> 8"),
		def("query", "string", "The name of the key record.", one+"one.query --> \"s1._domainkey.example.org\""),
		def("record", "string", "The key record.", one+"one.record:sub(1, 20) --> \"v=DKIM1; k=ed25519; \""),
	}}
}

func arcLibrary() section {
	return section{name: "arc", class: "arclib", at: hooks.Message, doc: "Who handed the message on, and what did they find out about its sender (RFC 8617)? It is verified as it was received, once, however many policies ask, from stage message on.", items: []member{
		def("check", "(tx: tx): arcresult?, error?", "Verifies the chain. A key that can't be had now is the verdict fail, with temporary set, no error; a message that can't be read is the policy's failure.",
			"local it = arc.check(tx)\nit.verdict --> \"pass\"\nit.sealers[1] --> \"example.org\""),
	}}
}

func arcResultSection() section {
	const it = "local it = arc.check(tx)\n"
	return section{name: "arcresult", class: "arcresult", plain: true, at: hooks.Message, doc: "What arc.check found.", items: []member{
		def("verdict", "\"none\"|\"pass\"|\"fail\"", "The state of the chain.", it+"it.verdict --> \"pass\""),
		def("reason", "string", "Why it fails.", it+"it.reason --> \"\""),
		def("temporary", "boolean", "Whether it fails for a key that can't be had now.", it+"it.temporary --> false"),
		def("oldest_pass", "integer", "The oldest set whose signature matches the message as it is, 0 where all do.", it+"it.oldest_pass --> 0"),
		def("sealers", "string[]", "The domains that sealed, the last one first. What a set says is worth what its sealer, and all above it, are.", it+"it.sealers --> { \"example.org\" }"),
		def("sets", "arcset[]", "The sets, the first one first, at most 50.", it+"#it.sets --> 1"),
	}}
}

func arcSetSection() section {
	const one = "local one = arc.check(tx).sets[1]\n"
	return section{name: "arcset", class: "arcset", plain: true, at: hooks.Message, doc: "What one of those who handed the message on added. All of it is foreign text.", items: []member{
		def("instance", "integer", "Its place, from 1.", one+"one.instance --> 1"),
		def("domain", "string", "The domain that sealed.", one+"one.domain --> \"example.org\""),
		def("selector", "string", "The name of its key.", one+"one.selector --> \"s1\""),
		def("state", "string", "The chain as that one found it.", one+"one.state --> \"none\""),
		def("results", "string", "What it found out, in the form of Authentication-Results.", one+"one.results --> \"mx.example.org; spf=pass\""),
		def("findings", "arcfinding[]", "The same, read as its grammar says: what a sender chose can't end a value. None where it is written wrong.", one+"#one.findings --> 1"),
	}}
}

func arcFindingSection() section {
	const one = "local one = arc.check(tx).sets[1].findings[1]\n"
	return section{name: "arcfinding", class: "arcfinding", plain: true, at: hooks.Message, doc: "One result that a set tells (RFC 8601).", items: []member{
		def("method", "string", "The method, such as dkim, in small letters.", one+"one.method --> \"spf\""),
		def("verdict", "string", "Its result, in small letters.", one+"one.verdict --> \"pass\""),
		def("reason", "string", "Why.", one+"one.reason --> \"\""),
		def("properties", "table<string, string>", "What it was about, such as header.from, by name in small letters.", one+"one.properties[\"smtp.mailfrom\"] --> nil"),
	}}
}
