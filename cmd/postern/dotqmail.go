package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/local"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
)

// This file holds the small programs that lines of dot-qmail files call. They are
// called by their own names, too.

// tools are their names, which are commands and names of links.
func tools() []string {
	return []string{"forward", "condredirect", "except", "bouncesaying", "preline", "qreceipt", "maildir2mbox"}
}

// toolCommands are the commands of those names.
func toolCommands(g *global) []*cobra.Command {
	const status = "\n\nExit status: as a program of a .qmail file ends, 0, 99, 100 or 111; docs/local.md."
	tool := func(use, short, long string, run func(t *local.Tool, ctx context.Context, args []string) int) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Long: long + status, DisableFlagParsing: true}
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if wantsHelp(args) {
				return cmd.Help()
			}
			if code := run(newTool(g, cmd.Name()), cmd.Context(), args); code != exitDone {
				return exitError{status: code}
			}
			return nil
		}
		return c
	}
	return []*cobra.Command{
		tool("forward ADDRESS...", "Send the message of a .qmail line on",
			"Sends the message on to the addresses, with the sender $NEWSENDER and behind $DTLINE.", (*local.Tool).Forward),
		tool("condredirect ADDRESS PROGRAM [ARGUMENT...]", "Send the message of a .qmail line on if a program says so",
			"Runs the program on the message. If it ends with 0, the message is sent on and the\nlines below are not looked at; with 111, it is tried again later; else nothing is done.", (*local.Tool).CondRedirect),
		tool("except PROGRAM [ARGUMENT...]", "Leave the lines below out if a program says so",
			"Runs the program on the message. If it ends with 0, the lines below are not looked\nat; with 111, the message is tried again later; else nothing is done.", (*local.Tool).Except),
		tool("bouncesaying TEXT [PROGRAM [ARGUMENT...]]", "Bounce the message of a .qmail line with a text",
			"Bounces the message with the text; with a program, only if that ends with 0.", (*local.Tool).BounceSaying),
		tool("preline [-frd] PROGRAM [ARGUMENT...]", "Run a program on the message with From, Return-Path and Delivered-To",
			"Runs the program on the message with the line From, Return-Path and Delivered-To in\nfront, as programs such as procmail want it; -f, -r and -d leave one of them out.", (*local.Tool).Preline),
		tool("qreceipt ADDRESS", "Tell the sender of a .qmail line's message that it was delivered, if asked to",
			"Tells the sender that the message was delivered to the address, where a field\nNotice-Requested-Upon-Delivery-To of the message has that address. Bounces and what\nprograms send (Auto-Submitted) get no receipt.", (*local.Tool).Receipt),
		maildirToMbox(g),
	}
}

func newTool(g *global, name string) *local.Tool {
	return &local.Tool{Name: name, Getenv: os.Getenv, In: os.Stdin, Out: g.std.out, Err: g.std.err, Hand: g.hand}
}

// hand queues a message for a tool: by $QMAILQUEUE, or as qmail-queue does. The daemon
// does not tell the id of a message that it takes so; the process is what qmail tells.
func (g *global) hand(ctx context.Context, sender string, to []string, body io.Reader) (id string, err error) {
	if program := os.Getenv("QMAILQUEUE"); program != "" {
		if r := qmail.Hand(ctx, program, sender, to, body); !r.IsZero() {
			err = r
		}
	} else {
		c, settle := g.handing()
		if settle != nil {
			return "", settle
		}
		err = enqueue(ctx, c, &qmail.Composed{Sender: sender, Recipients: to}, body)
	}
	if _, is := errors.AsType[permanent](err); is || message.Permanent(err) {
		return "", fmt.Errorf("%w: %w", local.ErrRefused, err)
	}
	if s, is := errors.AsType[qmail.Status](err); is && s.Reply().Permanent() {
		return "", fmt.Errorf("%w: %w", local.ErrRefused, err)
	}
	return fmt.Sprint(os.Getpid()), err
}

func maildirToMbox(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "maildir2mbox [MAILDIR MBOX]",
		Short: "Move the messages of a Maildir to an mbox file",
		Long: `Moves all messages of a Maildir, the oldest first, to the end of an mbox file, which
is locked meanwhile (flock) and made where it is missing. They are removed from the
Maildir when the file is on the disk. Without arguments it takes $MAILDIR and $MAIL.

Exit status: 0 done, 111 where it failed: then nothing was moved, or what could not be
removed is named.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to := os.Getenv("MAILDIR"), os.Getenv("MAIL")
			if len(args) == 2 {
				from, to = args[0], args[1]
			}
			if len(args) == 1 || from == "" || to == "" {
				return exitError{exitTemporary, errors.New("say which: MAILDIR MBOX, or set $MAILDIR and $MAIL")}
			}
			n, err := local.MaildirToMbox(cmd.Context(), from, to)
			if err != nil {
				return exitError{exitTemporary, err}
			}
			fmt.Fprintf(g.std.out, "%s moved to %s\n", count(n, "message"), to)
			return nil
		},
	}
}
