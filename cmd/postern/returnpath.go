package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/auth/batv"
	"github.com/postern-mta/postern/core/auth/srs"
	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
)

// returnOptions are the flags of the commands srs and batv.
type returnOptions struct {
	now  momentFlag
	json bool
}

func (o *returnOptions) flags(c *cobra.Command) {
	c.Flags().Var(&o.now, "now", "what time it is: "+momentHelp)
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
}

func (o *returnOptions) time() time.Time {
	if o.now.IsZero() {
		return time.Now()
	}
	return o.now.Time
}

// returned is what a check says of an address. The verdict is the first word that
// is printed.
type returned struct {
	Verdict string   `json:"verdict"` // valid, expired, forged, malformed or none
	Address string   `json:"address"`
	Reason  string   `json:"reason,omitempty"`
	To      string   `json:"to,omitempty"` // whom mail to it goes to
	Steps   []string `json:"steps"`
}

// print tells the verdict.
func (r *returned) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	line := r.Verdict
	if r.Reason != "" {
		line += ": " + r.Reason
	}
	fmt.Fprintln(out, line)
	for _, s := range r.Steps {
		fmt.Fprintln(out, "  "+s)
	}
	return nil
}

// judged puts an error into the word of a verdict.
func judged(err error) (verdict, reason string) {
	switch {
	case err == nil:
		return "valid", ""
	case errors.Is(err, srs.ErrNotSRS), errors.Is(err, batv.ErrNoTag):
		return "none", err.Error()
	case errors.Is(err, srs.ErrExpired), errors.Is(err, batv.ErrExpired):
		return "expired", err.Error()
	case errors.Is(err, srs.ErrForged), errors.Is(err, batv.ErrForged):
		return "forged", err.Error()
	}
	return "malformed", err.Error()
}

// addressOf reads the argument of a command.
func addressOf(s string) (message.Address, error) {
	a, err := message.ParseAddress(strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">"))
	if err == nil {
		a, err = intake.Canonical(a)
	}
	if err != nil {
		err = usageError{fmt.Errorf("%q: %w", s, err)}
	}
	return a, err
}

// returnCommand makes a command about one address.
func returnCommand(g *global, use, short, long, example string, run func(c *config.Config, a message.Address, now time.Time, o *returnOptions) error) *cobra.Command {
	o := &returnOptions{}
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: expects(1, "an ADDRESS"),
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := addressOf(args[0])
			if err != nil {
				return err
			}
			c, err := g.settled()
			if err != nil {
				return err
			}
			return run(c, a, o.time(), o)
		},
	}
	o.flags(c)
	return c
}

// made is what such a command does that prints another address.
func made(g *global, change func(c *config.Config, a message.Address, now time.Time) (message.Address, error)) func(*config.Config, message.Address, time.Time, *returnOptions) error {
	return func(c *config.Config, a message.Address, now time.Time, _ *returnOptions) error {
		to, err := change(c, a, now)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(g.std.out, to)
		return err
	}
}

func srsCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "srs", Short: "Look at senders that forwarded mail has (Sender Rewriting Scheme)"}
	c.AddCommand(
		returnCommand(g, "check ADDRESS", "Tell whether a rewritten address takes mail, and where that goes",
			"Judges an address by the secrets of [srs], as RCPT does. The first word is the\nverdict: valid, expired, forged, malformed, or none where the address is no\nrewritten one of ours.\n\nExit status: 0 judged, whatever the verdict; 2 wrong use.",
			"  postern srs check SRS0=vmyz=2W=example.org=user@gw.example.net",
			func(c *config.Config, a message.Address, now time.Time, o *returnOptions) error {
				return srsCheck(c, a, now).print(g.std.out, o.json)
			}),
		returnCommand(g, "rewrite ADDRESS", "Print the sender that forwarded mail of a sender has",
			"Prints what next hops of routes with srs = true are told instead of a sender.\n\nExit status: 0 printed, 1 it can't be rewritten, 2 wrong use.",
			"  postern srs rewrite user@example.org",
			made(g, func(c *config.Config, a message.Address, now time.Time) (message.Address, error) {
				r := rewriter(c)
				if r == nil {
					return a, errNoSRS
				}
				return r.Forward(a, now)
			})),
	)
	return c
}

var (
	errNoSRS  = errors.New(`no secret is configured; write a section [srs] with secret_file = "srs.secret"`)
	errNoBATV = errors.New(`no key is configured; write a section [batv] with domain = ["example.net"] and secret_file = "batv.keys"`)
)

func srsCheck(c *config.Config, a message.Address, now time.Time) *returned {
	out := &returned{Address: a.String()}
	r := rewriter(c)
	if r == nil {
		out.Verdict, out.Reason = "none", errNoSRS.Error()
		return out
	}
	p, err := r.Inspect(a.Local, now)
	out.Verdict, out.Reason = judged(err)
	say := func(format string, args ...any) { out.Steps = append(out.Steps, fmt.Sprintf(format, args...)) }
	if p.Form != "" {
		say("form: %s", p.Form)
	}
	if p.Hash != "" {
		if p.Secret >= 0 {
			say("hash: %s, by secret %d of %d", p.Hash, p.Secret+1, len(c.SRS.Secrets))
		} else {
			say("hash: %s", p.Hash)
		}
	}
	if p.Stamp != "" && !p.Made.IsZero() {
		say("day: %s, %s, which counts until %s", p.Stamp, p.Made.Format(time.DateOnly), p.Made.Add(c.SRS.MaxAge).Format(time.DateOnly))
	} else if p.Stamp != "" {
		say("day: %s", p.Stamp)
	}
	if err != nil {
		return out
	}
	if a.Domain != r.Domain() {
		out.Verdict, out.Reason = "none", fmt.Sprintf("rewritten addresses of ours are at %s", r.Domain())
		return out
	}
	to, err := r.Reverse(a, now)
	if err != nil {
		out.Verdict, out.Reason = judged(err)
		return out
	}
	out.To = to.String()
	say("mail to it goes to %s", to.Path())
	return out
}

func batvCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "batv", Short: "Look at senders with a tag (Bounce Address Tag Validation)"}
	c.AddCommand(
		returnCommand(g, "check ADDRESS", "Tell whether a bounce to an address is one of a message from it",
			"Judges the tag of an address by the keys of [batv], as RCPT does for mail from\nthe null sender. The first word is the verdict: valid, expired, forged, or none\nwhere there is no tag.\n\nExit status: 0 judged, whatever the verdict; 2 wrong use.",
			"  postern batv check prvs=0269e4da22=user@example.net",
			func(c *config.Config, a message.Address, now time.Time, o *returnOptions) error {
				return batvCheck(c, a, now).print(g.std.out, o.json)
			}),
		returnCommand(g, "tag ADDRESS", "Print an address with a tag of today",
			"Prints what other servers are told as the sender of mail from an address.\n\nExit status: 0 printed, 1 it can't be tagged, 2 wrong use.",
			"  postern batv tag user@example.net",
			made(g, func(c *config.Config, a message.Address, now time.Time) (message.Address, error) {
				t := tagger(c)
				if t == nil {
					return a, errNoBATV
				}
				return t.Sign(a, now)
			})),
	)
	return c
}

func batvCheck(c *config.Config, a message.Address, now time.Time) *returned {
	out := &returned{Address: a.String()}
	t := tagger(c)
	if t == nil {
		out.Verdict, out.Reason = "none", errNoBATV.Error()
		return out
	}
	to, err := t.Check(a, now)
	out.Verdict, out.Reason = judged(err)
	if !batv.Is(a.Local) {
		return out
	}
	tag := a.Local[len("prvs="):]
	out.Steps = append(out.Steps, fmt.Sprintf("key: %c", tag[0]), fmt.Sprintf("day: %s, which counts until the end of %s", tag[1:4], t.Last(a.Local, now).Add(-time.Second).Format(time.DateOnly)))
	if err == nil {
		out.To = to.String()
		out.Steps = append(out.Steps, fmt.Sprintf("mail to it goes to %s", to.Path()))
	}
	return out
}
