// Command rspamd is a plugin that asks rspamd about each message and does what it
// says.
//
//	[[policy]]
//	use     = "rspamd"
//	address = "127.0.0.1:11333"
//
// The policy is in this file, the client of rspamd's HTTP protocol in check.go, and
// the header edits that a reply asks for in milter.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

const (
	maxNames = 500 // bytes of symbols in the reason of a score
	askTime  = 60 * time.Second
)

type rspamd struct {
	Address    string        `postern:"address" doc:"of rspamd's normal or proxy worker: host and port, https://host:port, or the path of a unix socket; several with commas: the next one is asked where one fails" default:"127.0.0.1:11333"`
	Password   string        `postern:"password,secret" doc:"that the worker asks for; empty: none"`
	Controller string        `postern:"controller" doc:"address of the controller worker, for postern quarantine learn; empty: nothing is taught" default:"127.0.0.1:11334"`
	Secret     string        `postern:"controller_password,secret" doc:"of the controller worker; empty: none"`
	Connect    time.Duration `postern:"connect_timeout" doc:"for a connection to one rspamd" default:"5s"`
	Scan       time.Duration `postern:"scan_timeout" doc:"for the verdict of one rspamd" default:"25s"`
	MaxSize    sdk.Size      `postern:"max_size" doc:"messages above this size are not shown to rspamd" default:"20MiB"`
	SettingsID string        `postern:"settings_id" doc:"id of the settings of rspamd's that are to apply; empty: rspamd chooses"`

	Reject     string `postern:"on_reject" enum:"reject, quarantine, discard, pass" doc:"what follows rspamd's action reject" default:"reject"`
	SoftReject string `postern:"on_soft_reject" enum:"defer, pass" doc:"what follows soft reject" default:"defer"`
	Greylist   string `postern:"on_greylist" enum:"pass, defer" doc:"what follows greylist; rspamd's own greylisting says soft reject where it wants a deferral" default:"pass"`
	Quarantine string `postern:"on_quarantine" enum:"quarantine, reject, pass" doc:"what follows quarantine" default:"quarantine"`
	Discard    string `postern:"on_discard" enum:"discard, quarantine, reject, pass" doc:"what follows discard" default:"discard"`

	Score   bool   `postern:"score" doc:"whether rspamd's score counts in ours" default:"true"`
	Edits   bool   `postern:"edits" doc:"whether header fields, DKIM signatures, the sender and recipients are changed as rspamd says" default:"true"`
	Mark    string `postern:"add_headers" enum:"always, spam, never" doc:"when X-Rspamd-Score, X-Rspamd-Action and X-Rspamd-Symbols are added; X-Spam: Yes is, but for never, where the action is add header or rewrite subject" default:"spam"`
	Subject string `postern:"subject" doc:"a subject for rewrite subject where rspamd gives none; %s is the one that it had" default:"*** SPAM *** %s"`

	workers, controllers *scanner.Group
}

// Prepare checks the settings.
func (s *rspamd) Prepare(context.Context) error {
	var all []error
	group := func(key, text string) *scanner.Group {
		list, err := scanner.ParseList(text)
		if err != nil {
			all = append(all, sdk.Problem{Key: key, Text: err.Error()})
		}
		return &scanner.Group{Name: "rspamd", Servers: list, Connect: s.Connect, Scan: s.Scan}
	}
	s.workers = group("address", s.Address)
	if s.Controller != "" {
		s.controllers = group("controller", s.Controller)
	}
	if s.MaxSize <= 0 {
		all = append(all, sdk.Problem{Key: "max_size", Text: `must be at least one byte; write a size such as "20MiB"`})
	}
	for key, text := range map[string]string{"settings_id": s.SettingsID, "subject": s.Subject, "password": s.Password, "controller_password": s.Secret} {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			all = append(all, sdk.Problem{Key: key, Text: "holds control characters; write one line"})
		}
	}
	return errors.Join(all...)
}

// Healthy tells whether every rspamd is there.
func (s *rspamd) Healthy(ctx context.Context) error {
	return client{s.workers, s.Password}.ping(ctx)
}

// ours are the fields that only a scanner on this side may write.
func ours() []string {
	return []string{"X-Spam", "X-Rspamd-Score", "X-Rspamd-Action", "X-Rspamd-Symbols"}
}

// Headers removes them from what the client sent, so that forged ones also leave a
// message that rspamd never judged.
func (s *rspamd) Headers(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	for _, name := range ours() {
		if ev.Header.Count(name) > 0 {
			ev.Remove(name, 0)
		}
	}
	return sdk.Pass(), nil
}

// Message asks rspamd. An error of rspamd's is the policy's failure.
func (s *rspamd) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if ev.BodySize > int64(s.MaxSize) {
		ev.Result("rspamd", map[string]any{"skipped": "size"})
		return sdk.Pass(), nil
	}
	v, err := client{s.workers, s.Password}.check(ctx, s.facts(ctx, ev), ev.BodySize, scanner.NewMessage(ev.Stream))
	if err != nil {
		return sdk.Pass(), err
	}
	// A message that rspamd rejects at once, such as GTUBE, counts as skipped, too.
	if v.Skipped && v.Action == "no action" {
		ev.Result("rspamd", map[string]any{"skipped": "rspamd", "action": v.Action})
		return sdk.Pass(), nil
	}
	symbols := map[string]any{}
	for name, one := range v.Symbols {
		symbols[name] = one.Score
	}
	ev.Result("rspamd", map[string]any{"score": v.Score, "required": v.Required, "action": v.Action, "symbols": symbols})
	if s.Score && v.Score != 0 {
		ev.Score("rspamd", v.Score, v.short(maxNames))
	}
	d := s.decide(v)
	if d.Verb != hooks.Pass && d.Verb != hooks.Quarantine {
		return d, nil
	}
	if s.Edits {
		v.edit(ev)
	}
	s.mark(ev, v)
	return d, nil
}

// decide is the decision that an action stands for.
func (s *rspamd) decide(v *verdict) sdk.Decision {
	word := ""
	if !v.Milter.NoAction {
		switch v.Action {
		case "reject":
			word = s.Reject
			if asked := v.Milter.Reject; word == "reject" && (asked == "discard" || asked == "quarantine") {
				word = asked
			}
		case "soft reject":
			word = s.SoftReject
		case "greylist":
			word = s.Greylist
		case "quarantine":
			word = s.Quarantine
		case "discard":
			word = s.Discard
		}
	}
	reason := fmt.Sprintf("rspamd says %s: %.4g of %.4g, %s", v.Action, v.Score, v.Required, v.short(maxNames))
	said := v.message()
	switch word {
	case "reject":
		if said == "" {
			said = "Refused: rspamd takes the message for spam"
		}
		return because(sdk.Reject("5.7.1", "%s", said), reason)
	case "defer":
		if said == "" {
			said = "Deferred, please try again later"
		}
		return because(sdk.Defer("4.7.1", "%s", said), reason)
	case "quarantine":
		return sdk.Quarantine(reason)
	case "discard":
		return sdk.Discard(reason)
	}
	return sdk.Pass()
}

func because(d sdk.Decision, reason string) sdk.Decision {
	d.Reason = reason
	return d
}

// mark says in the header section what rspamd thinks.
func (s *rspamd) mark(ev *sdk.Event, v *verdict) {
	spam := !v.Milter.NoAction && (v.Action == "add header" || v.Action == "rewrite subject")
	if v.Action == "rewrite subject" && !v.Milter.NoAction {
		if subject := v.Subject; subject != "" {
			ev.Replace("Subject", scanner.OneLine(subject))
		} else if s.Subject != "" {
			old := ""
			if ev.Header != nil {
				old, _ = ev.Header.Get("Subject")
			}
			ev.Replace("Subject", strings.TrimSpace(strings.ReplaceAll(s.Subject, "%s", scanner.OneLine(old))))
		}
	}
	if s.Mark == "never" {
		return
	}
	if spam || s.Mark == "always" || v.Action == "quarantine" {
		names := slices.Sorted(maps.Keys(v.Symbols))
		for i, name := range names {
			names[i] = fmt.Sprintf("%s(%.2f)", name, v.Symbols[name].Score)
		}
		if text := strings.Join(names[:min(len(names), 200)], " "); text != "" {
			ev.Prepend("X-Rspamd-Symbols", text)
		}
		ev.Prepend("X-Rspamd-Action", v.Action)
		ev.Prepend("X-Rspamd-Score", fmt.Sprintf("%.2f / %.2f", v.Score, v.Required))
	}
	if spam {
		if len(v.Milter.SpamHeader) == 0 {
			ev.Prepend("X-Spam", "Yes")
			return
		}
		for _, one := range v.Milter.SpamHeader {
			ev.Prepend(one.name, one.value)
		}
	}
}

// Learn hands a message to the controller worker.
func (s *rspamd) Learn(ctx context.Context, l *sdk.Lesson) (string, error) {
	switch {
	case s.controllers == nil:
		return "", sdk.ErrNoLearner
	case l.Size > int64(s.MaxSize):
		return "", fmt.Errorf("rspamd: the message has %d bytes, and max_size is %d", l.Size, int64(s.MaxSize))
	}
	return client{s.controllers, s.Secret}.learn(ctx, l)
}

func policy() sdk.Policy {
	return sdk.Policy{
		Name: "rspamd", Version: "1.0", About: "Asks rspamd about each message, and does what it says.",
		Handler: &rspamd{}, Access: sdk.Stream(),
		Host: true, OnFailure: "pass", Immune: []string{"relaying", "authenticated"}, Timeout: askTime,
	}
}

func main() { sdk.Serve(policy()) }
