package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/queue"
)

func quarantineCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "quarantine",
		Short: "Judge the mail that policies keep in quarantine",
		Long: `Mail that a policy or the score quarantines was accepted and is not sent on. It
stays until it is released, deleted, or expires ([quarantine] keep and max_size).

list and show work with the daemon down, too. release sends messages on to their
recipients, delete throws them away and tells nobody. Both choose messages by
ids, by filters, or --all, and ask, unless --yes says so. learn teaches the scanners
that a message is spam, or is not: rspamd, spamd, and what else is set up to learn.

Exit status: 0 done, 1 nothing matched, unknown id or not in quarantine, 2 wrong
use (also: no terminal to ask on and no --yes), 3 the daemon is down.`,
		Example: "  postern quarantine list --reason score\n  postern quarantine show 0V7pYxTq3kLmAbC --body\n  postern quarantine learn 0V7pYxTq3kLmAbC --ham --release --yes\n  postern quarantine release 0V7pYxTq3kLmAbC --yes\n  postern quarantine delete --older 7d --yes",
	}
	c.AddCommand(
		quarantineList(g), showCommand(g, "Show one message in quarantine, or with --body its text", queue.Quarantined.String()),
		orderCommand(g, act{name: "quarantine-release", word: "release", short: "Send messages on to their recipients", done: "released", quarantined: true}),
		orderCommand(g, act{name: "quarantine-delete", word: "delete", short: "Delete messages; nobody is told", done: "deleted", quarantined: true}),
		orderCommand(g, act{name: "quarantine-learn", word: "learn", short: "Teach the scanners that messages are spam, or are not", done: "learned", quarantined: true, flags: learnFlags}),
	)
	return c
}

func quarantineList(g *global) *cobra.Command {
	var f filterFlags
	asJSON := false
	c := &cobra.Command{
		Use:   "list [ID...]",
		Short: "List messages in quarantine with the reason, the oldest first",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter(args)
			if err != nil {
				return err
			}
			filter.Quarantined = true
			return list(cmd.Context(), g, filter, asJSON, "")
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return c
}

// learnFlags are those of quarantine learn.
func learnFlags(c *cobra.Command, o *console.Order) func() error {
	var spam, ham, release, remove bool
	fl := c.Flags()
	fl.BoolVar(&spam, "spam", false, "they are spam")
	fl.BoolVar(&ham, "ham", false, "they are wanted")
	fl.BoolVar(&release, "release", false, "send each on that was learned")
	fl.BoolVar(&remove, "delete", false, "delete each that was learned")
	fl.StringVar(&o.Policy, "policy", "", "only the policy of that `NAME` is to learn")
	return func() error {
		switch {
		case spam == ham:
			return errors.New("say what they are: --spam or --ham")
		case release && remove:
			return errors.New("--release and --delete exclude each other")
		}
		o.Class, o.Then = "ham", ""
		if spam {
			o.Class = "spam"
		}
		if release {
			o.Then = "release"
		} else if remove {
			o.Then = "delete"
		}
		return nil
	}
}
