package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// sample is what `plugin run` shows a plugin.
type sample struct {
	stages   []string
	settings []string // key=value
	client   string
	helo     string
	from     string
	to       []string
	file     string // with the message; "": one of ours
	json     bool
}

func pluginRunCommand(g *global) *cobra.Command {
	s := sample{}
	c := &cobra.Command{
		Use:   "run PATH [MESSAGE.eml]",
		Short: "Start a plugin and ask it about a sample",
		Long: `Starts the executable with the settings that --set gives, asks it at each of its
stages (or those of --stage) about a session with one message, prints what it
decides and edits, and ends it. Edits are made, so that later stages see them; a
refusal does not end the run. Its memory is empty at first and gone afterwards.
Lines that it logs are shown on standard error.

  postern plugin run plugins.d/words --set 'words=["casino"]' mail.eml

The value of a setting is JSON, or else a text. Without a message a short one is
made up.

Exit status: 0 it answered everywhere, 1 it failed somewhere or does not take its
settings, 2 wrong use.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				s.file = args[1]
			}
			return pluginRun(cmd.Context(), g, args[0], s)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&s.stages, "stage", nil, "ask at this stage alone; may be given again")
	f.StringArrayVar(&s.settings, "set", nil, "a setting, `key=value`; may be given again")
	f.StringVar(&s.client, "client", "192.0.2.1", "`address` of the client")
	f.StringVar(&s.helo, "helo", "client.example", "what the client says in EHLO")
	f.StringVar(&s.from, "from", "sender@client.example", "the sender; empty: the null path")
	f.StringSliceVar(&s.to, "to", []string{"recipient@example.net"}, "a recipient; may be given again")
	f.BoolVar(&s.json, "json", false, "print JSON")
	return c
}

func pluginRun(ctx context.Context, g *global, path string, s sample) error {
	if err := checkExecutable(path); err != nil {
		return err
	}
	settings, err := readSettings(s.settings)
	if err != nil {
		return exitError{exitUsage, err}
	}
	tx, err := s.transaction()
	if err != nil {
		return exitError{exitUsage, err}
	}
	p, problems, err := plugin.Load(path, plugin.Options{
		Settings: settings, TempDir: shortTemp(), Log: slog.New(slog.NewTextHandler(g.std.err, nil)),
	})
	if err != nil {
		return err
	}
	for _, one := range problems {
		fmt.Fprintf(g.std.err, "%s: %s\n", one.Key, one.Text)
	}
	if len(problems) > 0 {
		return exitError{exitNo, fmt.Errorf("%s in the settings", count(len(problems), "problem"))}
	}
	defer p.Close()
	stages, err := s.choose(p.Stages())
	if err != nil {
		return exitError{exitUsage, err}
	}
	runs := s.ask(ctx, p, stages, tx)
	if s.json {
		err = json.NewEncoder(g.std.out).Encode(runs)
	} else {
		for _, one := range runs {
			fmt.Fprint(g.std.out, one)
		}
	}
	if failed := slices.ContainsFunc(runs, func(r sampleRun) bool { return r.Error != "" }); failed && err == nil {
		return exitError{exitNo, fmt.Errorf("%s failed", path)}
	}
	return err
}

// readSettings reads key=value, as the TOML decoder would give it.
func readSettings(list []string) (map[string]any, error) {
	out := map[string]any{}
	for _, one := range list {
		key, text, ok := strings.Cut(one, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--set %q is not key=value", one)
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		out[key] = wholeNumbers(value)
	}
	return out, nil
}

// wholeNumbers makes integers of JSON's numbers that are.
func wholeNumbers(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = wholeNumbers(v[k])
		}
	}
	return v
}

const sampleText = "From: sender@client.example\r\nTo: recipient@example.net\r\nSubject: hello\r\nMessage-ID: <1@client.example>\r\n\r\nHello.\r\n"

// transaction is the sample, with its message.
func (s sample) transaction() (*hooks.Transaction, error) {
	client, err := netip.ParseAddr(s.client)
	if err != nil {
		return nil, fmt.Errorf("--client: %w", err)
	}
	now := time.Now()
	tx := hooks.NewTransaction(&hooks.Session{
		ID: "SAMPLE1", Listener: "mx", Protocol: "smtp", Client: netip.AddrPortFrom(client, 4711), Local: netip.MustParseAddrPort("192.0.2.25:25"),
		Started: now, Helo: s.helo, Extended: true,
	}, "SAMPLE2")
	if tx.Sender, err = message.ParseSender(s.from); err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	for _, one := range s.to {
		a, err := message.ParseAddress(one)
		if err != nil || a.IsNull() {
			return nil, fmt.Errorf("--to %q is no address", one)
		}
		tx.Recipients = append(tx.Recipients, &hooks.Recipient{Address: a, Given: a, Ours: true})
	}
	text := []byte(sampleText)
	if s.file != "" {
		if text, err = os.ReadFile(s.file); err != nil {
			return nil, err
		}
		text = []byte(strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n", "\r\n"))
	}
	n, _ := message.HeaderLen(text)
	tx.Header, tx.Body, tx.Size = message.ParseHeader(text[:n]), message.Bytes(text), int64(len(text))
	return tx, nil
}

// choose is the stages to ask at, in the order of the table.
func (s sample) choose(has []hooks.Stage) ([]hooks.Stage, error) {
	if len(s.stages) == 0 {
		return has, nil
	}
	var out []hooks.Stage
	for _, name := range s.stages {
		at, ok := hooks.ParseStage(name)
		if !ok {
			return nil, fmt.Errorf("there is no stage %q", name)
		}
		if !slices.Contains(has, at) {
			return nil, fmt.Errorf("the plugin does not ask for stage %q, but for %v", name, has)
		}
		out = append(out, at)
	}
	return out, nil
}

// sampleRun is one call and its answer.
type sampleRun struct {
	Stage     string   `json:"stage"`
	Recipient string   `json:"recipient,omitempty"`
	Decision  string   `json:"decision"`
	Reply     string   `json:"reply,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	Error     string   `json:"error,omitempty"`
	Edits     []string `json:"edits"`
	Millis    float64  `json:"duration_ms"`
}

// String is the run on a line, with one for each edit.
func (r sampleRun) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %s", r.Stage, r.Decision)
	for _, more := range []string{r.Reply, r.Reason} {
		if more != "" {
			b.WriteString(" " + more)
		}
	}
	if r.Recipient != "" {
		b.WriteString("  <" + r.Recipient + ">")
	}
	fmt.Fprintf(&b, "  (%.1f ms)\n", r.Millis)
	if r.Error != "" {
		b.WriteString("           failed: " + r.Error + "\n")
	}
	for _, e := range r.Edits {
		b.WriteString("           " + e + "\n")
	}
	return b.String()
}

// ask asks at every stage, with what that stage has. Edits are made on tx.
func (s sample) ask(ctx context.Context, p *plugin.Plugin, stages []hooks.Stage, tx *hooks.Transaction) []sampleRun {
	kept := &sampleTrace{Handler: p}
	conn := hooks.NewTransaction(tx.Session, "")
	header, body := tx.Header, tx.Body
	for _, at := range stages {
		kept.at = at
		about := tx
		if scope := at.Row().Scope; scope == hooks.OfConnection || scope == hooks.OfPolicy {
			about = conn
		}
		furnish(at, about)
		if about == tx && at < hooks.Headers { // it has not come yet
			tx.Header, tx.Body = nil, nil
		}
		kept.run(ctx, about)
		if about == tx && at < hooks.Headers {
			tx.Header, tx.Body = header, body
		}
	}
	return kept.runs
}

// furnish adds what a stage has beside the session and the message.
func furnish(at hooks.Stage, tx *hooks.Transaction) {
	tx.Login, tx.Command, tx.Refusal, tx.Try, tx.Notice, tx.Capabilities = nil, nil, nil, nil, nil, nil
	switch at {
	case hooks.Helo:
		tx.Capabilities = []string{"PIPELINING", "8BITMIME", "SIZE 52428800"}
	case hooks.Auth:
		tx.Login = &hooks.Login{Mechanism: "PLAIN", User: "jane", Password: "secret"}
	case hooks.Command:
		tx.Command = &hooks.Line{Verb: "VRFY", Argument: "jane"}
	case hooks.Deny:
		tx.Refusal = &hooks.Refusal{Stage: hooks.Rcpt, Policy: "sample", Reply: message.NewReply(550, "5.1.1", "No such user")}
	case hooks.Route, hooks.Attempt:
		tx.Try = &hooks.Try{Attempt: 1, NextHop: "smtp://mx.example.net:25"}
	case hooks.Delivered:
		tx.Try = &hooks.Try{Attempt: 1, NextHop: "smtp://mx.example.net:25", Peer: "mx.example.net [192.0.2.2]:25", Reply: message.NewReply(250, "2.0.0", "Ok")}
	case hooks.Deferred:
		tx.Try = &hooks.Try{Attempt: 1, NextHop: "smtp://mx.example.net:25", Peer: "mx.example.net [192.0.2.2]:25", Reply: message.NewReply(451, "4.3.0", "Later")}
	case hooks.Bounced:
		tx.Try = &hooks.Try{Attempt: 1, NextHop: "smtp://mx.example.net:25", Peer: "mx.example.net [192.0.2.2]:25", Reply: message.NewReply(550, "5.1.1", "No such user")}
	case hooks.DSN:
		tx.Notice = &hooks.Notice{Kind: "bounce", To: tx.Sender}
		for _, r := range tx.Recipients {
			tx.Notice.Recipients = append(tx.Notice.Recipients, r.Address.String())
		}
	}
}

// sampleTrace keeps the answers. It is the handler and the observer of a chain.
type sampleTrace struct {
	hooks.Handler
	at        hooks.Stage
	recipient string
	runs      []sampleRun
}

// Stages implements hooks.Handler: the chain asks where the run says, and not at
// deny behind a refusal.
func (k *sampleTrace) Stages() []hooks.Stage { return []hooks.Stage{k.at} }

// run asks at one stage, about each recipient where it is about one.
func (k *sampleTrace) run(ctx context.Context, tx *hooks.Transaction) {
	// What only observes runs beside a chain, which this run would not wait for.
	ask := func() { k.observe(ctx, tx) }
	if !k.at.Row().Observe {
		chain := hooks.NewChain([]hooks.Entry{{Handler: k}}, hooks.Options{Observer: k})
		ask = func() { chain.Run(ctx, k.at, tx) }
	}
	if scope := k.at.Row().Scope; scope != hooks.OfRecipient && scope != hooks.OfDelivery {
		ask()
		return
	}
	all := tx.Recipients
	if k.at == hooks.Rcpt {
		tx.Recipients = nil // those before it
	}
	for _, r := range all {
		tx.Current, k.recipient = r, r.Address.String()
		ask()
		if k.at == hooks.Rcpt {
			tx.Recipients = append(tx.Recipients, tx.Current)
		}
	}
	tx.Current, k.recipient = nil, ""
}

func (k *sampleTrace) observe(ctx context.Context, tx *hooks.Transaction) {
	ctx, cancel := context.WithTimeout(ctx, hooks.DefaultTimeout)
	defer cancel()
	start := time.Now()
	d, err := k.Handle(ctx, k.at, tx)
	k.Stage(tx, hooks.StageRun{Stage: k.at, Handlers: []hooks.HandlerRun{{Verb: d.Verb, Reason: d.Reason, Edits: d.Edits, Duration: time.Since(start), Err: err}}})
}

// Stage implements hooks.Observer.
func (k *sampleTrace) Stage(_ *hooks.Transaction, run hooks.StageRun) {
	for _, one := range run.Handlers {
		r := sampleRun{
			Stage: run.Stage.String(), Recipient: k.recipient, Decision: one.Verb.String(), Reason: one.Reason,
			Edits: []string{}, Millis: float64(one.Duration.Microseconds()) / 1000,
		}
		if !one.Reply.IsZero() {
			r.Reply = one.Reply.String()
		}
		if one.Err != nil {
			r.Error = one.Err.Error()
		}
		for _, e := range one.Edits {
			r.Edits = append(r.Edits, e.String())
		}
		k.runs = append(k.runs, r)
	}
}
