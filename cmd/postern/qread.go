package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/core/send"
)

// This file is what qmail's programs that look at a queue print, for those who read it.

func qreadCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "qmail-qread", Short: "List the queue as qmail-qread does",
		Long: `Prints the messages of the queue as qmail-qread does, the oldest first, with the
daemon down too. Numbers are those of [log] format = "qmail". postern queue list tells more.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			view, err := openView(cmd.Context(), g)
			if err != nil {
				return err
			}
			defer view.close()
			w := bufio.NewWriter(g.std.out)
			channel := channels(view)
			for row, err := range view.rows(console.Filter{}) {
				if err != nil {
					return errors.Join(err, w.Flush())
				}
				printQread(w, &row, channel)
			}
			return w.Flush()
		},
	}
}

func printQread(w *bufio.Writer, row *console.Row, channel func(row *console.Row, r *console.RowRecipient) string) {
	n, _ := record.QmailNumbers(row.ID)
	fmt.Fprintf(w, "%s  #%d  %d  <%s> ", row.Arrived.UTC().Format("2 Jan 2006 15:04:05 GMT"), n, row.Size, oneWord(row.Sender))
	for i := range row.Recipients {
		if r := &row.Recipients[i]; r.State == "failed" && r.Owed {
			_, _ = w.WriteString(" bouncing") // Flush tells what failed
			break
		}
	}
	_ = w.WriteByte('\n')
	for i := range row.Recipients {
		r := &row.Recipients[i]
		if r.State == "delivered" || r.State == "failed" {
			_, _ = w.WriteString("  done")
		}
		fmt.Fprintf(w, "\t%s\t%s\n", channel(row, r), oneWord(r.Address))
	}
}

// oneWord is a text in which what can't be printed is _, as qmail-qread has it.
func oneWord(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < 33 || c > 126 {
			b[i] = '_'
		}
	}
	return string(b)
}

// channels tells whether a recipient's deliveries are local or remote.
func channels(v *view) func(row *console.Row, r *console.RowRecipient) string {
	routes := sendRoutes(v.config)
	return func(row *console.Row, r *console.RowRecipient) string {
		hop := r.Route
		if a, err := message.ParseAddress(r.Address); hop == "" && err == nil {
			sender, _ := message.ParseSender(row.Sender) // the null path is fine for routes
			if route, ok := routes.Find(sender, a, func() (netip.Addr, []string) { return netip.Addr{}, nil }); ok {
				hop = route.NextHop.String()
			}
		}
		if hop == send.SchemeLocal || hop == send.SchemeDiscard || strings.HasPrefix(hop, "pipe:") {
			return "local"
		}
		return "remote"
	}
}

func qstatCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "qmail-qstat", Short: "Count the queue as qmail-qstat does",
		Long: `Prints how many messages are in the queue, and how many were injected while no daemon
ran and are still to be taken in, as qmail-qstat does. postern queue summary tells more.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			view, err := openView(cmd.Context(), g)
			if err != nil {
				return err
			}
			defer view.close()
			drops, err := view.waiting()
			if err != nil {
				return err
			}
			s, err := view.summary(1)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.std.out, "messages in queue: %d\nmessages in queue but not yet preprocessed: %d\n", s.Messages+drops, drops)
			return err
		},
	}
}

func tcptoCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "qmail-tcpto", Short: "List the hosts that did not answer of late, as qmail-tcpto does",
		Long: `Prints a line for each host that could not be reached in the last two minutes, and that
deliveries pass over where there is another one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := dialFor(g)
			if err != nil {
				return err
			}
			defer client.Close()
			list, err := client.Downs(cmd.Context())
			if err != nil {
				return err
			}
			for _, d := range list {
				name := d.IP
				if name == "" {
					name = d.Peer
				}
				if _, err := fmt.Fprintf(g.std.out, "%s timed out %d seconds ago; # recent timeouts: 1\n", name, int(time.Since(d.Since).Seconds())); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func tcpokCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "qmail-tcpok", Short: "Forget which hosts did not answer, as qmail-tcpok does",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := dialFor(g)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Forget(cmd.Context())
		},
	}
}

// dialFor is the daemon of the configuration.
func dialFor(g *global) (*console.Client, error) {
	c, err := g.settled()
	if err != nil {
		return nil, err
	}
	client, err := dial(c)
	return client, offline(err)
}
