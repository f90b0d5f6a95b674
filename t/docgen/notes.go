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
`

// writeStages writes docs/stages.md behind its head.
func writeStages(w io.Writer) error {
	if err := hooks.WriteTable(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, strings.ReplaceAll(stageNotes, "~", "`"))
	return err
}
