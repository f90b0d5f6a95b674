package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
)

// This file is what actions mean: those of Postfix's access(5) that make sense here.

// noteLater is the note with what is to be done when the message is there.
const noteLater = "policyservice.later"

// maxLater bounds that.
const maxLater = 50

// decide does what an action says. One that nobody knows is a failure, as it is in
// Postfix.
func (s *service) decide(ev *sdk.Event, action string) (sdk.Decision, error) {
	word, text, _ := strings.Cut(action, " ")
	text = strings.TrimSpace(text)
	ev.Result("policyservice", map[string]any{"action": action})
	reason := "the policy server says " + action
	because := func(d sdk.Decision) (sdk.Decision, error) { d.Reason = reason; return d, nil }
	switch word = strings.ToUpper(word); word {
	case "DUNNO", "":
		return sdk.Pass(), nil
	case "OK", "PERMIT":
		if s.OK == "accept" && ev.Current != nil && ev.Current.Ours {
			return because(sdk.Accept())
		}
		return sdk.Pass(), nil
	case "REJECT":
		return because(refusal(hooks.Reject, 0, text))
	case "DEFER":
		return because(refusal(hooks.Defer, 0, text))
	case "DEFER_IF_PERMIT":
		// What is refused anyway, since it is neither ours nor may be relayed, is not put
		// off.
		if ev.Current != nil && !ev.Current.Ours && !ev.Session.Relaying && !ev.Session.Authenticated {
			return sdk.Pass(), nil
		}
		return because(refusal(hooks.Defer, 0, text))
	case "DEFER_IF_REJECT", "WARN", "INFO":
		return sdk.Pass(), nil
	case "PREPEND", "HOLD", "DISCARD", "REDIRECT", "BCC", "FILTER", "QUARANTINE":
		return s.change(ev, word, text, reason)
	}
	if code, err := strconv.Atoi(word); err == nil {
		switch {
		case len(word) == 3 && code >= 400 && code <= 499:
			return because(refusal(hooks.Defer, code, text))
		case len(word) == 3 && code >= 500 && code <= 599:
			return because(refusal(hooks.Reject, code, text))
		case code >= 0:
			return sdk.Pass(), nil // all numbers are OK
		}
	}
	return sdk.Pass(), fmt.Errorf("policy server: the action %.100q is unknown here", action)
}

// refusal is a reply with the text, which may begin with an enhanced status.
func refusal(verb hooks.Verb, code int, text string) sdk.Decision {
	enhanced := ""
	if first, rest, _ := strings.Cut(text, " "); strings.Count(first, ".") == 2 {
		if e, ok := message.ParseEnhanced(first); ok && (e[0] == 5) == (verb == hooks.Reject) {
			enhanced, text = first, strings.TrimSpace(rest)
		}
	}
	d := sdk.Decision{Verb: verb}
	d.Reply = message.NewReply(code, enhanced, "")
	d.Reply.Text = text
	return d
}

// change does what changes the message: now, or when there is one.
func (s *service) change(ev *sdk.Event, word, text, reason string) (sdk.Decision, error) {
	if err := sound(word, text); err != nil {
		return sdk.Pass(), err
	}
	if word == "DISCARD" && ev.Stage != hooks.Rcpt {
		return sdk.Discard(reason), nil
	}
	if word == "QUARANTINE" && ev.Stage == hooks.Message {
		return sdk.Quarantine(reason), nil
	}
	if word == "PREPEND" && ev.Stage == hooks.Message {
		prepend(ev, text)
		return sdk.Pass(), nil
	}
	list, _ := ev.Notes[noteLater].([]any)
	one := strings.TrimSpace(word + " " + text)
	for _, had := range list {
		if had == any(one) {
			return sdk.Pass(), nil
		}
	}
	if len(list) >= maxLater {
		return sdk.Pass(), errors.New("policy server: it wants too much changed")
	}
	ev.SetNote(noteLater, append(append([]any{}, list...), one))
	return sdk.Pass(), nil
}

// sound refuses a change that could not be made later.
func sound(word, text string) error {
	var err error
	switch word {
	case "PREPEND":
		name, value, ok := strings.Cut(text, ":")
		if err = message.CheckField(strings.TrimSpace(name), strings.TrimSpace(value)); !ok {
			err = errors.New("it has no colon")
		}
	case "REDIRECT", "BCC":
		var a message.Address
		if a, err = message.ParseAddress(strings.Trim(text, "<>")); err == nil && a.IsNull() {
			err = message.ErrSyntax
		}
	case "FILTER":
		_, err = route(text)
	}
	if err != nil {
		return fmt.Errorf("policy server: the action %s %.100q can't be done: %w", word, text, err)
	}
	return nil
}

// route is the next hop for Postfix's "smtp:[host]:port" or "lmtp:unix:/path".
func route(text string) (string, error) {
	transport, rest, ok := strings.Cut(text, ":")
	if !ok || transport != "smtp" && transport != "relay" && transport != "lmtp" || rest == "" || strings.ContainsAny(rest, " \t/@") {
		return "", errors.New(`only the transports smtp, relay and lmtp with a host are known, such as "smtp:[192.0.2.7]:10025"`)
	}
	if transport == "relay" {
		transport = "smtp"
	}
	host, port, ok := strings.Cut(rest, "]:")
	if ok {
		host = strings.TrimPrefix(host, "[")
	} else if host, port, ok = strings.Cut(strings.Trim(rest, "[]"), ":"); !ok {
		port = map[string]string{"smtp": "25", "lmtp": "24"}[transport]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q has no host and port", rest)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return transport + "://" + host + ":" + port, nil
}

func prepend(ev *sdk.Event, text string) {
	name, value, _ := strings.Cut(text, ":")
	ev.Prepend(strings.TrimSpace(name), strings.TrimSpace(value))
}

// prependKept adds the fields that were asked for before there was a header section.
func (s *service) prependKept(ev *sdk.Event) {
	list, _ := ev.Notes[noteLater].([]any)
	for _, one := range list {
		if text, ok := strings.CutPrefix(fmt.Sprint(one), "PREPEND "); ok {
			prepend(ev, text)
		}
	}
}

// late does what was kept, at stage queue.
func late(ev *sdk.Event) (sdk.Decision, error) {
	list, _ := ev.Notes[noteLater].([]any)
	if len(list) == 0 {
		return sdk.Pass(), nil
	}
	ev.SetNote(noteLater, nil)
	d := sdk.Pass()
	for _, one := range list {
		word, text, _ := strings.Cut(fmt.Sprint(one), " ")
		reason := "the policy server says " + fmt.Sprint(one)
		switch word {
		case "DISCARD":
			return sdk.Discard(reason), nil
		case "QUARANTINE":
			d = sdk.Quarantine(reason)
		case "HOLD":
			if d.Verb == hooks.Pass {
				d = sdk.Hold(reason)
			}
		case "BCC":
			ev.AddRecipient(strings.Trim(text, "<>"))
		case "REDIRECT":
			to := strings.Trim(text, "<>")
			ev.AddRecipient(to)
			for _, r := range ev.Recipients {
				if !strings.EqualFold(r.Address.String(), to) {
					ev.RemoveRecipient(r.Address.String())
				}
			}
		case "FILTER":
			hop, err := route(text)
			if err != nil {
				return sdk.Pass(), err
			}
			ev.SetRoute("", hop)
		}
	}
	return d, nil
}
