package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/record"
)

// replayFlags are what `replay` is told.
type replayFlags struct {
	against  []string
	ham      []string
	spam     []string
	old      string
	since    string
	retry    string
	client   string
	behind   []string
	to       string
	failOn   string
	examples int
	workers  int
	liveDNS  bool
	asJSON   bool
}

func replayCommand(g *global) *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay",
		Short: "Run past mail through a configuration and show what would change",
		Long: `Takes mail that the flight recorder keeps, or messages in files, through the
policies, the recipient rule and the score of the configuration (-c), and tells how
many verdicts would be others, from what to what, with examples.

Nothing is delivered, no real memory or queue is touched, and nobody is asked over
the network: look-ups are answered as they were when the mail came, what was not
asked then fails for now and is counted (--live-dns asks). The clock says the time
of then. Mail of which the recorder has the header section alone ([recorder] bodies
is off, or it was over 64 KiB) is judged as far as stage headers, and counted.

With --ham and --spam the messages in files are labelled: the report is then how many
of each are refused, quarantined, tagged, deferred and let through, by which policy,
and which points spoke for and against. Files of both are taken to come in at the
times that their Received fields tell; a greylist defers all of them, unless --retry
has senders come again.

What it is compared with: what was decided then, or, with --old, what that
configuration decides in the same replay. The second shows what a change of policies
does and nothing else: a greylist, say, that begins without a memory would defer the
same mail in both.

Exit status: 0 nothing changes, or no ham is refused, 1 else (--fail-on), 2 wrong use, 3 the
daemon is down and there is no recording.`,
		Example: "  postern replay -c new.toml --since 1d\n  postern replay -c new.toml --old /etc/postern/postern.toml --against ~/corpus --json\n  postern replay -c new.toml --fail-on refusals\n  postern replay --ham ~/Maildir/ --spam ~/Maildir/.Junk --retry 10m",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%q: messages in files are named by --against, or by --ham and --spam where people sorted them", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return replay(cmd.Context(), g, f) },
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.against, "against", nil, "an .eml, mbox or Maildir, or a folder of them, `PATH`, in place of the recording; may be repeated")
	fl.StringArrayVar(&f.ham, "ham", nil, "as --against, mail that is wanted; may be repeated")
	fl.StringArrayVar(&f.spam, "spam", nil, "as --against, mail that is not wanted; may be repeated")
	fl.StringVar(&f.old, "old", "", "the configuration `FILE` to compare with, in place of what was decided then")
	fl.StringVar(&f.since, "since", "", "mail of this last `DURATION`, such as 2h or 3d")
	fl.StringVar(&f.retry, "retry", "", "what is deferred comes again after this `DURATION`, once, as an honest server's mail does")
	fl.StringVar(&f.client, "client", "", "the client's `IP` of messages in files; default: that of the topmost Received field that tells of another host")
	fl.StringSliceVar(&f.behind, "behind", nil, "`NETWORKS` of relays of ours, whose Received fields are passed over in files")
	fl.StringVar(&f.to, "to", "", "the recipient's `ADDRESS` of messages in files; default: the one of ours that they name")
	fl.StringVar(&f.failOn, "fail-on", "any", "the exit status is 1 on: `any` change, refusals of mail that passed or is ham, never")
	fl.IntVar(&f.examples, "examples", 3, "how many examples of each change are shown")
	fl.IntVar(&f.workers, "workers", runtime.NumCPU(), "how many messages are judged at a time")
	fl.BoolVar(&f.liveDNS, "live-dns", false, "ask the DNS what was not asked then")
	fl.BoolVar(&f.asJSON, "json", false, "print JSON")
	return c
}

func replay(ctx context.Context, g *global, f replayFlags) error {
	if !slices.Contains([]string{"any", "refusals", "never"}, f.failOn) {
		return usageError{fmt.Errorf("--fail-on: write any, refusals or never, not %q", f.failOn)}
	}
	facts, err := f.facts()
	if err != nil {
		return err
	}
	since := time.Time{}
	if f.since != "" {
		d, err := config.ParseDuration(f.since)
		if err != nil {
			return usageError{fmt.Errorf("--since: %w", err)}
		}
		since = time.Now().Add(-d)
	}
	var retry time.Duration
	if f.retry != "" {
		if retry, err = config.ParseDuration(f.retry); err != nil {
			return usageError{fmt.Errorf("--retry: %w", err)}
		}
	}
	c, err := g.settled()
	if err != nil {
		return err
	}
	var live dns.Resolver
	if f.liveDNS {
		r, err := dns.New(dnsOptions(c))
		if err != nil {
			return err
		}
		defer r.Close()
		live = r
	}
	n := max(f.workers, 1)
	now, err := openJudges(g, c, n, live)
	if err != nil {
		return err
	}
	defer now.close()
	var then *judges
	if f.old != "" {
		og := &global{std: g.std, file: f.old}
		oc, err := og.settled()
		if err != nil {
			return fmt.Errorf("--old: %w", err)
		}
		if then, err = openJudges(og, oc, n, live); err != nil {
			return fmt.Errorf("--old: %w", err)
		}
		defer then.close()
	}
	cases, done, err := replayCases(ctx, g, c, f, facts, since)
	if err != nil {
		return err
	}
	defer done()
	report, err := compareAll(ctx, g.std.err, cases, comparison{now, then, retry, f.examples})
	if err != nil {
		return err
	}
	if f.asJSON {
		err = json.NewEncoder(g.std.out).Encode(report)
	} else {
		report.print(g.std.out, then != nil || !f.fromFiles())
	}
	if err == nil && (f.failOn == "any" && report.Changed > 0 || f.failOn != "never" && report.refusals > 0) {
		return exitError{status: exitNo}
	}
	return err
}

// fromFiles tells whether files are replayed and not a recording.
func (f *replayFlags) fromFiles() bool { return len(f.against)+len(f.ham)+len(f.spam) > 0 }

// facts are what is said of the messages in files.
func (f *replayFlags) facts() (facts fileFacts, err error) {
	if f.client != "" {
		if facts.client, err = netip.ParseAddr(f.client); err != nil {
			return facts, usageError{fmt.Errorf("--client: %w", err)}
		}
	}
	for _, one := range f.behind {
		p, err := netip.ParsePrefix(one)
		if err != nil {
			ip, err := netip.ParseAddr(one)
			if err != nil {
				return facts, usageError{fmt.Errorf("--behind: %q is neither an address nor a network such as 10.0.0.0/8", one)}
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		facts.behind = append(facts.behind, p.Masked())
	}
	facts.to = f.to
	return facts, nil
}

// replayCases opens what is replayed.
func replayCases(ctx context.Context, g *global, c *config.Config, f replayFlags, facts fileFacts, since time.Time) (iter.Seq2[*pastMail, error], func(), error) {
	if f.fromFiles() {
		return filed(ctx, c, []files{{"", f.against}, {labelHam, f.ham}, {labelSpam, f.spam}}, facts), func() {}, nil
	}
	client, err := dial(c)
	if err == nil {
		return recorded(client.Stories(ctx, since)), client.Close, nil
	}
	if !isDown(err) {
		return nil, nil, err
	}
	r, err := record.Open(filepath.Join(c.Server.DataDir, "record"), record.Options{ReadOnly: true})
	if err != nil {
		return nil, nil, exitError{exitOffline, fmt.Errorf("there is no recording to replay: %w; name files with --against", err)}
	}
	return recorded(r.Stories(ctx, since, time.Time{})), func() { _ = r.Close() }, nil
}
