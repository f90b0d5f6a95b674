package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

// This file is the part milter of a reply: what else rspamd wants done. Its forms
// are those that rspamd itself hands to a milter's mail server.

// milter is what is to be changed.
type milter struct {
	Add        []field
	Remove     map[string]int // 0: all; n: the n-th from the top; -n: from the bottom
	From       string         // a new sender; "": it stays
	AddRcpt    []string
	DelRcpt    []string
	Reject     string // discard or quarantine: instead of a refusal
	NoAction   bool   // only edits are wanted
	SpamHeader []field
}

// field is a header field to add: on top, or at the end of the section.
type field struct {
	name, value string
	top         bool
}

func readMilter(raw json.RawMessage) (m milter, err error) {
	if len(raw) == 0 {
		return m, nil
	}
	var x struct {
		Add        map[string]json.RawMessage `json:"add_headers"`
		Remove     map[string]json.RawMessage `json:"remove_headers"`
		From       string                     `json:"change_from"`
		AddRcpt    []string                   `json:"add_rcpt"`
		DelRcpt    []string                   `json:"del_rcpt"`
		Reject     string                     `json:"reject"`
		NoAction   bool                       `json:"no_action"`
		SpamHeader json.RawMessage            `json:"spam_header"`
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return m, fmt.Errorf("what it wants changed makes no sense: %w", err)
	}
	m = milter{From: x.From, AddRcpt: x.AddRcpt, DelRcpt: x.DelRcpt, Reject: x.Reject, NoAction: x.NoAction}
	if len(x.Add)+len(x.Remove)+len(x.AddRcpt)+len(x.DelRcpt) > maxFields {
		return m, errors.New("it wants too much changed")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Add)) {
		list, err := readFields(name, x.Add[name])
		if err != nil {
			return m, err
		}
		m.Add = append(m.Add, list...)
	}
	for name, raw := range x.Remove {
		var n int
		if json.Unmarshal(raw, &n) != nil {
			continue // rspamd passes over these, too
		}
		if message.CheckField(name, "") != nil {
			return m, fmt.Errorf("it wants the field %.100q removed", name)
		}
		if m.Remove == nil {
			m.Remove = map[string]int{}
		}
		m.Remove[name] = n
	}
	m.SpamHeader, err = readSpamHeader(x.SpamHeader)
	if len(m.Add)+len(m.SpamHeader) > maxFields {
		err = errors.New("it wants too many header fields added")
	}
	return m, err
}

// readFields reads what a name in add_headers has: a text, {value, order}, or a
// list of either. Without an order it stands at the end.
func readFields(name string, raw json.RawMessage) ([]field, error) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	if len(list) > maxFields {
		return nil, errors.New("it wants too many header fields added")
	}
	var out []field
	for _, one := range list {
		f := field{name: name}
		var x struct {
			Value *string  `json:"value"`
			Order *float64 `json:"order"`
			Index *float64 `json:"index"`
		}
		switch {
		case json.Unmarshal(one, &f.value) == nil:
		case json.Unmarshal(one, &x) == nil && x.Value != nil:
			f.value = *x.Value
			if x.Order == nil {
				x.Order = x.Index
			}
			f.top = x.Order != nil && *x.Order >= 0
		default:
			return nil, fmt.Errorf("it wants the field %.100q added, and its value is none", name)
		}
		f, err := f.sound()
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// readSpamHeader reads spam_header: a value of X-Spam, or an object of fields.
func readSpamHeader(raw json.RawMessage) (list []field, err error) {
	if len(raw) == 0 {
		return nil, nil
	}
	object := map[string]string{}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		object["X-Spam"] = text
	} else if json.Unmarshal(raw, &object) != nil {
		return nil, errors.New("its spam_header is neither a text nor an object of texts")
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		f, err := field{name: name, value: object[name]}.sound()
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// sound unfolds a field's value, and refuses what can't be one.
func (f field) sound() (field, error) {
	if len(f.value) > maxValue {
		return f, fmt.Errorf("it wants a field %.100q of %d bytes added", f.name, len(f.value))
	}
	f.value = unfolded(f.value)
	if err := message.CheckField(f.name, f.value); err != nil {
		return f, fmt.Errorf("it wants the field %.100q added: %w", f.name, err)
	}
	return f, nil
}

// unfolded is a value on one line: an end of line with the blanks behind it is one
// blank.
func unfolded(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\r' || r == '\n' })
	for i, line := range lines {
		lines[i] = strings.Trim(line, " \t")
	}
	return scanner.OneLine(strings.Join(lines, " "))
}

// edit makes the changes on the event.
func (v *verdict) edit(ev *sdk.Event) {
	m := v.Milter
	for _, name := range slices.Sorted(maps.Keys(m.Remove)) {
		n, there := m.Remove[name], 0
		if ev.Header != nil {
			there = ev.Header.Count(name)
		}
		if n < 0 {
			n += there + 1
			if n <= 0 {
				continue
			}
		}
		if there == 0 || n > there {
			continue
		}
		ev.Remove(name, n)
	}
	for _, f := range m.Add {
		if f.top {
			ev.Prepend(f.name, f.value)
		} else {
			ev.Append(f.name, f.value)
		}
	}
	for _, one := range slices.Backward(v.DKIM) {
		ev.Prepend("DKIM-Signature", unfolded(one))
	}
	if m.From != "" {
		ev.SetSender(strings.Trim(m.From, "<> "))
	}
	for _, one := range m.DelRcpt {
		one = strings.Trim(one, "<> ")
		for _, r := range ev.Recipients {
			if strings.EqualFold(r.Address.String(), one) {
				ev.RemoveRecipient(r.Address.String())
				break
			}
		}
	}
	for _, one := range m.AddRcpt {
		ev.AddRecipient(strings.Trim(one, "<> "))
	}
}
