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
	d := hooks.Decision{Disconnect: x.Disconnect, Reason: oneLine(x.Reason)}
	var ok bool
	if d.Verb, ok = hooks.ParseVerb(x.Verb); !ok && x.Verb != "" {
		return d, fmt.Errorf("%.40q is no decision", x.Verb)
	}
	if len(x.Reason) > proto.MaxText {
		return d, fmt.Errorf("a reason of %d bytes; %d are possible", len(x.Reason), proto.MaxText)
	}
	var err error
	if d.Reply, err = readReply(x.Reply); err != nil {
		return d, err
	}
	if x.AfterMs < 0 || x.AfterMs > maxAfter.Milliseconds() {
		return d, fmt.Errorf("the next attempt after %d ms is not between 0 and a year", x.AfterMs)
	}
	d.After = time.Duration(x.AfterMs) * time.Millisecond
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

func readReply(x *proto.Reply) (message.Reply, error) {
	if x == nil {
		return message.Reply{}, nil
	}
	if x.Code != 0 && (x.Code < 400 || x.Code > 599) {
		return message.Reply{}, fmt.Errorf("the reply code %d is not between 400 and 599", x.Code)
	}
	if len(x.Text) > proto.MaxText {
		return message.Reply{}, fmt.Errorf("a reply text of %d bytes; %d are possible", len(x.Text), proto.MaxText)
	}
	r := message.Reply{Code: int(x.Code), Text: oneLine(x.Text)}
	if x.Enhanced != "" {
		var ok bool
		if r.Enhanced, ok = message.ParseEnhanced(x.Enhanced); !ok || r.Enhanced[0] == 2 {
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
	e := hooks.Edit{Kind: kind, Name: x.Name, Value: x.Value, N: int(x.N), Number: x.Number}
	switch {
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
	case hooks.SetNote, hooks.SetConnNote, hooks.SetResult:
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
