package lua

import "github.com/postern-mta/postern/hooks"

// authSections are the libraries that judge who sent a message.
func authSections() []section {
	return []section{spfLibrary(), spfResultSection(), spfStepSection()}
}

// authGlobals are their names.
func authGlobals() []member {
	return []member{
		lib("spf", "spflib", "May the client send in the sender's name (RFC 7208)?"),
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
