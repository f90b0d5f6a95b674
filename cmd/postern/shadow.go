package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/record"
)

func shadowCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "shadow",
		Short: "See what policies in shadow mode would have done",
		Long: `A policy with mode = "shadow" is asked about real mail, and nothing of what it says
happens. What it said is kept with each message.`,
	}
	c.AddCommand(shadowReportCommand(g))
	return c
}

func shadowReportCommand(g *global) *cobra.Command {
	var q record.ShadowQuery
	var since, until momentFlag
	asJSON := false
	c := &cobra.Command{
		Use:   "report [POLICY]...",
		Short: "Count what they would have done, with examples",
		Long: `Counts, for each policy that ran in shadow mode, how many messages it would have
refused, held or changed, what became of them, how many others refused anyway, and
how many look wanted: mail that went on its way although the policy would have
kept it back, from users who had logged in, from clients that may relay, or from
senders that such users and clients wrote to in the time looked at. Those are the
ones to look at before the mode becomes "enforce". Works with the daemon down, too.

Exit status: 0 reported, 1 no policy answered in shadow in that time, 2 wrong use.`,
		Example: `  postern shadow report
  postern shadow report dnsbl --since yesterday --examples 20
  postern shadow report --since 7d --json`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: policyNames(g),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Policies, q.Since, q.Until = args, since.Time, until.Time
			if err := q.Check(); err != nil {
				return usageError{fmt.Errorf("--examples: %w", err)}
			}
			var report record.ShadowReport
			err := g.askRecorder(
				func(c *console.Client) (err error) { report, err = c.Shadow(cmd.Context(), q); return err },
				func(r *record.Recorder) (err error) { report, err = r.Shadow(cmd.Context(), q); return err },
			)
			switch {
			case err != nil:
				return err
			case len(report.Policies) == 0:
				return exitError{exitNo, errors.New("no policy answered in shadow in that time")}
			case asJSON:
				return json.NewEncoder(g.std.out).Encode(report)
			}
			return report.Print(g.std.out, isTerminal(g.std.out) && os.Getenv("NO_COLOR") == "")
		},
	}
	fl := c.Flags()
	fl.Var(&since, "since", "only what was decided since: "+momentHelp)
	fl.Var(&until, "until", "only what was decided before")
	fl.IntVar(&q.Examples, "examples", 3, fmt.Sprintf("examples of each decision, at most %d", record.MostExamples))
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
