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
`

// writeStages writes docs/stages.md behind its head.
func writeStages(w io.Writer) error {
	if err := hooks.WriteTable(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, strings.ReplaceAll(stageNotes, "~", "`"))
	return err
}
