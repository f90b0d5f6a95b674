package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/auth/spf"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

func dmarcCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "dmarc",
		Short: "Judge mail by the DMARC policies of domains (RFC 9989)",
	}
	c.AddCommand(dmarcCheckCommand(g), dmarcReportCommand(g))
	return c
}

type dmarcFlags struct {
	spfFlags
	organization string
	domain       string
}

func dmarcCheckCommand(g *global) *cobra.Command {
	f := dmarcFlags{spfFlags: spfFlags{verifyFlags: verifyFlags{g: g}}}
	c := &cobra.Command{
		Use:   "check FILE|- [--ip IP] [--from ADDRESS] [--helo NAME] | check --domain DOMAIN",
		Short: "Tell whether the domain in From stands behind a message, step by step",
		Long: `Verifies the signatures of a message, in a file or from standard input, judges the
client of --ip by SPF where that is given, and tells whether one of them passes for the
domain in From, and else what that domain's policy asks for. The sender is that of
--from, else of the message's Return-Path.

With --domain no message is judged: the verdict is that of mail in the domain's name
that nobody signed, and what is wrong with its record is told.
` + verifyStatus,
		Example: `  postern dmarc check message.eml
  postern dmarc check --ip 192.0.2.7 --from bounce@news.example.net --json - < message.eml
  postern dmarc check --domain example.net`,
		Args: func(_ *cobra.Command, args []string) error {
			if want := map[bool]int{true: 0, false: 1}[f.domain != ""]; len(args) != want {
				return errors.New("a FILE, or - for standard input, or --domain alone expected")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args, cmd.Flags().Changed("from"))
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.ip, "ip", "", "the client's `ADDRESS`: without it SPF is not asked")
	fl.StringVar(&f.helo, "helo", "", "the `NAME` that it gave in HELO or EHLO")
	fl.StringVar(&f.from, "from", "", "the sender's `ADDRESS` in MAIL FROM")
	fl.StringVar(&f.domain, "domain", "", "look at the policy of a `DOMAIN`, not at a message")
	fl.StringVar(&f.organization, "organization", string(dmarc.TreeWalk), "how the organizational domain is found: tree-walk (RFC 9989) or suffix-list (RFC 7489)")
	f.add(c)
	return c
}

func (f *dmarcFlags) run(ctx context.Context, args []string, withSender bool) error {
	e := dmarc.Evaluator{Organization: dmarc.Organization(f.organization)}
	if e.Organization != dmarc.TreeWalk && e.Organization != dmarc.SuffixList {
		return usageError{fmt.Errorf("--organization: write %s or %s", dmarc.TreeWalk, dmarc.SuffixList)}
	}
	if _, wrong := dmarc.FromDomains([]string{"x@" + f.domain}); f.domain != "" && wrong != "" {
		return usageError{fmt.Errorf("--domain: %q is no domain name", f.domain)}
	}
	var m message.Bytes
	if f.domain == "" {
		var err error
		if m, err = readMessage(f.g.std.in, args[0]); err != nil {
			return err
		}
	}
	r, hostname, err := f.resolver()
	if err != nil {
		return err
	}
	defer r.Close()
	e.Resolver = r
	if f.domain != "" {
		result := e.Evaluate(ctx, dmarc.Message{From: []string{"postmaster@" + f.domain}})
		return f.print(f.g.std.out, dmarcReport(result, nil, nil))
	}
	about, signatures, client, err := f.gather(ctx, m, r, hostname, withSender)
	if err != nil {
		return err
	}
	return f.print(f.g.std.out, dmarcReport(e.Evaluate(ctx, about), signatures, client))
}

// gather is what DKIM and SPF find of a message.
func (f *dmarcFlags) gather(ctx context.Context, m message.Bytes, r dns.Resolver, hostname string, withSender bool) (dmarc.Message, *dkim.Report, *spf.Result, error) {
	var about dmarc.Message
	open, err := dkim.Open(m)
	if err != nil {
		return about, nil, nil, err
	}
	for field := range open.Named("from") {
		about.From = append(about.From, field.Value())
	}
	signatures, err := (&dkim.Verifier{Resolver: r, Now: f.clock}).Verify(ctx, open)
	if err != nil {
		return about, nil, nil, err
	}
	for i := range signatures.Results {
		s := &signatures.Results[i]
		about.Signatures = append(about.Signatures, dmarc.Signature{Verdict: string(s.Word), Domain: s.Domain, Selector: s.Selector})
	}
	if f.ip == "" {
		return about, signatures, nil, nil
	}
	if !withSender {
		for field := range open.Named("return-path") {
			f.from = strings.TrimSpace(field.Value())
			break
		}
	}
	by, err := f.client()
	if err != nil {
		return about, nil, nil, err
	}
	checker := spf.Checker{Resolver: r, Hostname: hostname, Now: f.clock}
	result := checker.Check(ctx, by)
	about.SPF = dmarc.SPF{Verdict: string(result.Verdict), Domain: result.Domain}
	return about, signatures, &result, nil
}

func dmarcReport(r dmarc.Result, signatures *dkim.Report, client *spf.Result) verdictReport {
	object := struct {
		dmarc.Result
		Mistakes []string    `json:"mistakes,omitempty"`
		Client   *spf.Result `json:"spf_result,omitempty"`
	}{Result: r, Mistakes: r.Published.Mistakes, Client: client}
	published := string(r.Policy)
	if r.Tag != "" {
		published = r.Tag + "=" + published + " of " + r.Domain
	}
	j := verdictReport{verdict: string(r.Verdict), object: object, facts: []fact{
		{"From", r.From},
		{"organization", r.Organization},
		{"policy", published},
		{"asked for", string(r.Disposition)},
		{"because", r.Reason},
		{"problem", r.Problem},
		{"mistakes", strings.Join(r.Published.Mistakes, "; ")},
	}}
	if client != nil {
		j.steps = append(j.steps, verdictStep{what: "SPF of " + client.Sender, outcome: strings.TrimSpace(string(client.Verdict) + " " + client.Mechanism), answer: quoted(client.Record)})
	}
	if signatures != nil {
		for i := range signatures.Results {
			j.steps = append(j.steps, dkimStep(&signatures.Results[i]))
		}
	}
	for _, s := range r.Steps {
		j.steps = append(j.steps, verdictStep{0, s.What, s.Query, s.Answer, s.Outcome})
	}
	return j
}

func quoted(record string) []string {
	if record == "" {
		return nil
	}
	return []string{record}
}
