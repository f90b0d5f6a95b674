// Command spamassassin is a plugin that asks a SpamAssassin daemon (spamd) about
// each message and adds its points to the score.
//
//	[[policy]]
//	use     = "spamassassin"
//	address = "127.0.0.1:783"
//	reject  = 15
//
// The policy is in this file, the client of spamd's protocol in spamc.go. spamd
// gets the message as it was received, with the trace fields on top that it
// judges the client and the sender by, and answers with its points and the names
// of its rules; what it would make of the message is never taken over.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/sdk"
)

const (
	maxNames = 500 // bytes of rule names in the reason of a score
	maxStars = 50
	askTime  = 60 * time.Second // for one message, where the entry says nothing else
)

type spamassassin struct {
	Address string   `postern:"address" doc:"of spamd: host and port, or the path of its unix socket" default:"127.0.0.1:783"`
	User    string   `postern:"user" doc:"account whose preferences spamd is to use; empty: its default"`
	MaxSize sdk.Size `postern:"max_size" doc:"messages above this size are not shown to spamd" default:"500KiB"`
	Reject  float64  `postern:"reject" doc:"spamd's points from which a message is refused at once; 0: never" default:"0"`
	Header  bool     `postern:"header" doc:"whether X-Spam-Status, X-Spam-Score, X-Spam-Level and, for spam, X-Spam-Flag are added" default:"true"`
	Subject string   `postern:"subject" doc:"put before the subject of what spamd calls spam; empty: nothing"`

	network string
}

// Prepare checks the settings.
func (s *spamassassin) Prepare(context.Context) error {
	var all []error
	var err error
	if s.network, s.Address, err = place(s.Address); err != nil {
		all = append(all, sdk.Problem{Key: "address", Text: err.Error()})
	}
	if len(s.User) > 64 || strings.ContainsFunc(s.User, func(r rune) bool { return r <= ' ' || r > '~' }) {
		all = append(all, sdk.Problem{Key: "user", Text: fmt.Sprintf("%.80q is not the name of an account; write one such as \"mail\"", s.User)})
	}
	if s.MaxSize <= 0 {
		all = append(all, sdk.Problem{Key: "max_size", Text: `must be at least one byte; write a size such as "500KiB"`})
	}
	if s.Reject < 0 || math.IsNaN(s.Reject) || math.IsInf(s.Reject, 0) {
		all = append(all, sdk.Problem{Key: "reject", Text: "must not be below 0; write points such as 15, or 0 for never"})
	}
	if strings.ContainsFunc(s.Subject, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		all = append(all, sdk.Problem{Key: "subject", Text: "holds control characters; write a text such as \"[SPAM]\""})
	}
	return errors.Join(all...)
}

// Healthy tells whether spamd is there.
func (s *spamassassin) Healthy(ctx context.Context) error {
	return s.client().ping(ctx)
}

func (s *spamassassin) client() client {
	return client{network: s.network, address: s.Address, user: s.User}
}

// Headers removes what only a scanner on this side may say. It is a stage of its
// own, so that forged fields also leave a message that spamd never judged.
func (s *spamassassin) Headers(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	removed := map[string]bool{}
	for field := range ev.Header.Fields() {
		name := strings.ToLower(field.Name)
		if strings.HasPrefix(name, "x-spam-") && !removed[name] {
			removed[name] = true
			ev.Remove(field.Name, 0)
		}
	}
	return sdk.Pass(), nil
}

// Message asks spamd. An error of spamd's is the policy's failure.
func (s *spamassassin) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if ev.Body.Size() > int64(s.MaxSize) {
		ev.Result("spamassassin", map[string]any{"skipped": "size"})
		return sdk.Pass(), nil
	}
	trace := trace(ctx, ev, time.Now())
	v, err := s.client().ask(ctx, int64(len(trace))+ev.Body.Size(), io.MultiReader(bytes.NewReader(trace), message.NewReader(ev.Body)))
	if err != nil {
		return sdk.Pass(), err
	}
	rules := make([]any, len(v.rules))
	for i, rule := range v.rules {
		rules[i] = rule
	}
	ev.Result("spamassassin", map[string]any{"points": v.points, "required": v.required, "spam": v.spam, "rules": rules})
	if v.points != 0 {
		ev.Score("spamassassin", v.points, short(v.rules))
	}
	if s.Reject > 0 && v.points >= s.Reject {
		return sdk.Reject("5.7.1", "Refused: SpamAssassin gives the message %.4g points, the limit is %.4g", v.points, s.Reject), nil
	}
	s.mark(ev, v)
	return sdk.Pass(), nil
}

// trace is what spamd needs to know of the transaction: the envelope's sender, and
// the Received field that the message is going to have.
func trace(ctx context.Context, ev *sdk.Event, now time.Time) []byte {
	c := ev.Session
	hop := message.Hop{Helo: c.Helo, Host: c.Host(ctx), IP: c.Client.Addr().Unmap(), By: "postern", With: "SMTP", ID: ev.ID, At: now}
	if c.Extended {
		hop.With = "ESMTP"
	}
	return append([]byte("X-Envelope-From: <"+ev.Sender.String()+">\r\n"), hop.Received()...)
}

// mark edits the header section of a message that is let in.
func (s *spamassassin) mark(ev *sdk.Event, v verdict) {
	if s.Subject != "" && v.spam {
		old, _ := ev.Header.Get("Subject")
		if !strings.HasPrefix(old, s.Subject) {
			ev.Replace("Subject", strings.TrimSpace(s.Subject+" "+old))
		}
	}
	if !s.Header {
		return
	}
	word := "No"
	if v.spam {
		word = "Yes"
		ev.Prepend("X-Spam-Flag", "YES")
	}
	if n := int(min(max(v.points, 0), maxStars)); n > 0 {
		ev.Prepend("X-Spam-Level", strings.Repeat("*", n))
	}
	ev.Prepend("X-Spam-Score", fmt.Sprintf("%.1f", v.points))
	ev.Prepend("X-Spam-Status", fmt.Sprintf("%s, score=%.1f required=%.1f tests=%s", word, v.points, v.required, folded(v.rules)))
}

// folded joins the rules with commas and leaves a space for the fold here and
// there, as SpamAssassin does.
func folded(rules []string) string {
	if len(rules) == 0 {
		return "none"
	}
	var b strings.Builder
	line := 0
	for i, rule := range rules {
		if i > 0 {
			b.WriteByte(',')
			if line += len(rule) + 1; line > 60 {
				b.WriteByte(' ')
				line = len(rule)
			}
		}
		b.WriteString(rule)
	}
	return b.String()
}

// short is the rules as the reason of a score, cut where there are too many.
func short(rules []string) string {
	text := strings.Join(rules, ",")
	if len(text) > maxNames {
		text = text[:maxNames] + "..."
	}
	return text
}

func main() {
	sdk.Serve(sdk.Policy{
		Name: "spamassassin", Version: "1.0", About: "Adds the points that a SpamAssassin daemon gives a message.",
		Handler: &spamassassin{}, Access: sdk.Whole(),
		Host: true, OnFailure: "pass", Immune: []string{"relaying", "authenticated"}, Timeout: askTime,
	})
}
