package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/hooks"
)

func queueCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "queue",
		Short: "Look at the queue and give it orders",
		Long: `list, show, summary, export and fsck look at the queue, with the daemon down too.
retry, hold, release, reroute, bounce and delete choose messages by ids, by filters,
or --all; they show what they would touch and ask, unless --yes says so. Mail in
quarantine has commands of its own: postern quarantine.

Exit status: 0 done, 1 nothing matched or unknown id, 2 wrong use (also: no
terminal to ask on and no --yes), 3 the daemon is down.`,
	}
	c.AddCommand(
		queueList(g), showCommand(g, "Show one message with all that the queue knows", ""), queueSummary(g),
		orderCommand(g, act{name: "retry", word: "retry", short: "Try messages now, whatever their schedule says", done: "tried"}),
		orderCommand(g, act{name: "hold", word: "hold", short: "Keep messages from being tried until they are released", done: "held"}),
		orderCommand(g, act{name: "release", word: "release", short: "Try messages again that are held", done: "released"}),
		orderCommand(g, act{
			name: "reroute", word: "reroute", short: "Send messages to another next hop, now", done: "rerouted",
			flags: func(c *cobra.Command, o *console.Order) func() error {
				back := false
				c.Flags().StringVar(&o.To, "to", "", "the next `HOP`, as in a [[route]]: smtp://192.0.2.1:25, lmtp:///PATH, mx …")
				c.Flags().BoolVar(&back, "configured", false, "the configured routes again")
				return func() error {
					if (o.To != "") == back {
						return errors.New("say where to: --to with a next hop, or --configured")
					}
					return nil
				}
			},
		}),
		orderCommand(g, act{
			name: "bounce", word: "bounce", short: "Give messages up; their senders get a bounce", done: "bounced",
			flags: func(c *cobra.Command, o *console.Order) func() error {
				c.Flags().StringVar(&o.Text, "text", "", "what the sender is told, a `LINE` (default: Returned by the postmaster)")
				return func() error {
					if strings.ContainsFunc(o.Text, unicode.IsControl) {
						return errors.New("--text: write one line")
					}
					return nil
				}
			},
		}),
		queueExport(g), queueImport(g), queueCheck(g),
		orderCommand(g, act{name: "delete", word: "delete", short: "Delete messages; nobody is told", done: "deleted"}),
	)
	return c
}

// filterFlags adds the flags that choose messages.
type filterFlags struct {
	console.Filter
	older string
	size  string
}

func (f *filterFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.Sender, "sender", "", "of this `ADDRESS`; @domain: of anybody there; <>: the null sender")
	fl.StringVar(&f.Recipient, "rcpt", "", "to this `ADDRESS`; @domain: to anybody there")
	fl.StringVar(&f.Domain, "domain", "", "to a recipient at this `DOMAIN`; *.domain: below it")
	fl.StringVar(&f.Route, "route", "", "that goes to this `DESTINATION`, as summary calls it")
	fl.StringVar(&f.older, "older", "", "arrived longer ago than this `DURATION`, such as 2h or 3d")
	fl.StringVar(&f.size, "size", "", "at least this `SIZE`, such as 10MiB")
	fl.StringVar(&f.Reason, "reason", "", "whose last reply holds this `TEXT`")
}

// addPlaces adds those that choose by where a message stands.
func (f *filterFlags) addPlaces(c *cobra.Command) {
	fl := c.Flags()
	fl.BoolVar(&f.Held, "held", false, "held ones")
	fl.BoolVar(&f.Quarantined, "quarantined", false, "those in quarantine")
}

func (f *filterFlags) filter(ids []string) (console.Filter, error) {
	f.IDs = ids
	if f.older != "" {
		d, err := config.ParseDuration(f.older)
		if err != nil {
			return f.Filter, usageError{fmt.Errorf("--older: %w", err)}
		}
		f.Before = time.Now().Add(-d)
	}
	if f.size != "" {
		n, err := config.ParseSize(f.size)
		if err != nil {
			return f.Filter, usageError{fmt.Errorf("--size: %w", err)}
		}
		f.MinSize = n
	}
	return f.Filter, nil
}

func queueList(g *global) *cobra.Command {
	var f filterFlags
	asJSON := false
	c := &cobra.Command{
		Use:   "list [ID...]",
		Short: "List messages, the oldest first",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter(args)
			if err != nil {
				return err
			}
			return list(cmd.Context(), g, filter, asJSON, "the queue is empty")
		},
	}
	f.add(c)
	f.addPlaces(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return c
}

// list prints messages. Where there are none, and none were chosen, it says so in the
// words of empty.
func list(ctx context.Context, g *global, f console.Filter, asJSON bool, empty string) error {
	view, err := openView(ctx, g)
	if err != nil {
		return err
	}
	defer view.close()
	w := bufio.NewWriter(g.std.out)
	enc := json.NewEncoder(w)
	n, now := 0, time.Now()
	for row, err := range view.rows(f) {
		if err != nil {
			return errors.Join(err, w.Flush())
		}
		n++
		if asJSON {
			if err := enc.Encode(row); err != nil {
				return err
			}
			continue
		}
		row.Print(w, now)
	}
	if !asJSON {
		err = view.behind(w, n, errors.Is(f.Check(), console.ErrNoFilter), empty)
	}
	if err := errors.Join(err, w.Flush()); err != nil {
		return err
	}
	if n == 0 && len(f.IDs) > 0 {
		return exitError{exitNo, errors.New("no such message in the queue")}
	}
	return nil
}

// behind ends a list of n messages: of all, or of chosen ones.
func (v *view) behind(w io.Writer, n int, all bool, empty string) error {
	if !all {
		if n == 0 {
			fmt.Fprintln(w, "nothing matches")
		}
		return nil
	}
	drops, err := v.waiting()
	switch {
	case err == nil && drops > 0:
		fmt.Fprintf(w, "%s more, in %s: the daemon takes them in when it starts\n", count(drops, "message"), v.dropDir())
	case n == 0:
		fmt.Fprintln(w, empty)
	}
	return err
}

func (v *view) dropDir() string { return filepath.Join(v.config.Server.DataDir, "drop") }

// waiting counts the messages that are still to be taken in.
func (v *view) waiting() (int, error) { return queue.Waiting(v.dropDir()) }

// showCommand shows one message; of any place, or of that place alone.
func showCommand(g *global, short, place string) *cobra.Command {
	asJSON, body := false, false
	c := &cobra.Command{
		Use:   "show ID",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			view, err := openView(cmd.Context(), g)
			if err != nil {
				return err
			}
			defer view.close()
			d, err := view.show(args[0])
			switch {
			case err != nil:
				return err
			case place != "" && d.Place != place:
				return exitError{exitNo, fmt.Errorf("%s: the message is %s, not in %s", args[0], d.Place, cmd.Parent().Name())}
			case body:
				return view.body(args[0], g.std.out)
			case asJSON:
				return json.NewEncoder(g.std.out).Encode(d)
			}
			d.Print(g.std.out, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&body, "body", false, "print the stored message itself")
	return c
}

func queueSummary(g *global) *cobra.Command {
	asJSON, limit := false, 0
	c := &cobra.Command{
		Use:   "summary",
		Short: "Count what waits for each destination",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			view, err := openView(cmd.Context(), g)
			if err != nil {
				return err
			}
			defer view.close()
			if limit < 0 {
				return usageError{errors.New("--limit: a number of destinations, 0 for all")}
			}
			s, err := view.summary(limit)
			switch {
			case err != nil:
				return err
			case asJSON:
				return json.NewEncoder(g.std.out).Encode(s)
			}
			s.Print(g.std.out, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().IntVar(&limit, "limit", 0, "the `N` destinations with the most recipients, and the sum of the rest; 0: all")
	return c
}

// view is the queue as a command sees it: through the daemon, or, while none
// runs, read-only from the disk.
type view struct {
	ctx    context.Context
	config *config.Config
	client *console.Client
	queue  *queue.Queue // nil where there is none yet
}

func openView(ctx context.Context, g *global) (*view, error) {
	c, err := g.settled()
	if err != nil {
		return nil, err
	}
	v := &view{ctx: ctx, config: c}
	v.client, err = dial(c)
	if err == nil {
		return v, nil
	}
	if !isDown(err) {
		return nil, err
	}
	v.queue, err = queue.Open(filepath.Join(c.Server.DataDir, "queue"), pebble.Open, queue.Options{ReadOnly: true})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return v, nil
}

func (v *view) close() {
	if v.client != nil {
		v.client.Close()
	}
	if v.queue != nil {
		_ = v.queue.Close()
	}
}

func (v *view) messages(f console.Filter) iter.Seq2[*queue.Message, error] {
	if v.queue == nil {
		return func(func(*queue.Message, error) bool) {}
	}
	to := destinations(v.config)
	return v.queue.All(f.Matches, func(m *queue.Message) bool { return f.GoesTo(m, to) })
}

func (v *view) rows(f console.Filter) iter.Seq2[console.Row, error] {
	if v.client != nil {
		return v.client.QueueList(v.ctx, f)
	}
	return func(yield func(console.Row, error) bool) {
		for m, err := range v.messages(f) {
			row := console.Row{}
			if err == nil {
				row = console.RowOf(m)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

func (v *view) show(id string) (console.Detail, error) {
	if v.client != nil {
		d, err := v.client.QueueShow(v.ctx, id)
		return d, unknown(id, err)
	}
	if v.queue == nil {
		return console.Detail{}, unknown(id, queue.ErrNotFound)
	}
	m, err := v.queue.Load(id)
	if err != nil {
		return console.Detail{}, unknown(id, err)
	}
	return console.DetailOf(m), nil
}

func (v *view) body(id string, w io.Writer) error {
	if v.client != nil {
		b, err := v.client.QueueBody(v.ctx, id)
		if err != nil {
			return unknown(id, err)
		}
		defer b.Close()
		_, err = io.Copy(w, b)
		return err
	}
	if v.queue == nil {
		return unknown(id, queue.ErrNotFound)
	}
	b, closer, err := v.queue.Body(id)
	if err != nil {
		return unknown(id, err)
	}
	defer closer.Close()
	_, err = io.Copy(w, io.NewSectionReader(b, 0, b.Size()))
	return err
}

func (v *view) summary(most int) (console.Summary, error) {
	if v.client != nil {
		return v.client.QueueSummary(v.ctx, most)
	}
	messages := v.messages(console.Filter{})
	if v.queue != nil {
		messages = v.queue.Scan()
	}
	s, err := console.Summarize(messages, destinations(v.config), 0)
	return s.Top(most), err
}

// unknown makes "not found" an exit status of 1 that names the id.
func unknown(id string, err error) error {
	if errors.Is(err, queue.ErrNotFound) || err != nil && console.IsNotFound(err) {
		return exitError{exitNo, fmt.Errorf("%s: no such message in the queue", id)}
	}
	return err
}

// factsOf is what routes want to know of a queued message.
func factsOf(m *queue.Message) (netip.Addr, []string) {
	var f hooks.Facts
	if json.Unmarshal(m.Facts, &f) != nil {
		return netip.Addr{}, nil
	}
	return f.Client.Addr(), f.Tags
}
