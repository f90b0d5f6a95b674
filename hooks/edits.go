package hooks

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// editEnvelope changes the reverse-path and the DSN parameters (RFC 3461).
func editEnvelope(tx *Transaction, e Edit) error {
	switch e.Kind {
	case SetSender:
		to, err := message.ParseSender(e.Value)
		if err != nil {
			return fmt.Errorf("%q: %w", e.Value, err)
		}
		tx.Sender, tx.Given = to, to
	case SetReturn:
		value := strings.ToUpper(e.Value)
		if value != "FULL" && value != "HDRS" {
			return fmt.Errorf("%q is neither full nor hdrs", e.Value)
		}
		tx.Params = withParam(tx.Params, "RET", value)
	case SetNotify:
		value, err := notify(e.Value)
		if err != nil {
			return err
		}
		one, err := tx.changed(e.Rcpt)
		if err != nil {
			return err
		}
		one.Params = withParam(one.Params, "NOTIFY", value)
	}
	return nil
}

// notify is the value of NOTIFY for words such as "success, failure" (RFC 3461
// section 4.1).
func notify(words string) (string, error) {
	list := strings.FieldsFunc(strings.ToUpper(words), func(r rune) bool { return r == ',' || r == ' ' })
	for _, word := range list {
		switch {
		case word == "NEVER" && len(list) > 1:
			return "", errors.New("never stands alone")
		case !slices.Contains([]string{"NEVER", "SUCCESS", "FAILURE", "DELAY"}, word):
			return "", fmt.Errorf("%q is none of never, success, failure and delay", word)
		}
	}
	if len(list) == 0 {
		return "", errors.New("say never, or some of success, failure and delay")
	}
	return strings.Join(list, ","), nil
}

func withParam(params []Param, key, value string) []Param {
	params = slices.DeleteFunc(slices.Clone(params), func(p Param) bool { return p.Key == key })
	return append(params, Param{key, value})
}

// editCopy changes what belongs to one recipient alone.
func editCopy(tx *Transaction, e Edit) error {
	one, err := tx.changed(e.Rcpt)
	if err != nil {
		return err
	}
	if e.Kind == SetRcptNote {
		one.Notes = maps.Clone(one.Notes)
		setNote(&one.Notes, e)
		return nil
	}
	if e.Kind != RemoveRcptHeader {
		if err := message.CheckField(e.Name, e.Value); err != nil {
			return err
		}
	}
	if len(one.Edits) >= maxAdded {
		return fmt.Errorf("more than %d edits of one recipient's copy", maxAdded)
	}
	one.Edits = append(slices.Clip(one.Edits), e)
	return nil
}

// editCapabilities changes what the answer to EHLO says. A keyword is letters,
// digits and hyphens (RFC 5321 section 4.1.1.1).
func editCapabilities(tx *Transaction, e Edit) error {
	keyword, _, _ := strings.Cut(e.Value, " ")
	bad := func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	if keyword == "" || strings.ContainsFunc(keyword, bad) || strings.ContainsFunc(e.Value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("%q is no capability: a keyword of letters, digits and hyphens, and parameters", e.Value)
	}
	tx.Capabilities = slices.DeleteFunc(slices.Clone(tx.Capabilities), func(had string) bool {
		one, _, _ := strings.Cut(had, " ")
		return strings.EqualFold(one, keyword)
	})
	if e.Kind == AddCapability {
		tx.Capabilities = append(tx.Capabilities, e.Value)
	}
	return nil
}

// editPlan changes how the route of stage route is gone. The values are checked
// where the configuration's are.
func editPlan(tx *Transaction, e Edit) error {
	if tx.Try == nil {
		return errors.New("there is no plan at this stage")
	}
	try := *tx.Try
	switch e.Name {
	case "tls":
		try.TLS = e.Value
	case "source":
		try.Source = e.Value
	case "retry":
		try.Retry = e.Value
	default:
		return fmt.Errorf("%q is none of tls, source and retry", e.Name)
	}
	tx.Try = &try
	return nil
}

func editNotice(tx *Transaction, e Edit) error {
	if tx.Notice == nil {
		return errors.New("there is no notice at this stage")
	}
	to, err := message.ParseAddress(e.Value)
	if err != nil {
		return fmt.Errorf("%q: %w", e.Value, err)
	}
	if to.IsNull() {
		return errors.New("a notice can't go to the null path")
	}
	notice := *tx.Notice
	notice.To = to
	tx.Notice = &notice
	return nil
}

// pardon drops kept refusals, or spares one recipient from them.
func pardon(marks *Marks, e Edit) {
	about := func(k Kept) bool { return e.Value == "" || k.Decision.By == e.Value }
	if e.Rcpt == "" {
		marks.Kept = slices.DeleteFunc(marks.Kept, about)
		return
	}
	for i, k := range marks.Kept {
		if !about(k) || k.Recipient != "" && k.Recipient != e.Rcpt {
			continue
		}
		spared := maps.Clone(k.Spared)
		if spared == nil {
			spared = map[string]bool{}
		}
		spared[e.Rcpt] = true
		marks.Kept[i].Spared = spared
	}
}
