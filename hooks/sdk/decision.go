package sdk

import (
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// Decision is what a stage's method answers; the zero value is Pass. Its fields
// may be set further: Disconnect closes after the reply, After sets the time of
// the next attempt at stages deferred and bounced, Reply.Code another code.
type Decision = hooks.Decision

// Pass lets the next policy speak.
func Pass() Decision { return Decision{} }

// Accept ends the stage well. At rcpt it makes the recipient valid, and a domain
// that is not ours is relayed to: test Event.Current.Ours first.
func Accept() Decision { return Decision{Verb: hooks.Accept} }

// Reject refuses for good. The enhanced status is one like "5.7.1" (RFC 3463) or
// "" for the stage's own; the text is one line, with format arguments.
func Reject(enhanced, text string, args ...any) Decision {
	return Decision{Verb: hooks.Reject, Reply: message.NewReply(0, enhanced, text, args...)}
}

// Defer refuses for now; see Reject.
func Defer(enhanced, text string, args ...any) Decision {
	return Decision{Verb: hooks.Defer, Reply: message.NewReply(0, enhanced, text, args...)}
}

// Discard tells the client that all is well and drops the message; at rcpt, that
// recipient.
func Discard(reason string) Decision { return Decision{Verb: hooks.Discard, Reason: reason} }

// Quarantine takes the message and keeps it for an operator.
func Quarantine(reason string) Decision { return Decision{Verb: hooks.Quarantine, Reason: reason} }

// Hold keeps the message queued until an operator releases it.
func Hold(reason string) Decision { return Decision{Verb: hooks.Hold, Reason: reason} }

// Disconnect answers 421 and closes the connection.
func Disconnect(text string) Decision {
	return Decision{Verb: hooks.Drop, Reply: message.Reply{Text: text}}
}

// AcceptUser, at stage auth, says that the client is who it says, under that name.
func AcceptUser(user string) Decision { return Decision{Verb: hooks.Accept, User: user} }

// Answer, at stage command, is what the command is answered with: a code from 200
// to 299, 0 for 250, and one line.
func Answer(code int, text string, args ...any) Decision {
	return Decision{Verb: hooks.Accept, Reply: message.NewReply(code, "", text, args...)}
}

// onWire is d as the protocol says it.
func onWire(d Decision) *proto.Decision {
	out := &proto.Decision{Verb: d.Verb.String(), Disconnect: d.Disconnect, AfterMs: d.After.Milliseconds(), Reason: proto.Text(d.Reason), User: proto.Text(d.User)}
	for i, one := range d.Each {
		out.Each = append(out.Each, &proto.RecipientDecision{Recipient: int32(i), Decision: onWire(one)})
	}
	if d.Reply != (message.Reply{}) {
		out.Reply = &proto.Reply{Code: int32(d.Reply.Code), Enhanced: d.Reply.Status(), Text: proto.Text(d.Reply.Text)}
	}
	for _, e := range d.Edits {
		edit := &proto.Edit{Kind: e.Kind.String(), Name: proto.Text(e.Name), Value: proto.Text(e.Value), N: int64(e.N), Number: e.Number, Rcpt: proto.Text(e.Rcpt)}
		if e.Any != nil {
			edit.Any = proto.NewValue(e.Any)
		}
		out.Edits = append(out.Edits, edit)
	}
	return out
}
