package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/console/top"
)

// minInterval bounds how often a daemon is asked.
const minInterval = 100 * time.Millisecond

// readTime bounds the wait for a look at the whole queue.
const readTime = 5 * time.Minute

type topFlags struct {
	once, json bool
	interval   string
	count      int
}

func topCommand(g *global) *cobra.Command {
	var f topFlags
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch the running daemon: mail, destinations, policies",
		Long: `Shows what the daemon does, on the terminal and live: connections, what is accepted,
refused, delivered and put off a second, what waits for which destination and how
that does, which policies decide what, which are slow, and the mail that waits
longest. ? explains keys and words; q ends it.

  postern top --once                    one snapshot as text
  postern top --json --count 60         a JSON object a second, for a minute

Where the output is no terminal, it is as with --once. The first of --once and of
--json comes after one interval, which its rates are about. A daemon that goes away
is waited for, and told of.

Exit status: 0 done, 2 wrong use, 3 the daemon was down at the start.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), g) },
	}
	fl := c.Flags()
	fl.BoolVar(&f.once, "once", false, "print one snapshot as plain text")
	fl.BoolVar(&f.json, "json", false, "print a JSON object each interval")
	fl.StringVar(&f.interval, "interval", "1s", "the `TIME` between two looks, at least 100ms")
	fl.IntVar(&f.count, "count", 0, "end after so `MANY` looks (default: any number; of text: one)")
	return c
}

func (f *topFlags) run(ctx context.Context, g *global) error {
	interval, err := config.ParseDuration(f.interval)
	switch {
	case err != nil:
		return usageError{fmt.Errorf("--interval: %w", err)}
	case interval < minInterval:
		return usageError{fmt.Errorf("--interval: the least is %v", minInterval)}
	case f.count < 0:
		return usageError{errors.New("--count: write how many looks, or 0")}
	case f.once && f.json:
		return usageError{errors.New("--once is text: for one JSON object, write --json --count 1")}
	}
	client, err := g.daemonClient()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := top.NewModel(interval)
	out, ok := g.std.out.(*os.File)
	if f.once || f.json || !ok || !term.IsTerminal(int(out.Fd())) {
		if !f.json {
			f.count = max(f.count, 1)
		}
		first := true
		look := func(ctx context.Context) (console.Top, error) {
			wait, limit := f.once && !first, top.LookTime
			if first = false; wait {
				limit = readTime
			}
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return client.Top(ctx, 0, wait)
		}
		return offline(top.Print(ctx, g.std.out, m, look, f.json, f.count))
	}
	if _, err := client.Status(ctx); err != nil {
		return offline(err)
	}
	screen, err := top.OpenScreen()
	if err != nil {
		return fmt.Errorf("the terminal: %w; --once prints text", err)
	}
	top.Show(ctx, screen, m, func(ctx context.Context) (console.Top, error) { return client.Top(ctx, 0, false) }, f.count)
	return screen.Close()
}
