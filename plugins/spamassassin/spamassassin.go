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
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

const (
	maxNames   = 500 // bytes of rule names in the reason of a score
	maxStars   = 50
	maxRenamed = 50               // fields that a client can have us keep
	askTime    = 60 * time.Second // for one message, where the entry says nothing else
)

type spamassassin struct {
	Address string        `postern:"address" doc:"of spamd: host and port, or the path of its unix socket; several with commas: the next one is asked where one fails" default:"127.0.0.1:783"`
	Connect time.Duration `postern:"connect_timeout" doc:"for a connection to one spamd" default:"5s"`
	Scan    time.Duration `postern:"scan_timeout" doc:"for the verdict of one spamd" default:"50s"`
	User    string        `postern:"user" doc:"account whose preferences spamd is to use; empty: its default"`
	UserOf  string        `postern:"user_of" enum:"fixed, recipient, local-part" doc:"whose preferences: those of user, or those of the recipient's address or of its local part, where a message has one recipient" default:"fixed"`
	MaxSize sdk.Size      `postern:"max_size" doc:"messages above this size are not shown to spamd" default:"500KiB"`
	Reject  float64       `postern:"reject" doc:"spamd's points from which a message is refused at once; 0: never" default:"0"`
	Old     string        `postern:"old_headers" enum:"remove, rename, keep" doc:"what becomes of X-Spam- fields that the client sent; renamed they are X-Old-Spam-" default:"remove"`
	Header  bool          `postern:"header" doc:"whether X-Spam-Status, X-Spam-Score, X-Spam-Level and, for spam, X-Spam-Flag are added" default:"true"`
	Subject string        `postern:"subject" doc:"put before the subject of what spamd calls spam; empty: nothing"`

	spamd *scanner.Group
}

// Prepare checks the settings.
func (s *spamassassin) Prepare(context.Context) error {
	var all []error
	list, err := scanner.ParseList(s.Address)
	if err != nil {
		all = append(all, sdk.Problem{Key: "address", Text: err.Error()})
	}
	for _, one := range list {
		if one.TLS {
			all = append(all, sdk.Problem{Key: "address", Text: fmt.Sprintf("%q: spamd speaks its own protocol; write a host and port", one)})
		}
	}
	s.spamd = &scanner.Group{Name: "spamd", Servers: list, Connect: s.Connect, Scan: s.Scan}
	if !isUser(s.User) {
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
	return s.client(nil).ping(ctx)
}

// isUser tells whether spamd can be told of a user.
func isUser(name string) bool {
	return len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

// client asks for the user that mail to these recipients is judged for.
func (s *spamassassin) client(to []message.Address) client {
	c := client{s.spamd, s.User}
	if len(to) != 1 {
		return c
	}
	user := ""
	switch s.UserOf {
	case "recipient":
		user = to[0].String()
	case "local-part":
		user = to[0].Local
	}
	if user != "" && isUser(user) {
		c.user = user
	}
	return c
}

// Headers removes, or renames, what only a scanner on this side may say. It is a stage of its
// own, so that forged fields also leave a message that spamd never judged.
func (s *spamassassin) Headers(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if s.Old == "keep" {
		return sdk.Pass(), nil
	}
	removed, renamed := map[string]bool{}, 0
	for field := range ev.Header.Fields() {
		name := strings.ToLower(field.Name)
		if !strings.HasPrefix(name, "x-spam-") {
			continue
		}
		if !removed[name] {
			removed[name] = true
			ev.Remove(field.Name, 0)
		}
		if renamed++; s.Old == "rename" && renamed <= maxRenamed {
			ev.Append("X-Old-Spam-"+field.Name[len("x-spam-"):], field.Value())
		}
	}
	return sdk.Pass(), nil
}

// Message asks spamd. An error of spamd's is the policy's failure.
func (s *spamassassin) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if ev.BodySize > int64(s.MaxSize) {
		ev.Result("spamassassin", map[string]any{"skipped": "size"})
		return sdk.Pass(), nil
	}
	to := make([]message.Address, len(ev.Recipients))
	for i, r := range ev.Recipients {
		to[i] = r.Address
	}
	v, err := s.client(to).ask(ctx, trace(ctx, ev), ev.BodySize, scanner.NewMessage(ev.Stream))
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

// Learn tells spamd what a person said of a message, of those that it is shown.
func (s *spamassassin) Learn(ctx context.Context, l *sdk.Lesson) (string, error) {
	if l.Size > int64(s.MaxSize) {
		return "", fmt.Errorf("spamassassin: the message has %d bytes, and max_size is %d", l.Size, int64(s.MaxSize))
	}
	known, err := s.client(l.Recipients).tell(ctx, l.Spam, l.Size, scanner.NewMessage(l.Message))
	if known {
		return "known already", err
	}
	return "", err
}

// trace is what spamd needs to know of the transaction: the envelope's sender, and
// the Received field that the message is going to have.
func trace(ctx context.Context, ev *sdk.Event) []byte {
	c := ev.Session
	hop := message.Hop{Helo: c.Helo, Host: c.Host(ctx), IP: c.Client.Addr().Unmap(), By: "postern", With: "SMTP", ID: ev.ID, At: ev.Now}
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

func policy() sdk.Policy {
	return sdk.Policy{
		Name: "spamassassin", Version: "1.0", About: "Adds the points that a SpamAssassin daemon gives a message.",
		Handler: &spamassassin{}, Access: sdk.Stream(),
		Host: true, OnFailure: "pass", Immune: []string{"relaying", "authenticated"}, Timeout: askTime,
	}
}

func main() { sdk.Serve(policy()) }
