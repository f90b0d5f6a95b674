package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/queue"
)

// This file is qmail-inject, and the sendmail that programs call. Their flags are not
// ours to choose, so they are read here and not by cobra.

// Exit statuses of qmail's programs.
const (
	exitPermanent = 100
	exitTemporary = 111
)

// permanent is an error that trying again does not mend.
type permanent struct{ error }

func (e permanent) Unwrap() error { return e.error }

func injectAsCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "qmail-inject [-nNaAhH] [-fSENDER] [RECIPIENT...]",
		Short: "Complete a message and queue it, as qmail-inject does",
		Long: `Takes a message on standard input, completes its header and its addresses, and queues
it, with the daemon up or down. The name qmail-inject does the same, as does sendmail
with its own flags.

  -a  to the recipients of the command line alone
  -h  to those of the header alone
  -A  to those of the command line, and of the header where there are none (default)
  -H  to both
  -n  print the message in the place of queueing it; -N: don't
  -f  the sender of the envelope

Environment: QMAILUSER, QMAILHOST, QMAILNAME, QMAILSUSER, QMAILSHOST, QMAILINJECT,
QMAILDEFAULTHOST, QMAILDEFAULTDOMAIN, QMAILPLUSDOMAIN, QMAILIDHOST, QMAILMFTFILE,
QMAILQUEUE; docs/qmail.md says what they do.

Exit status: 0 the message is safe, 100 it can't be, or was refused, 111 not now.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if wantsHelp(args) {
				return cmd.Help()
			}
			return injected(g, injectAs(cmd.Context(), g, args))
		},
	}
}

func sendmailCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "sendmail [-t] [-f SENDER] [-F NAME] [RECIPIENT...]",
		Short: "Take mail as sendmail does, for programs that call it",
		Long: `Takes a message on standard input for the recipients of the command line, and with
-t of the header too, and queues it as qmail-inject does. The names sendmail, mailq and
newaliases do what programs want of them.

  -t            recipients of To, Cc and Bcc too
  -f, -r        the sender of the envelope, and of From where there is none
  -F            the name in From where there is none
  -bm           this (default); -bp: as mailq, -bs: SMTP on standard input and output

Other flags that programs give are taken and mean nothing: -i, -v, -m, -n, -o…, -e…,
-q…, -O, -N, -R, -B, -p, -x, -E, -J, -G, -U, -A…, -h, -L, -V, -X, -C and whatever else.
-bd, -bi, -bt and -bv are refused.

Exit status: as of qmail-inject.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if wantsHelp(args) {
				return cmd.Help()
			}
			return sendmail(cmd, g, args)
		},
	}
}

// wantsHelp tells whether somebody asks what flags there are, where these are not cobra's.
func wantsHelp(args []string) bool { return len(args) == 1 && args[0] == "--help" }

// injected gives an error the status of qmail's programs.
func injected(g *global, err error) error {
	if err == nil {
		return nil
	}
	status := exitTemporary
	if _, ok := errors.AsType[permanent](err); ok {
		status = exitPermanent
	} else if r, ok := errors.AsType[message.Reply](err); ok && r.Permanent() {
		status = exitPermanent
	} else if s, ok := errors.AsType[qmail.Status](err); ok && s.Reply().Permanent() {
		status = exitPermanent
	}
	return exitError{status, err}
}

// injection is what a command line asks for.
type injection struct {
	composer   *qmail.Composer
	print      bool
	args       []string
	header, to bool // recipients of the header, of the command line
	either     bool // of the header only where the command line has none
}

// newInjection reads the environment.
func newInjection(c *config.Config, getenv func(string) string) (*injection, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	host := c.Server.Hostname
	named := func(name string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return host
	}
	k := &qmail.Composer{
		DefaultHost: named("QMAILDEFAULTHOST"), DefaultDomain: named("QMAILDEFAULTDOMAIN"), PlusDomain: named("QMAILPLUSDOMAIN"), IDHost: named("QMAILIDHOST"),
		User: first("QMAILUSER", "MAILUSER", "USER", "LOGNAME"), Host: first("QMAILHOST", "MAILHOST"), Name: first("QMAILNAME", "MAILNAME", "NAME"),
		SUser: getenv("QMAILSUSER"), SHost: getenv("QMAILSHOST"), Now: time.Now(), PID: os.Getpid(),
	}
	if k.User == "" {
		k.User = "anonymous"
	}
	for _, letter := range getenv("QMAILINJECT") {
		switch letter {
		case 'c':
			k.CommentName = true
		case 's':
			k.IgnoreReturnPath = true
		case 'f':
			k.DropFrom = true
		case 'i':
			k.DropMessageID = true
		case 'r':
			k.VERP = true
		case 'm':
			k.UniqueSender = true
		}
	}
	if file := getenv("QMAILMFTFILE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("QMAILMFTFILE: %w", err)
		}
		k.Lists = strings.Split(string(text), "\n")
	}
	return &injection{composer: k, header: true, to: true, either: true}, nil
}

// from sets the envelope's sender; <> is the null path.
func (o *injection) from(text string) error {
	k := o.composer
	k.HasSender, k.Sender = true, ""
	if text == "" || text == "<>" {
		return nil
	}
	var err error
	if k.Sender, err = k.Rewrite(text); err != nil {
		return permanent{fmt.Errorf("-f: %w", err)}
	}
	return nil
}

func injectAs(ctx context.Context, g *global, args []string) error {
	c, err := g.handing()
	if err != nil {
		return err
	}
	o, err := newInjection(c, os.Getenv)
	if err != nil {
		return err
	}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		flags := args[0][1:]
		args = args[1:]
		if flags == "-" {
			break
		}
		for flags != "" {
			letter := flags[0]
			flags = flags[1:]
			switch letter {
			case 'a':
				o.to, o.header, o.either = true, false, false
			case 'h':
				o.to, o.header, o.either = false, true, false
			case 'A':
				o.to, o.header, o.either = true, true, true
			case 'H':
				o.to, o.header, o.either = true, true, false
			case 'n', 'N':
				o.print = letter == 'n'
			case 'f':
				if flags == "" && len(args) > 0 {
					flags, args = args[0], args[1:]
				}
				if err := o.from(flags); err != nil {
					return err
				}
				flags = ""
			default:
				return permanent{fmt.Errorf("qmail-inject has no flag -%c; it has -nNaAhH and -fSENDER", letter)}
			}
		}
	}
	o.args = args
	return o.run(ctx, g, c)
}

// run completes the message and hands it over.
func (o *injection) run(ctx context.Context, g *global, c *config.Config) error {
	k := o.composer
	if o.to {
		for _, a := range o.args {
			to, err := k.Rewrite(a)
			if err != nil {
				return permanent{err}
			}
			k.Recipients = append(k.Recipients, to)
		}
	}
	k.FromHeader = o.header && !(o.either && len(k.Recipients) > 0)
	m, err := k.Compose(g.std.in)
	if errors.Is(err, qmail.ErrHeader) {
		return permanent{err}
	}
	if err != nil {
		return err
	}
	body := io.MultiReader(strings.NewReader(string(m.Head)), m.Body)
	switch {
	case o.print:
		_, err := io.Copy(g.std.out, body)
		return err
	case len(m.Recipients) == 0:
		return permanent{errors.New("the message has no recipient")}
	}
	if program := os.Getenv("QMAILQUEUE"); program != "" {
		if r := qmail.Hand(ctx, program, m.Sender, m.Recipients, body); !r.IsZero() {
			return r
		}
		return nil
	}
	return enqueue(ctx, c, m, body)
}

// enqueue is what qmail-queue does with a message whose envelope is known.
func enqueue(ctx context.Context, c *config.Config, m *qmail.Composed, body io.Reader) error {
	drop := queue.Drop{Arrived: time.Now(), Via: intake.QueueIn, Trace: fmt.Sprintf("(qmail %d invoked by uid %d)", os.Getpid(), os.Getuid())}
	var err error
	if drop.Sender, err = qmail.Address(m.Sender, c.Server.Hostname); err != nil {
		return permanent{fmt.Errorf("sender %q: %w", m.Sender, err)}
	}
	for _, raw := range m.Recipients {
		a, err := qmail.Address(raw, c.Server.EnvNoAtHost)
		if err == nil {
			err = errRecipient(a)
		}
		if err != nil {
			return permanent{fmt.Errorf("recipient %q: %w", raw, err)}
		}
		drop.Recipients = append(drop.Recipients, a)
	}
	spool, err := qmail.ReadSpool(filepath.Join(c.Server.DataDir, "drop"), body)
	if err != nil {
		return err
	}
	defer spool.Close()
	return handOver(ctx, c, drop, spool)
}

// valued are sendmail's flags that mean nothing here and have a value, which may be an
// argument of its own.
const valued = "BpONRXhCVLo"

func sendmail(cmd *cobra.Command, g *global, args []string) error {
	c, err := g.handing()
	if err != nil {
		return injected(g, err)
	}
	o, err := newInjection(c, os.Getenv)
	if err != nil {
		return injected(g, err)
	}
	o.header, o.either = false, false
	mode, name := byte('m'), ""
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		letter, value := args[0][1], args[0][2:]
		args = args[1:]
		if letter == '-' && value == "" {
			break
		}
		if value == "" && len(args) > 0 && strings.IndexByte("frF"+valued, letter) >= 0 {
			value, args = args[0], args[1:]
		}
		switch letter {
		case 't':
			o.header = true
		case 'f', 'r':
			if err := o.sendAs(value); err != nil {
				return injected(g, err)
			}
		case 'F':
			name = value
		case 'b':
			mode = (value + "m")[0]
		}
	}
	if name != "" {
		o.composer.Name = name
	}
	o.args = args
	switch mode {
	case 'm':
		return injected(g, o.run(cmd.Context(), g, c))
	case 'p':
		return mailq(cmd.Context(), g)
	case 's':
		return injected(g, smtpHere(cmd.Context(), g, c))
	}
	return injected(g, permanent{fmt.Errorf("sendmail -b%c is not for this program; postern serve is the daemon", mode)})
}

// sendAs sets the envelope's sender, and who the message is from where it does not say.
func (o *injection) sendAs(text string) error {
	if err := o.from(text); err != nil || o.composer.Sender == "" {
		return err
	}
	at := strings.LastIndexByte(o.composer.Sender, '@')
	o.composer.User, o.composer.Host, o.composer.Name = o.composer.Sender[:at], o.composer.Sender[at+1:], ""
	return nil
}

// mailq lists the queue. Programs that watch queues look for what it says of an empty one.
func mailq(ctx context.Context, g *global) error {
	return list(ctx, g, console.Filter{}, false, "Mail queue is empty")
}

func newaliasesCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:    "newaliases",
		Short:  "Refuse to make an alias database: there is none",
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			return injected(g, permanent{errors.New("there is no alias database to be made anew; maps are read when they change")})
		},
	}
}

// smtpHere speaks SMTP on standard input and output: with the daemon, at its first
// listener for SMTP.
func smtpHere(ctx context.Context, g *global, c *config.Config) error {
	for i := range c.Listen {
		l := &c.Listen[i]
		if l.Protocol != "smtp" || l.TLS == "implicit" || len(l.ProxyFrom) > 0 {
			continue
		}
		network, address := "tcp", l.Address
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			network, address = "unix", path
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		defer conn.Close()
		go func() { // ends when either side does
			_, _ = io.Copy(conn, g.std.in)
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		}()
		_, err = io.Copy(g.std.out, conn)
		return err
	}
	return errors.New("no [[listen]] speaks SMTP without TLS from the first byte")
}
