package hooks

import (
	"cmp"
	"fmt"
	"iter"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// Verb is what a handler decides.
type Verb uint8

// The verbs. The zero value lets the next handler speak.
const (
	Pass Verb = iota
	Accept
	Reject
	Defer
	Discard
	Quarantine
	Hold
	Drop // "disconnect": 421 and close
	verbEnd
)

// Disconnect as a verb has a name of its own beside the stage of that name.
const disconnectName = "disconnect"

var verbNames = [verbEnd]string{"pass", "accept", "reject", "defer", "discard", "quarantine", "hold", disconnectName}

// String is the verb's name in scripts, documents and traces.
func (v Verb) String() string {
	if v >= verbEnd {
		return fmt.Sprintf("verb %d", uint8(v))
	}
	return verbNames[v]
}

// ParseVerb finds a verb by name.
func ParseVerb(name string) (Verb, bool) {
	for v, n := range verbNames {
		if n == name {
			return Verb(v), true
		}
	}
	return Pass, false
}

// Refuses tells whether the verb means a negative reply.
func (v Verb) Refuses() bool { return v == Reject || v == Defer || v == Drop }

// Decision is a handler's answer: a verb with what belongs to it, and edits. The
// zero value is "pass, nothing to change".
type Decision struct {
	Verb       Verb
	Reply      message.Reply // of reject and defer; a zero Code takes the stage's default, an empty Text its text
	Disconnect bool          // close after the reply
	After      time.Duration // of defer at deferred and bounced: the time to the next attempt; 0: the retry plan
	Reason     string        // for the trace: of discard, quarantine and hold
	User       string        // of accept at auth: the identity; required there
	// Each answers for single recipients where the stage allows it (Row.Each), by
	// their index in Transaction.Recipients as the handler saw them; the others
	// have Verb. A recipient's decision is pass, accept, reject, defer, discard or
	// quarantine.
	Each  map[int]Decision
	Edits []Edit
	By    string // who decided: set by Chain
}

// EditKind says what an Edit changes.
type EditKind uint8

// The edits. Name, Value, N and Any are fields of Edit.
const (
	AddHeader        EditKind = iota + 1 // prepends field Name with Value
	AppendHeader                         // appends field Name with Value
	ReplaceHeader                        // field Name gets Value, further ones go
	RemoveHeader                         // the N-th field Name from the top goes; 0: all
	AddRecipient                         // Value joins the recipients
	RemoveRecipient                      // Value leaves them
	ReplaceRecipient                     // Name is replaced by Value
	SetRoute                             // next hop Value for recipient Name, "" for all
	SetNote                              // note Name of the transaction is Any
	SetConnNote                          // note Name of the connection is Any
	AddScore                             // symbol Name adds Number, because of Value
	AddTag                               // tag Value
	SetResult                            // named result Name is Any, a map
	SkipPolicy                           // policy Value is not asked any more
	SetPriority                          // priority N
	SetReceived                          // Value replaces the text of our Received field
	SetSender                            // Value is the reverse-path, "" the null path
	SetReturn                            // Value is the DSN parameter RET: full, hdrs
	SetNotify                            // Value is Rcpt's DSN parameter NOTIFY: never, or a list of success, failure, delay
	SetRcptNote                          // note Name of recipient Rcpt is Any
	AddRcptHeader                        // prepends field Name with Value in Rcpt's copy alone
	AppendRcptHeader                     // appends it there
	RemoveRcptHeader                     // the N-th field Name from the top goes from Rcpt's copy; 0: all
	ReplaceBody                          // Value is the new body: a text of type Name, such as text/plain; "": the content as it stands, for the fields that are there
	AddFooter                            // Any is a map of text, html (strings) and top (bool: in front); Value tells how it was done
	Pardon                               // refusals kept by deny_at of policy Value ("" all) go, for recipient Rcpt ("" everyone)
	AddCapability                        // EHLO says Value: keyword and parameters
	RemoveCapability                     // EHLO does not say keyword Value
	SetPlan                              // Name is tls, source or retry of the route; Value as in the configuration
	SetNotice                            // the notice goes to Value
	editEnd
)

var editNames = [editEnd]string{"", "headers:prepend", "headers:append", "headers:replace", "headers:remove", "recipients:add", "recipients:remove", "recipients:replace", "route", "notes", "conn.notes", "score", "tag", "result", "skip", "priority", "received", "sender", "ret", "notify", "rcpt.notes", "rcpt.headers:prepend", "rcpt.headers:append", "rcpt.headers:remove", "body:replace", "body:footer", "pardon", "capabilities:add", "capabilities:remove", "plan", "notice.to"}

// String is the edit's name in documents and traces.
func (k EditKind) String() string {
	if k >= editEnd {
		return fmt.Sprintf("edit %d", uint8(k))
	}
	return editNames[k]
}

// Edit is one change that a handler asks for. Chain applies it; a handler never
// changes the transaction itself. All edits of one decision are applied, or none.
type Edit struct {
	Kind   EditKind
	Name   string
	Value  string
	N      int
	Number float64
	Any    any    // plain values: string, float64, bool, []any, map[string]any
	Rcpt   string // the address of the recipient meant; "": the current one, or none
}

// EditKinds lists the kinds with their names.
func EditKinds() iter.Seq2[EditKind, string] {
	return func(yield func(EditKind, string) bool) {
		for k := AddHeader; k < editEnd; k++ {
			if !yield(k, editNames[k]) {
				return
			}
		}
	}
}

// String is the edit as `postern why` shows it.
func (e Edit) String() string {
	switch e.Kind {
	case RemoveHeader:
		if e.N > 0 {
			return fmt.Sprintf("%s %s %d", e.Kind, e.Name, e.N)
		}
		return fmt.Sprintf("%s %s", e.Kind, e.Name)
	case ReplaceBody:
		return fmt.Sprintf("%s %s %d bytes", e.Kind, cmp.Or(e.Name, "as it stands"), len(e.Value))
	case AddFooter:
		return fmt.Sprintf("%s %s", e.Kind, cmp.Or(e.Value, "asked for"))
	case AddScore:
		return fmt.Sprintf("%s %s %+g %s", e.Kind, e.Name, e.Number, e.Value)
	case SetNote, SetConnNote, SetResult:
		return fmt.Sprintf("%s %s = %v", e.Kind, e.Name, e.Any)
	case SetPriority:
		return fmt.Sprintf("%s %d", e.Kind, e.N)
	case SetRoute:
		if e.Name != "" {
			return fmt.Sprintf("%s %s to %s", e.Kind, e.Name, e.Value)
		}
	}
	if e.Name != "" {
		return fmt.Sprintf("%s %s: %s", e.Kind, e.Name, e.Value)
	}
	return fmt.Sprintf("%s %s", e.Kind, e.Value)
}
