package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
)

// whyFlags is what postern why was called with.
type whyFlags struct {
	q            record.Query
	since, until momentFlag
	json, short  bool
}

func whyCommand(g *global) *cobra.Command {
	var f whyFlags
	c := &cobra.Command{
		Use:   "why [ID|ADDRESS|@DOMAIN|IP|NETWORK]...",
		Short: "Tell how a message was decided, step by step",
		Long: `Tells the story of a message from the flight recorder: each stage, who was asked,
what was decided and why, how long it took, what was looked up and edited, and
every delivery attempt. Works with the daemon down, too.

ID is the id of a message ("queued as ID") or of a session; an address or @DOMAIN
finds messages from and to it, an IP address or a network such as 192.0.2.0/24
those of clients. Several of them, and flags, narrow the search: all must be true.
What is found comes newest first. With --json a single id gives one object,
anything else a list.

Exit status: 0 told, 1 nothing is known, 2 wrong use.`,
		Example: `  postern why 0V7pYxTq3kLmAbC
  postern why you@example.net --verdict rejected,deferred --since 2h
  postern why 192.0.2.0/24 --policy dnsbl --short
  postern why --text "mailbox full" --since "yesterday 14:00" --until 9:00
  postern why --from @news.example --limit 5 --json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && cmd.Flags().NFlag() == 0 {
				return usageError{errors.New("say what: an id, an address, a client, or flags such as --since 1h\nSee 'postern why --help'")}
			}
			return why(cmd.Context(), g, args, &f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.q.From, "from", "", "only mail from an `ADDRESS` or @domain; <>: the null sender")
	fl.StringVar(&f.q.To, "to", "", "only mail to an `ADDRESS` or @domain")
	fl.Var(&f.since, "since", "only what was decided since: "+momentHelp)
	fl.Var(&f.until, "until", "only what was decided before")
	fl.StringVar(&f.q.Text, "text", "", "only with this `TEXT` in the subject, a reply or a reason")
	fl.StringSliceVar(&f.q.Verdicts, "verdict", nil, "only with one of these verdicts: queued, held, relayed, rejected, deferred, discarded, quarantined, abandoned")
	fl.StringVar(&f.q.Policy, "policy", "", "only where the policy `NAME` said more than pass")
	_ = c.RegisterFlagCompletionFunc("policy", policyNames(g)) // the flag is there
	fl.IntVar(&f.q.Limit, "limit", record.UsualLimit, fmt.Sprintf("how many stories at most, up to %d", record.MostLimit))
	fl.BoolVar(&f.short, "short", false, "one line a story")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	return c
}

func why(ctx context.Context, g *global, subjects []string, f *whyFlags) error {
	q := f.q
	for i, one := range subjects {
		subjects[i] = qmailSubject(one)
	}
	q.Subjects, q.Since, q.Until = subjects, f.since.Time, f.until.Time
	if err := q.Check(); err != nil {
		return usageError{err}
	}
	if q.Limit < 1 || q.Limit > record.MostLimit {
		return usageError{fmt.Errorf("--limit %d: write a number from 1 to %d", q.Limit, record.MostLimit)}
	}
	stories, err := findStories(ctx, g, q)
	if err != nil {
		return err
	}
	if len(stories) == 0 {
		if len(subjects) == 0 {
			return exitError{exitNo, errors.New("nothing on record is like that")}
		}
		return exitError{exitNo, fmt.Errorf("nothing is known about %s", strings.Join(subjects, " with "))}
	}
	if f.json {
		enc := json.NewEncoder(g.std.out)
		if len(stories) == 1 && len(subjects) == 1 && message.ValidID(subjects[0]) {
			return enc.Encode(stories[0])
		}
		return enc.Encode(stories)
	}
	w := bufio.NewWriter(g.std.out)
	colour := isTerminal(g.std.out) && os.Getenv("NO_COLOR") == ""
	for i, s := range stories {
		if f.short {
			if err := s.PrintLine(w, colour); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		s.Print(w, colour)
	}
	return w.Flush()
}

// qmailSubject is the id that NUMBER/QP of the log's format "qmail" mean; all else stays.
func qmailSubject(text string) string {
	number, qp, ok := strings.Cut(text, "/")
	n, err := strconv.ParseUint(number, 10, 64)
	q, err2 := strconv.ParseUint(qp, 10, 64)
	if !ok || err != nil || err2 != nil {
		return text
	}
	if id, ok := record.QmailID(n, q); ok {
		return id
	}
	return text
}

// findStories asks the daemon, or reads the recorder's disk while none runs.
func findStories(ctx context.Context, g *global, q record.Query) (list []record.Story, err error) {
	err = g.askRecorder(
		func(c *console.Client) error { list, err = c.Why(ctx, q); return err },
		func(r *record.Recorder) error { list, err = r.Why(ctx, q); return err },
	)
	return list, err
}

// askRecorder asks the daemon, or reads the recorder's disk while none runs. Where
// nothing was ever recorded it asks nobody.
func (g *global) askRecorder(daemon func(*console.Client) error, disk func(*record.Recorder) error) error {
	c, problems, err := g.load()
	if err != nil {
		return err
	}
	if c == nil {
		return problems.Err()
	}
	client, err := dial(c)
	if err == nil {
		defer client.Close()
		return daemon(client)
	}
	if !isDown(err) {
		return err
	}
	r, err := record.Open(filepath.Join(c.Server.DataDir, "record"), record.Options{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return disk(r)
}
