package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postern-mta/postern/core/console"
)

// This file is the commands that change queued messages: each chooses them, shows
// how many, asks, and tells what was done.

// act is something that is done to messages.
type act struct {
	name        string // on the control socket
	word        string // of the command
	short       string
	done        string // its participle
	quarantined bool   // to those in quarantine alone

	// flags adds what else the order says, and gives its check; nil: nothing.
	flags func(*cobra.Command, *console.Order) (check func() error)
}

// orderCommand is a command that changes messages.
func orderCommand(g *global, a act) *cobra.Command {
	var f filterFlags
	var o console.Order
	var yes, dry, asJSON bool
	check := func() error { return nil }
	c := &cobra.Command{
		Use:   a.word + " ID... | filters | --all",
		Short: a.short,
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter(args)
			if err != nil {
				return err
			}
			if err := filter.Check(); err != nil {
				return usageError{err}
			}
			if err := check(); err != nil {
				return usageError{err}
			}
			filter.Quarantined = filter.Quarantined || a.quarantined
			o.Filter, o.DryRun = filter, dry
			return order(cmd.Context(), g, a, o, yes, asJSON)
		},
	}
	f.add(c)
	all := "every message"
	if a.quarantined {
		all += " in quarantine"
	} else {
		f.addPlaces(c)
	}
	if a.flags != nil {
		check = a.flags(c, &o)
	}
	fl := c.Flags()
	fl.BoolVar(&f.All, "all", false, all)
	fl.BoolVarP(&yes, "yes", "y", false, "do not ask")
	fl.BoolVarP(&dry, "dry-run", "n", false, "only tell what would be done")
	fl.BoolVar(&asJSON, "json", false, "print a JSON object a message")
	return c
}

func order(ctx context.Context, g *global, a act, o console.Order, yes, asJSON bool) error {
	c, err := g.settled()
	if err != nil {
		return err
	}
	client, err := dial(c)
	if err != nil {
		return offline(err)
	}
	defer client.Close()
	if !yes && !o.DryRun {
		if err := ask(ctx, g, client, a, o); err != nil {
			return err
		}
	}
	n, missing := 0, 0
	enc := json.NewEncoder(g.std.out)
	bar := newProgress(g.std.err, a.word, -1)
	defer bar.end()
	for d, err := range client.QueueAct(ctx, a.name, o) {
		if err != nil {
			return offline(err)
		}
		if asJSON {
			if err := enc.Encode(d); err != nil {
				return err
			}
		}
		switch {
		case d.Problem != "":
			missing++
			fmt.Fprintf(g.std.err, "postern: %s: %s\n", d.ID, d.Problem)
		default:
			n++
			bar.at(n)
			if o.DryRun && !asJSON {
				fmt.Fprintf(g.std.out, "%s  <%s>  %s\n", d.ID, printable(d.Sender), count(d.Recipients, "recipient"))
			}
		}
	}
	bar.end()
	done := a.done
	if o.DryRun {
		done = "would be " + done
	}
	if !asJSON {
		fmt.Fprintf(g.std.out, "%s %s\n", count(n, "message"), done)
	}
	if n == 0 || missing > 0 {
		return exitError{status: exitNo}
	}
	return nil
}

// ask shows how many messages an order would touch and asks for a yes.
func ask(ctx context.Context, g *global, client *console.Client, a act, o console.Order) error {
	in, ok := g.std.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usageError{errors.New("there is no terminal to ask on: say --yes, or --dry-run to see what would be done")}
	}
	o.DryRun = true
	n := 0
	for d, err := range client.QueueAct(ctx, a.name, o) {
		if err != nil {
			return offline(err)
		}
		if d.Problem == "" {
			n++
		}
	}
	if n == 0 {
		return exitError{exitNo, errors.New("nothing matches")}
	}
	fmt.Fprintf(g.std.err, "%s %s? [y/N] ", a.word, count(n, "message"))
	line, err := bufio.NewReader(in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return exitError{exitNo, errors.New("nothing was done")}
	}
	return nil
}
