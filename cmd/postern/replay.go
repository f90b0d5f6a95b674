package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// replayFlags are what `replay` is told.
type replayFlags struct {
	against  []string
	old      string
	since    string
	client   string
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

What it is compared with: what was decided then, or, with --old, what that
configuration decides in the same replay. The second shows what a change of policies
does and nothing else: a greylist, say, that begins without a memory would defer the
same mail in both.

Exit status: 0 nothing changes, 1 something does (--fail-on), 2 wrong use, 3 the
daemon is down and there is no recording.`,
		Example: "  postern replay -c new.toml --since 1d\n  postern replay -c new.toml --old /etc/postern/postern.toml --against ~/corpus --json\n  postern replay -c new.toml --fail-on refusals",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return replay(cmd.Context(), g, f) },
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.against, "against", nil, "an .eml, mbox or Maildir, or a folder of them, `PATH`, in place of the recording; may be repeated")
	fl.StringVar(&f.old, "old", "", "the configuration `FILE` to compare with, in place of what was decided then")
	fl.StringVar(&f.since, "since", "", "mail of this last `DURATION`, such as 2h or 3d")
	fl.StringVar(&f.client, "client", "", "the client's `IP` of messages in files; default: that of their topmost Received field")
	fl.StringVar(&f.to, "to", "", "the recipient's `ADDRESS` of messages in files; default: the one of ours that they name")
	fl.StringVar(&f.failOn, "fail-on", "any", "the exit status is 1 on: `any` change, refusals of mail that passed, never")
	fl.IntVar(&f.examples, "examples", 3, "how many examples of each change are shown")
	fl.IntVar(&f.workers, "workers", runtime.NumCPU(), "how many messages are judged at a time")
	fl.BoolVar(&f.liveDNS, "live-dns", false, "ask the DNS what was not asked then")
	fl.BoolVar(&f.asJSON, "json", false, "print JSON")
	return c
}

// replayReport is `replay --json`.
type replayReport struct {
	Messages       int            `json:"messages"`
	Changed        int            `json:"changed"`
	HeaderOnly     int            `json:"header_only"`     // judged as far as stage headers
	UnknownLookups int            `json:"unknown_lookups"` // that were not asked when the mail came
	Verdicts       map[string]int `json:"verdicts"`        // of the configuration
	Changes        []replayChange `json:"changes"`         // the most frequent first

	refusals int // changes from mail that passed to mail that is refused
}

// replayChange is verdicts that change in the same way.
type replayChange struct {
	From     judgement       `json:"from"`
	To       judgement       `json:"to"`
	Count    int             `json:"count"`
	Examples []replayExample `json:"examples"`
}

type replayExample struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Client    string    `json:"client"`
	Sender    string    `json:"sender"`
	Recipient string    `json:"recipient"`
	Subject   string    `json:"subject,omitempty"`
	Was       string    `json:"was,omitempty"` // replies
	Now       string    `json:"now,omitempty"`
}

func replay(ctx context.Context, g *global, f replayFlags) error {
	if !slices.Contains([]string{"any", "refusals", "never"}, f.failOn) {
		return usageError{fmt.Errorf("--fail-on: write any, refusals or never, not %q", f.failOn)}
	}
	var facts fileFacts
	if f.client != "" {
		ip, err := netip.ParseAddr(f.client)
		if err != nil {
			return usageError{fmt.Errorf("--client: %w", err)}
		}
		facts.client = ip
	}
	facts.to = f.to
	since := time.Time{}
	if f.since != "" {
		d, err := config.ParseDuration(f.since)
		if err != nil {
			return usageError{fmt.Errorf("--since: %w", err)}
		}
		since = time.Now().Add(-d)
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
	report, err := compareAll(ctx, g.std.err, cases, now, then, f.examples)
	if err != nil {
		return err
	}
	if f.asJSON {
		err = json.NewEncoder(g.std.out).Encode(report)
	} else {
		report.print(g.std.out, then != nil || len(f.against) == 0)
	}
	if err == nil && (f.failOn == "any" && report.Changed > 0 || f.failOn == "refusals" && report.refusals > 0) {
		return exitError{status: exitNo}
	}
	return err
}

// replayCases opens what is replayed.
func replayCases(ctx context.Context, g *global, c *config.Config, f replayFlags, facts fileFacts, since time.Time) (iter.Seq2[*pastMail, error], func(), error) {
	if len(f.against) > 0 {
		return filed(ctx, c, f.against, facts), func() {}, nil
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

// compareAll judges every case and gathers what changes. Without other judges,
// and for files that have no past, nothing is compared.
func compareAll(ctx context.Context, progress io.Writer, cases iter.Seq2[*pastMail, error], now, then *judges, examples int) (*replayReport, error) {
	r := &replayReport{Verdicts: map[string]int{}, Changes: []replayChange{}}
	changes := map[string]*replayChange{}
	bar := newProgress(progress, "replaying", -1)
	defer bar.end()
	var mu sync.Mutex
	err := parted(ctx, cases, len(now.all), func(worker int, p *pastMail) {
		is := now.all[worker].judge(ctx, p)
		was := p.was
		if then != nil {
			other := then.all[worker].judge(ctx, p)
			was = &other
		}
		if was != nil && is.Verdict == headerOnly {
			cut := was.asHeaderOnly()
			was = &cut
		}
		mu.Lock()
		defer mu.Unlock()
		r.Messages++
		r.Verdicts[is.Verdict]++
		if !p.whole {
			r.HeaderOnly++
		}
		bar.at(r.Messages)
		if was == nil || is.same(*was) {
			return
		}
		r.Changed++
		if passes(was.Verdict) && !passes(is.Verdict) {
			r.refusals++
		}
		key := strings.Join([]string{was.Verdict, was.Policy, was.Stage, is.Verdict, is.Policy, is.Stage}, "\x00")
		one := changes[key]
		if one == nil {
			one = &replayChange{From: judgement{Verdict: was.Verdict, Policy: was.Policy, Stage: was.Stage}, To: judgement{Verdict: is.Verdict, Policy: is.Policy, Stage: is.Stage}, Examples: []replayExample{}}
			changes[key] = one
		}
		one.Count++
		if len(one.Examples) < examples {
			one.Examples = append(one.Examples, p.example(was, &is))
		}
	})
	for _, j := range now.all {
		r.UnknownLookups += j.resolver.Unknown
	}
	for _, one := range changes {
		r.Changes = append(r.Changes, *one)
	}
	slices.SortFunc(r.Changes, func(a, b replayChange) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.From.String()+a.To.String(), b.From.String()+b.To.String()))
	})
	return r, err
}

// passes tells whether mail with that verdict reaches anybody.
func passes(verdict string) bool {
	return verdict == record.Queued.String() || verdict == headerOnly
}

func (p *pastMail) example(was, is *judgement) replayExample {
	e := replayExample{ID: p.id, Time: p.at, Client: p.session.Client.Addr().Unmap().String(), Sender: p.sender, Subject: p.subject, Was: was.Reply, Now: is.Reply}
	if len(p.recipients) > 0 {
		e.Recipient = p.recipients[0]
	}
	return e
}

// String is the judgement in a line for people.
func (j judgement) String() string {
	s := j.Verdict
	if j.Policy != "" && !passes(j.Verdict) {
		s += " by " + record.Clean(j.Policy)
		if j.Stage != "" && j.Stage != hooks.Stage(0).String() {
			s += " at " + j.Stage
		}
	}
	return s
}

func (r *replayReport) print(w io.Writer, compared bool) {
	fmt.Fprintf(w, "%s", count(r.Messages, "message"))
	for _, verdict := range sortedByCount(r.Verdicts) {
		fmt.Fprintf(w, ", %d %s", r.Verdicts[verdict], verdict)
	}
	fmt.Fprintln(w)
	if r.HeaderOnly > 0 {
		fmt.Fprintf(w, "%s judged as far as stage headers: only that much of the mail is kept\n", count(r.HeaderOnly, "message"))
	}
	if r.UnknownLookups > 0 {
		fmt.Fprintf(w, "%s without an answer: nobody asked that when the mail came\n", count(r.UnknownLookups, "look-up"))
	}
	if !compared {
		return
	}
	if r.Changed == 0 {
		fmt.Fprintln(w, "no verdict changes")
		return
	}
	fmt.Fprintf(w, "%s changed\n", count(r.Changed, "verdict"))
	for _, one := range r.Changes {
		fmt.Fprintf(w, "\n%6d  %s → %s\n", one.Count, one.From, one.To)
		for _, e := range one.Examples {
			fmt.Fprintf(w, "        %s  <%s> → <%s>  %s  %q\n", record.Clean(e.ID), record.Clean(e.Sender), record.Clean(e.Recipient), e.Client, record.Clean(e.Subject))
			if e.Now != "" && !passes(one.To.Verdict) {
				fmt.Fprintf(w, "          now: %s\n", record.Clean(e.Now))
			}
		}
	}
}

func sortedByCount(m map[string]int) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b)) })
	return names
}
