// Command troubled is a plugin for the tests that does to its host what the
// subject asks for: hang, crash, or flood its log.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk"
)

type troubled struct{}

// Message does what the subject says.
func (*troubled) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	switch subject, _ := ev.Header.Get("Subject"); subject {
	case "hang":
		select {} // a plugin that does not look at its context
	case "crash":
		os.Exit(7)
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
