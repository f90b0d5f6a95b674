package policytest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// entryKeys are the keys of [[policy]] that the third argument of t:policy may hold.
const entryKeys = "name, mode, when, deny_at, immune, on_failure, timeout, sample, every"

// entryOf sets what the keys of a [[policy]] entry say.
func entryOf(e *hooks.Entry, t map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(t)) {
		v := t[key]
		s, isText := v.(string)
		var err error
		switch key {
		case "name":
			e.Name = s
		case "mode":
			modes := map[string]hooks.Mode{"enforce": hooks.Enforce, "shadow": hooks.Shadow, "off": hooks.Off}
			var ok bool
			if e.Mode, ok = modes[s]; !ok {
				err = errors.New(`write "enforce", "shadow" or "off"`)
			}
		case "on_failure":
			if e.FailOpen = s == "pass"; s != "pass" && s != "defer" {
				err = errors.New(`write "defer" or "pass"`)
			}
		case "deny_at":
			var ok bool
			if e.DenyAt, ok = hooks.ParseStage(s); !ok || !slices.Contains(hooks.DenyStages(), e.DenyAt) {
				err = fmt.Errorf("write one of the stages %v", hooks.DenyStages())
			}
		case "timeout":
			e.Timeout, err = spanOf([]any{v})
		case "every":
			e.Every, err = spanOf([]any{v})
		case "sample":
			e.Sample, isText = v.(float64)
		case "immune":
			e.Immune, err = textList(v)
		case "when":
			err = whenOf(&e.When, v)
		default:
			return fmt.Errorf("policy: %q is none of %s%s", key, entryKeys, lua.DidYouMean(key, strings.Split(entryKeys, ", ")))
		}
		if err == nil && !isText && (key == "name" || key == "sample") {
			err = errors.New("it has a wrong type")
		}
		if err != nil {
			return fmt.Errorf("policy: %s: %w", key, err)
		}
	}
	return nil
}

const whenKeys = "listener, client, client_not, rcpt_domain, sender_domain, authenticated"

func whenOf(w *hooks.When, v any) error {
	t, ok := v.(map[string]any)
	if !ok {
		return errors.New("a table is expected")
	}
	lists := map[string]*[]string{"listener": &w.Listener, "rcpt_domain": &w.RcptDomain, "sender_domain": &w.SenderDomain}
	nets := map[string]*[]netip.Prefix{"client": &w.Client, "client_not": &w.ClientNot}
	for _, key := range slices.Sorted(maps.Keys(t)) {
		if key == "authenticated" {
			b, ok := t[key].(bool)
			if !ok {
				return errors.New("authenticated is true or false")
			}
			w.Authenticated = &b
			continue
		}
		if lists[key] == nil && nets[key] == nil {
			return fmt.Errorf("%q is none of %s%s", key, whenKeys, lua.DidYouMean(key, strings.Split(whenKeys, ", ")))
		}
		list, err := textList(t[key])
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if lists[key] != nil {
			*lists[key] = list
			continue
		}
		for _, s := range list {
			p, err := netip.ParsePrefix(s)
			if ip, isAddr := netip.ParseAddr(s); isAddr == nil {
				p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			*nets[key] = append(*nets[key], p)
		}
	}
	return nil
}
