package gate

import (
	"context"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// blockVariable is what rblsmtpd goes by.
const blockVariable = "RBLSMTPD"

// Blocks tells whether a rule sets RBLSMTPD, so that Blocked is needed.
func (r *Rules) Blocks() bool {
	for i := range r.list {
		if _, ok := r.list[i].Env[blockVariable]; ok {
			return true
		}
	}
	return false
}

// Blocked refuses clients for whom a connection rule sets RBLSMTPD, with its value as
// the text: for now, or for good where that begins with "-". An empty one means that
// the client is not to be blocked, whatever lists say of it; policies that ask lists
// heed that. It stands before all policies, and its refusal is to be kept until stage
// rcpt, so that the log has the envelope.
type Blocked struct{}

// Name is what stories and metrics call it, and pardon.
func (Blocked) Name() string { return "rblsmtpd" }

// Stages are those at which it is asked.
func (Blocked) Stages() []hooks.Stage { return []hooks.Stage{hooks.Connect} }

// maxBlockText is what rblsmtpd says of a text.
const maxBlockText = 200

// Handle implements hooks.Handler.
func (Blocked) Handle(_ context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	text := tx.Session.Env[blockVariable]
	if text == "" {
		return hooks.Decision{}, nil
	}
	d := hooks.Decision{Verb: hooks.Defer, Reason: "a connection rule sets " + blockVariable}
	code, status := 451, "4.7.1"
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		d.Verb, code, status, text = hooks.Reject, 553, "5.7.1", rest
	}
	if len(text) > maxBlockText {
		text = text[:maxBlockText]
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	d.Reply = message.NewReply(code, status, "%s", text)
	return d, nil
}
