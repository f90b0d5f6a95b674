// Command troubled is a plugin for the tests that does to its host what the
// subject asks for: hang, crash, flood its log, or edit bodies.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk"
)

type troubled struct {
	Mark string `postern:"mark,file" doc:"file that is made at the first crash in a replacement"`
}

// Message does what the subject says.
func (t *troubled) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	switch subject, _ := ev.Header.Get("Subject"); subject {
	case "hang":
		select {} // a plugin that does not look at its context
	case "crash":
		os.Exit(7)
	case "replace", "replace and crash once":
		if subject != "replace" {
			if f, err := os.OpenFile(t.Mark, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				f.Close()
				ev.ReplaceBody("text/plain", "never said\n")
				os.Exit(7)
			}
		}
		ev.ReplaceBody("text/plain", "The script was taken out.\n")
	case "footer":
		ev.Footer("-- \nExample Ltd\n", "<p>Example Ltd</p>", false)
	case "flood":
		line := strings.Repeat("flood ", 200) + "\n"
		for range 5000 {
			_, _ = os.Stderr.WriteString(line)
		}
	}
	return sdk.Pass(), ctx.Err()
}

func main() {
	sdk.Serve(sdk.Policy{Name: "troubled", Version: "1.0", About: "Does what the subject asks for.", Handler: &troubled{}, Access: sdk.Headers()})
}
