package plugin

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// Bounds of a decision beyond those of the protocol.
const (
	maxName  = 1000
	maxAfter = 366 * 24 * time.Hour
)

// readDecision makes a decision of a plugin's answer. What the stage allows is
// for the Chain to say; here stands what no stage allows.
func readDecision(x *proto.Decision) (hooks.Decision, error) {
	d, err := readVerdict(x)
	if err != nil {
		return d, err
	}
	if len(x.Each) > proto.MaxEach {
		return d, fmt.Errorf("decisions on %d single recipients; %d are possible", len(x.Each), proto.MaxEach)
	}
	for _, one := range x.Each {
		if d.Each == nil {
			d.Each = make(map[int]hooks.Decision, len(x.Each))
		}
		if _, twice := d.Each[int(one.GetRecipient())]; twice {
			return d, fmt.Errorf("two decisions on recipient %d", one.GetRecipient())
		}
		own := one.GetDecision()
		if own == nil {
			own = &proto.Decision{}
		}
		if len(own.Each) > 0 || len(own.Edits) > 0 {
			return d, fmt.Errorf("the decision on recipient %d has more than a verb, a reply and a reason", one.GetRecipient())
		}
		if d.Each[int(one.GetRecipient())], err = readVerdict(own); err != nil {
			return d, fmt.Errorf("recipient %d: %w", one.GetRecipient(), err)
		}
	}
	if len(x.Edits) > proto.MaxEdits {
		return d, fmt.Errorf("%d edits; %d are possible", len(x.Edits), proto.MaxEdits)
	}
	for i, e := range x.Edits {
		edit, err := readEdit(e)
		if err != nil {
			return d, fmt.Errorf("edit %d: %w", i+1, err)
		}
		d.Edits = append(d.Edits, edit)
	}
	return d, nil
}

// readVerdict is a decision without edits and without single recipients.
func readVerdict(x *proto.Decision) (hooks.Decision, error) {
	d := hooks.Decision{Disconnect: x.Disconnect, Reason: oneLine(x.Reason), User: x.User}
	var ok bool
	if d.Verb, ok = hooks.ParseVerb(x.Verb); !ok && x.Verb != "" {
		return d, fmt.Errorf("%.40q is no decision", x.Verb)
	}
	if len(x.Reason) > proto.MaxText {
		return d, fmt.Errorf("a reason of %d bytes; %d are possible", len(x.Reason), proto.MaxText)
	}
	if len(x.User) > maxName || x.User != oneLine(x.User) {
		return d, fmt.Errorf("the user %.40q is no name of one line and at most %d bytes", x.User, maxName)
	}
	var err error
	if d.Reply, err = readReply(d.Verb, x.Reply); err != nil {
		return d, err
	}
	if x.AfterMs < 0 || x.AfterMs > maxAfter.Milliseconds() {
		return d, fmt.Errorf("the next attempt after %d ms is not between 0 and a year", x.AfterMs)
	}
	d.After = time.Duration(x.AfterMs) * time.Millisecond
	return d, nil
}

// readReply reads a reply. One of accept, which stage command says, is positive.
func readReply(verb hooks.Verb, x *proto.Reply) (message.Reply, error) {
	if x == nil {
		return message.Reply{}, nil
	}
	low, high := int32(400), int32(599)
	if verb == hooks.Accept {
		low, high = 200, 299
	}
	if x.Code != 0 && (x.Code < low || x.Code > high) {
		return message.Reply{}, fmt.Errorf("the reply code %d is not between %d and %d", x.Code, low, high)
	}
	if len(x.Text) > proto.MaxText {
		return message.Reply{}, fmt.Errorf("a reply text of %d bytes; %d are possible", len(x.Text), proto.MaxText)
	}
	r := message.Reply{Code: int(x.Code), Text: oneLine(x.Text)}
	if x.Enhanced != "" {
		var ok bool
		if r.Enhanced, ok = message.ParseEnhanced(x.Enhanced); !ok || (r.Enhanced[0] == 2) != (verb == hooks.Accept) {
			return r, fmt.Errorf("the enhanced status %.40q is not one like 5.7.1 or 4.7.1", x.Enhanced)
		}
	}
	return r, nil
}

func readEdit(x *proto.Edit) (hooks.Edit, error) {
	kind, ok := parseEdit(x.GetKind())
	if !ok {
		return hooks.Edit{}, fmt.Errorf("the kind %.40q does not exist", x.GetKind())
	}
	e := hooks.Edit{Kind: kind, Name: x.Name, Value: x.Value, N: int(x.N), Number: x.Number, Rcpt: x.Rcpt}
	switch {
	case len(x.Rcpt) > maxName:
		return e, fmt.Errorf("%s: the address of a recipient has %d bytes; %d are possible", kind, len(x.Rcpt), maxName)
	case len(x.Name) > maxName:
		return e, fmt.Errorf("%s: a name of %d bytes; %d are possible", kind, len(x.Name), maxName)
	case math.IsNaN(x.Number) || math.IsInf(x.Number, 0):
		return e, fmt.Errorf("%s: %w", kind, proto.ErrNumber)
	case x.N < 0 && kind != hooks.SetPriority || x.N < math.MinInt32 || x.N > math.MaxInt32:
		return e, fmt.Errorf("%s: the number %d is out of range", kind, x.N)
	}
	switch kind {
	case hooks.AddScore, hooks.AddTag, hooks.SkipPolicy, hooks.SetRoute:
		e.Name, e.Value = oneLine(e.Name), oneLine(e.Value)
	case hooks.SetNote, hooks.SetConnNote, hooks.SetRcptNote, hooks.SetResult:
		if e.Name == "" {
			return e, errors.New(kind.String() + ": the name is missing")
		}
	case hooks.SetReceived:
		e.Value = oneLine(e.Value)
	}
	var err error
	if e.Any, err = x.Any.Plain(); err != nil {
		return e, fmt.Errorf("%s: %w", kind, err)
	}
	return e, nil
}

// parseEdit finds a kind of edit by the name that the vocabulary gives it.
func parseEdit(name string) (hooks.EditKind, bool) {
	for kind, known := range hooks.EditKinds() {
		if known == name {
			return kind, true
		}
	}
	return 0, false
}

// oneLine makes spaces of control characters.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
