package lua

import "github.com/postern-mta/postern/hooks"

func dmarcLibrary() section {
	return section{name: "dmarc", class: "dmarclib", at: hooks.Message, doc: "Does the domain in From stand behind the message (RFC 9989)? It is judged as it was received, once, however many policies ask, from stage message on; SPF and DKIM are asked for it.", items: []member{
		def("check", "(tx: tx, organization?: \"tree-walk\"|\"suffix-list\"): dmarcresult?, error?", "Judges the message. With \"suffix-list\" organizations are found as RFC 7489 did.",
			"dmarc.check(tx).verdict --> \"pass\"\ndmarc.check(tx, \"suffix-list\").organization --> \"example.org\""),
		def("count", "(tx: tx, done: \"none\"|\"quarantine\"|\"reject\", why?: string, organization?: \"tree-walk\"|\"suffix-list\"): boolean?, error?", "Counts the message for the aggregate report to the domain's owner, with what was done and, where that is not what the owner asks, why. Of a policy in shadow mode, nothing is what was done. False where [dmarc] reports are off.",
			"dmarc.count(tx, \"none\", \"our list\") --> false"),
	}}
}

func dmarcResultSection() section {
	return section{name: "dmarcresult", class: "dmarcresult", plain: true, at: hooks.Message, doc: "A verdict of dmarc.check, and what led to it. Texts that there are none of are \"\".", items: []member{
		def("verdict", "\"pass\"|\"fail\"|\"none\"|\"temperror\"|\"permerror\"", "The verdict.", "dmarc.check(tx).verdict --> \"pass\""),
		def("from", "string", "The domain in From, in A-labels; of several the one with the strictest outcome.", "dmarc.check(tx).from --> \"example.org\""),
		def("policy", "\"none\"|\"quarantine\"|\"reject\"|\"\"", "What its owner publishes for it.", "dmarc.check(tx).policy --> \"reject\""),
		def("tag", "string", "The tag that says so: p, sp or np.", "dmarc.check(tx).tag --> \"p\""),
		def("disposition", "\"none\"|\"quarantine\"|\"reject\"", "What its owner asks for this message; none where it passes.", "dmarc.check(tx).disposition --> \"none\""),
		def("reason", "string", "Why that is less than the policy.", "dmarc.check(tx).reason --> \"\""),
		def("domain", "string", "The domain whose record applies.", "dmarc.check(tx).domain --> \"example.org\""),
		def("record", "string", "That record.", "dmarc.check(tx).record --> \"v=DMARC1; p=reject\""),
		def("organization", "string", "The organizational domain of From.", "dmarc.check(tx).organization --> \"example.org\""),
		def("spf", "boolean", "Whether SPF passes for it.", "dmarc.check(tx).spf --> true"),
		def("dkim", "boolean", "Whether a signature passes for it.", "dmarc.check(tx).dkim --> true"),
		def("problem", "string", "Why the verdict is temperror or permerror.", "dmarc.check(tx).problem --> \"\""),
		def("identifiers", "dmarcidentifier[]", "What was compared with From.", "#dmarc.check(tx).identifiers --> 2"),
		def("steps", "dmarcstep[]", "Each step.", "dmarc.check(tx).steps[1].query --> \"TXT _dmarc.example.org\""),
	}}
}

func dmarcIdentifierSection() section {
	const one = "local one = dmarc.check(tx).identifiers[2]\n"
	return section{name: "dmarcidentifier", class: "dmarcidentifier", plain: true, at: hooks.Message, doc: "A domain that SPF or DKIM found.", items: []member{
		def("method", "\"spf\"|\"dkim\"", "Which of them.", one+"one.method --> \"dkim\""),
		def("domain", "string", "The domain.", one+"one.domain --> \"example.org\""),
		def("selector", "string", "Of a signature its selector.", one+"one.selector --> \"s1\""),
		def("verdict", "string", "What SPF or DKIM found.", one+"one.verdict --> \"pass\""),
		def("aligned", "boolean", "Whether it is that of From, or of the same organization.", one+"one.aligned --> true"),
	}}
}

func dmarcStepSection() section {
	const one = "local one = dmarc.check(tx).steps[1]\n"
	return section{name: "dmarcstep", class: "dmarcstep", plain: true, at: hooks.Message, doc: "One thing that a check did.", items: []member{
		def("what", "string", "What it was about.", one+"one.what --> \"example.org\""),
		def("query", "string", "What was asked.", one+"one.query --> \"TXT _dmarc.example.org\""),
		def("answer", "string[]", "The records, quoted.", one+"one.answer --> { '\"v=DMARC1; p=reject\"' }"),
		def("outcome", "string", "What came of it.", one+"one.outcome --> \"a record\""),
	}}
}
