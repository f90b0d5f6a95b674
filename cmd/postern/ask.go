package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// This file holds the commands that ask the daemon something small: status,
// reload, inject.

func dial(c *config.Config) (*console.Client, error) { return console.Dial(c.Server.Control) }

func isDown(err error) bool {
	_, ok := errors.AsType[*console.Down](err)
	return ok
}

// offline gives "the daemon is down" its exit status.
func offline(err error) error {
	if isDown(err) {
		return exitError{exitOffline, fmt.Errorf("%w; start it with postern serve", err)}
	}
	return err
}

// daemonClient dials the daemon of the configuration.
func (g *global) daemonClient() (*console.Client, error) {
	c, problems, err := g.load()
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, problems.Err()
	}
	client, err := dial(c)
	return client, offline(err)
}

func statusCommand(g *global) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the daemon's state",
		Long: `Shows the daemon's listeners, connections, queue and policies.

Exit status: 0 it runs, 2 wrong use, 3 it is down.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.daemonClient()
			if err != nil {
				return err
			}
			defer client.Close()
			s, err := client.Status(cmd.Context())
			switch {
			case err != nil:
				return offline(err)
			case asJSON:
				return json.NewEncoder(g.std.out).Encode(s)
			}
			s.Print(g.std.out)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func reloadCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Load the configuration and the policies anew",
		Long: `Makes the daemon read its configuration, scripts, plugins, rules and certificates
again. Connections that are open keep the policies they began with. With a
mistake in any of them nothing changes, and all mistakes are printed.

Exit status: 0 reloaded, 1 the configuration has errors, 2 wrong use, 3 the
daemon is down.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.daemonClient()
			if err != nil {
				return err
			}
			defer client.Close()
			s, err := client.Reload(cmd.Context())
			if refusal, ok := errors.AsType[*console.Refusal](err); ok {
				return exitError{exitNo, fmt.Errorf("nothing was changed:\n%s", refusal.Text)}
			}
			if err != nil {
				return offline(err)
			}
			s.Policies = slices.DeleteFunc(s.Policies, func(p console.Policy) bool { return p.Name == intake.RuleName })
			for _, one := range s.Findings {
				fmt.Fprintln(g.std.out, one)
			}
			fmt.Fprintf(g.std.out, "reloaded: configuration %d, %s\n", s.Generation, count(len(s.Policies), "policy"))
			if len(s.Restart) > 0 {
				fmt.Fprintf(g.std.out, "what changed since the start, and takes effect at the next one: %s\n", strings.Join(s.Restart, ", "))
			}
			return nil
		},
	}
}

func injectCommand(g *global) *cobra.Command {
	from := ""
	c := &cobra.Command{
		Use:   "inject --from ADDRESS RECIPIENT... [< MESSAGE]",
		Short: "Put a message from standard input into the queue",
		Long: `Takes a message on standard input and queues it for the recipients, as a program
on this host would. It passes the policies and may go anywhere. A missing Date,
Message-ID and From are added; lone LF line ends become CRLF.

With the daemon down the message is stored safely in the drop directory, and
taken in when the daemon starts. Where QMAILQUEUE names a program, that gets the
message instead, as from qmail-inject.

Exit status: 0 the message is safe, 1 it was refused, 2 wrong use or it could
not be stored.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return inject(cmd.Context(), g, from, args) },
	}
	c.Flags().StringVar(&from, "from", "", "reverse-path; \"\" is the null sender")
	return c
}

func inject(ctx context.Context, g *global, from string, to []string) error {
	c, problems, err := g.load()
	if err != nil {
		return err
	}
	if c == nil {
		return problems.Err()
	}
	drop := queue.Drop{Arrived: time.Now()}
	if drop.Sender, err = message.ParseSender(from); err != nil {
		return usageError{fmt.Errorf("--from %q: %w", from, err)}
	}
	for _, a := range to {
		r, err := message.ParseAddress(a)
		if err == nil {
			err = errRecipient(r)
		}
		if err != nil {
			return usageError{fmt.Errorf("recipient %q: %w", a, err)}
		}
		if r.Domain == "" {
			r.Domain = c.Server.Hostname
		}
		drop.Recipients = append(drop.Recipients, r)
	}
	if program := os.Getenv("QMAILQUEUE"); program != "" {
		return handOn(ctx, g, c, program, drop)
	}
	client, err := dialToHand(c)
	if isDown(err) {
		return injectOffline(ctx, g, c, drop)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	reply, err := client.Inject(ctx, drop, g.std.in)
	if err != nil {
		return exitError{exitUsage, fmt.Errorf("not stored: %w", err)}
	}
	if reply.Negative() {
		return exitError{exitNo, reply}
	}
	fmt.Fprintln(g.std.out, reply.Text)
	return nil
}

func errRecipient(a message.Address) error {
	if a.IsNull() {
		return errors.New("a recipient can't be empty")
	}
	return nil
}

// injectOffline stores the message for the next start. A daemon that started
// meanwhile is told to look.
func injectOffline(ctx context.Context, g *global, c *config.Config, drop queue.Drop) error {
	dir := filepath.Join(c.Server.DataDir, "drop")
	id, err := queue.WriteDrop(dir, drop, io.Reader(g.std.in))
	if err != nil {
		return exitError{exitUsage, fmt.Errorf("not stored: %w", err)}
	}
	fmt.Fprintf(g.std.out, "stored as %s until the daemon starts\n", id)
	if client, err := dial(c); err == nil {
		defer client.Close()
		return client.TakeDrops(ctx)
	}
	return nil
}
