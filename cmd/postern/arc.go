package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/auth/arc"
	"github.com/postern-mta/postern/core/auth/dkim"
)

func arcCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "arc",
		Short: "Judge the chain of those who handed a message on (RFC 8617)",
	}
	f := verifyFlags{g: g}
	check := &cobra.Command{
		Use:   "check FILE|-",
		Short: "Tell whether a message's ARC chain holds, set by set",
		Long: `Verifies the ARC sets of a message, in a file or from standard input: the last one's
signature over the message, and all seals. LF may end its lines.
` + verifyStatus,
		Example: "  postern arc check message.eml\n  postern arc check --json - < message.eml",
		Args:    expects(1, "a FILE, or - for standard input"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.checkChain(cmd.Context(), args[0]) },
	}
	f.add(check)
	c.AddCommand(check)
	return c
}

func (f *verifyFlags) checkChain(ctx context.Context, file string) error {
	text, err := readMessage(f.g.std.in, file)
	if err != nil {
		return err
	}
	m, err := dkim.Open(text)
	if err != nil {
		return err
	}
	r, _, err := f.resolver()
	if err != nil {
		return err
	}
	defer r.Close()
	report, err := arc.Verify(ctx, &dkim.Verifier{Resolver: r, Now: f.clock}, m)
	if err != nil {
		return err
	}
	return f.print(f.g.std.out, arcReport(report))
}

// arcStep is a signature of --json.
type arcStep struct {
	Word      dkim.Word `json:"verdict,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Algorithm string    `json:"algorithm,omitempty"`
	Query     string    `json:"query,omitempty"`
	Record    string    `json:"record,omitempty"`
}

type arcSet struct {
	Instance int      `json:"instance"`
	Domain   string   `json:"domain"`
	Selector string   `json:"selector"`
	State    arc.Word `json:"cv"`
	Results  string   `json:"results"`
	Seal     arcStep  `json:"seal"`
	Message  arcStep  `json:"message"`
}

func arcReport(r *arc.Report) verdictReport {
	object := struct {
		Verdict    arc.Word `json:"verdict"`
		Reason     string   `json:"reason,omitempty"`
		Temporary  bool     `json:"temporary,omitempty"`
		OldestPass int      `json:"oldest_pass"`
		Sets       []arcSet `json:"sets"`
	}{r.Word, r.Reason, r.Temporary, r.OldestPass, []arcSet{}}
	j := verdictReport{verdict: string(r.Word), facts: []fact{{"reason", r.Reason}, {"sealers", strings.Join(r.Sealers(), ", ")}}}
	if r.OldestPass > 0 {
		j.facts = append(j.facts, fact{"unchanged", "since set " + strconv.Itoa(r.OldestPass)})
	}
	for i := len(r.Sets) - 1; i >= 0; i-- {
		s := &r.Sets[i]
		object.Sets = append(object.Sets, arcSet{s.Instance, s.Domain, s.Selector, s.State, s.Results, arcStep(s.Seal), arcStep(s.Message)})
		for _, one := range []struct {
			what string
			step *arc.Step
		}{{"message signature", &s.Message}, {"seal", &s.Seal}} {
			if one.step.Word == "" {
				continue
			}
			step := verdictStep{what: fmt.Sprintf("set %d %s d=%s s=%s a=%s cv=%s", s.Instance, one.what, s.Domain, s.Selector, one.step.Algorithm, s.State), outcome: string(one.step.Word)}
			if one.step.Reason != "" {
				step.outcome += ": " + one.step.Reason
			}
			if one.step.Query != "" {
				step.query = "TXT " + one.step.Query
			}
			if one.step.Record != "" {
				step.answer = []string{strconv.Quote(one.step.Record)}
			}
			j.steps = append(j.steps, step)
		}
		if one := s.Results; one != "" {
			j.steps = append(j.steps, verdictStep{depth: 1, what: "wrote: " + one})
		}
	}
	j.object = object
	return j
}
