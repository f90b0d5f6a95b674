package main

import (
	"io"
	"strings"

	"github.com/postern-mta/postern/hooks"
)

// stageNotes is what the table of stages has no room for. A ~ stands for a
// backquote.
const stageNotes = `
## helo: what EHLO offers

~conn.capabilities~ is what the reply to EHLO will list, a line each. What a policy
removes is not said, and not served until the client's next EHLO or HELO: its commands
get 502 5.5.1, its parameters 555 5.5.4, replies without ENHANCEDSTATUSCODES have no
enhanced status. BINARYMIME goes with CHUNKING (RFC 3030). ~AUTH LOGIN~ in the place of
~AUTH PLAIN LOGIN~ leaves LOGIN alone. A line that is added for something we do not have
is said and no more, and so is another number behind SIZE or LIMITS. PIPELINING is only
said: a client that sends several commands at once anyway is served.

## auth: who the client is

A policy at ~auth~ is asked with the mechanism, the user's name and, by PLAIN and LOGIN,
the password, before any ~[[auth]]~ back-end. ~accept~ names the identity, which is the
session's user from then on; without one it is a failure of the policy. With no decision
the back-ends answer, else 535. AUTH is offered, over TLS, also where no ~[[auth]]~ is
there and a policy in force on that listener has the stage: then PLAIN and LOGIN, as far
as the listener's ~auth~ allows. A policy in shadow, or one whose ~when~ leaves the
client out, offers nothing.

By SCRAM-SHA-256 the password never comes here, and the server proves to the client that
it knows the user: so such a login needs its entry in a password file whatever a policy
says. A policy may refuse or defer it, and give the user another name; ~accept~ without
a right proof is 535.

Guesses are slowed and ended as for the back-ends: a policy's refusal with a 5xx counts
as one, a deferral does not, and a client that failed too often gets 421 and no policy
hears of it. A name that tries to act as somebody else, or can be no user's, gets 535
and is shown to nobody. Passwords stand in no log, trace or recording.

## command: everything else a client may say

VRFY, HELP, NOOP, RSET, QUIT and EXPN are asked about once they are complete (an argument
that is missing, or one too many, is 501 before), and so is every command that is none
of ours, ETRN among them; not an empty line, nor what a browser sends. ~accept~ lets a
command of ours give its own answer, and takes one that is none of ours, and EXPN, with
250 2.0.0 Ok. With a text, or a code from 200 to 299, it is the answer: what is left open
is as the command has it (214 for HELP, 221 for QUIT, 252 for VRFY, else 250). A refusal
counts as the client's error where it is for good. RSET ends the transaction and QUIT the
session whatever is decided. What the stage leaves (scores, tags, results) is the
connection's, and bounded at a thousand of each.

## message and queue: recipients one by one

A policy may decide single recipients there (~tx:each_rcpt~); its own decision is about
the others. Who is decided is not shown to the policies behind it, and who is refused or
discarded is in no later stage. By LMTP and PRDR each recipient has its reply. Where the
client takes one reply for all and some are refused, ~[server] mixed_recipients~ says
what happens:

| ~mixed_recipients~ | some refused for good (5xx) | some deferred (4xx) |
|---|---|---|
| ~strictest~ | all get that refusal | all are deferred, unless one is refused for good |
| ~split~ | 250; the refused are dropped with a line in the story, and nobody hears of it | all are deferred |
| ~quarantine~ | 250; the refused are kept in quarantine | all are deferred |

~discard~ and ~quarantine~ of single recipients need no such choice: the client hears 250.
Who is kept in quarantine while others are not has the message under an id of its own,
which the story of either names. ~hold~ beside decisions on single recipients holds the
others alone. In proxy mode the message goes to the next hop for those that are left;
where it was told of more recipients, it is asked anew without them.

## Recipients: notes, and copies of their own

~rcpt.notes~ are queued with the message and seen at the delivery stages. ~rcpt.headers~
edits the header section of that recipient's copy when it is delivered, behind our
Received field, which it can't reach; recipients whose copies differ are transactions of
their own to the next hop. In proxy mode there is one answer for all, so there recipients
with different copies are deferred (451 4.3.5).

## route: the plan

~plan.tls~, ~plan.source~ and ~plan.retry~ are as in the configuration: none, may, encrypt
or verify; an address of this host, or nothing; quadratic, the waits between attempts
parted by commas, or what makes them grow (~start=5m factor=2 max=4h jitter=0.2~). They are
of this recipient and of this try: the stage is asked again before the next one. Recipients of one destination with different plans are tried apart.
A value that the configuration would refuse puts the recipient off with 451 4.3.5, and
the reply names it. What the configured route has stays, where a policy sets another next
hop, but for its password.

## dsn: notices

A policy is asked about each notice before it is queued: ~notice.kind~ is bounce, delay,
success, or double for a bounce that failed and goes to ~[queue] double_bounce_to~. ~tx~ is
the message in question (its id, notes and tags; what is noted or tagged stays with it),
but ~tx.headers~ are the notice's own. ~discard~ drops the notice, and it counts as sent;
~notice.to~ sends it to somebody else, whom its To field names then. The notice itself is
not judged by other stages, has the null reverse-path, and is never answered by a notice.
Where nobody is to be told (the null sender, NOTIFY=NEVER, a double bounce that fails)
nobody is asked.
`

// writeStages writes docs/stages.md behind its head.
func writeStages(w io.Writer) error {
	if err := hooks.WriteTable(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, strings.ReplaceAll(stageNotes, "~", "`"))
	return err
}
