package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postern-mta/postern/core/analyze"
)

// asFilter is the flag of those commands when they are called by names of their own,
// as qmailanalog's programs are: without files they read standard input, and the state
// of matchup goes to descriptor 5.
const asFilter = "as-filter"

// analyzer is a command below analyze, of the name that qmailanalog's program has.
type analyzer struct {
	name, short string
	takes       string // what its first argument is; "": a file already
	set         func(f *analyze.Filter, arg string)
	lines       func(w *bufio.Writer) analyze.Sink // what writes a line for each; nil: it makes a table
	report      func() analyze.Report
	table       func(r analyze.Report) *analyze.Table // nil: r.Table
}

func matchedLines(w *bufio.Writer) analyze.Sink { return &analyze.Lines{W: w} }

// analyzers are the commands, the reports among them in the order of the overview.
var analyzers = []analyzer{
	{name: "matchup", short: "Pair starts and ends, and print a line for each delivery and message", lines: matchedLines},
	{name: "xsender", short: "Keep what is of a SENDER", takes: "SENDER", lines: matchedLines, set: func(f *analyze.Filter, arg string) { f.Sender = arg }},
	{name: "xrecipient", short: "Keep what is to a RECIPIENT, such as remote.joe@example.net", takes: "RECIPIENT", lines: matchedLines, set: func(f *analyze.Filter, arg string) { f.Recipient = arg }},
	{name: "xqp", short: "Keep what is of one message: its QP, which is Postern's id", takes: "QP", lines: matchedLines, set: func(f *analyze.Filter, arg string) { f.QP = arg }},
	{name: "zoverall", short: "Totals and averages", report: func() analyze.Report { return &analyze.Overall{} }},
	{name: "zddist", short: "Within what time which part of the mail was delivered", report: func() analyze.Report { return &analyze.Distribution{} }},
	{name: "zdeferrals", short: "Reasons of deferrals", report: func() analyze.Report { return analyze.NewReasons(analyze.Deferral) }},
	{name: "zfailures", short: "Reasons of failures", report: func() analyze.Report { return analyze.NewReasons(analyze.Failure) }},
	{name: "zsuccesses", short: "Reasons of successes", report: func() analyze.Report { return analyze.NewReasons(analyze.Success) }},
	{name: "zrecipients", short: "Recipients", report: func() analyze.Report { return &analyze.Recipients{} }},
	{name: "zrhosts", short: "Recipients' hosts", report: func() analyze.Report { return &analyze.Hosts{} }},
	{name: "zrxdelay", short: "Recipients, the quickest first", report: func() analyze.Report { return &analyze.Recipients{} }, table: func(r analyze.Report) *analyze.Table { return r.(*analyze.Recipients).Order() }},
	{name: "zsenders", short: "Senders", report: func() analyze.Report { return analyze.NewSenders(false) }},
	{name: "zsuids", short: "Who handed mail over", report: func() analyze.Report { return analyze.NewSenders(true) }},
	{name: "zsendmail", short: "A line for each delivery and message, as sendmail logs them", lines: func(w *bufio.Writer) analyze.Sink { return &analyze.Listing{W: w} }},
}

func (a *analyzer) tableOf(r analyze.Report) *analyze.Table {
	if a.table != nil {
		return a.table(r)
	}
	return r.Table()
}

// analyzeFlags is what the commands were called with.
type analyzeFlags struct {
	g            *global
	since, until momentFlag
	filter       analyze.Filter
	state        string
	json, csv    bool
	html         string
	top, rows    int // of the overview, of one report
	asFilter     bool
}

func analyzeCommand(g *global) *cobra.Command {
	f := &analyzeFlags{g: g}
	c := &cobra.Command{
		Use:   "analyze [FILE|DIR|-]...",
		Short: "Statistics of mail, from the recorder, from logs of ours or of qmail",
		Long: `Adds up what became of mail: the reports of qmailanalog, and charts. Without files it
reads the flight recorder, with the daemon down too. Files are logs of qmail-send with
time stamps (multilog's, splogger's, accustamp's), of Postern in any format, or what
matchup made of them; a folder is multilog's, - is standard input, and .gz is unpacked.
What a line is it finds out by itself.

All reports come with their first rows and with charts; a command of a report's name
prints it whole. With --state a log may be read in chunks: what was not over at the end
of one is in FILE for the next.

Exit status: 0 done, 1 nothing was understood or is on record, 2 wrong use.`,
		Example: `  postern analyze
  postern analyze --since 1d --html mail.html
  postern analyze /var/log/qmail
  postern analyze zsenders --sender list@lists.example /var/log/qmail/@*.s --csv
  postern analyze matchup --state seen /var/log/qmail/@400000006748*.s > matched`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return f.overview(cmd.Context(), args) },
	}
	fl := c.PersistentFlags()
	fl.Var(&f.since, "since", "of the recorder, only what happened since: "+momentHelp)
	fl.Var(&f.until, "until", "of the recorder, only what happened before")
	fl.StringVar(&f.filter.Sender, "sender", "", "only of this `ADDRESS`; <>: the null sender")
	fl.StringVar(&f.filter.Recipient, "recipient", "", "only to this `ADDRESS`, also as CHANNEL.ADDRESS; messages have none, so reports of them are empty")
	fl.StringVar(&f.filter.QP, "qp", "", "only of the message with this `QP` or id")
	fl.StringVar(&f.state, "state", "", "begin with what is in `FILE`, where there is one, and leave in it what is not over")
	fl.BoolVar(&f.asFilter, asFilter, false, "")
	_ = fl.MarkHidden(asFilter) // the flag is there
	f.outputFlags(c, &f.top, 10)
	c.Flags().BoolVar(&f.csv, "csv", false, "") // so that it may stand in front of a report's name, too
	_ = c.Flags().MarkHidden("csv")
	c.Flags().StringVar(&f.html, "html", "", "write everything into `FILE` too, as a page that needs no other")
	for i := range analyzers {
		c.AddCommand(f.command(&analyzers[i]))
	}
	return c
}

func (f *analyzeFlags) outputFlags(c *cobra.Command, top *int, usual int) {
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	c.Flags().IntVar(top, "top", usual, "so `MANY` rows at most, those that count most; 0: all, in qmailanalog's order")
}

func (f *analyzeFlags) command(a *analyzer) *cobra.Command {
	use := a.name
	if a.takes != "" {
		use += " " + a.takes
	}
	c := &cobra.Command{
		Use: use + " [FILE|DIR|-]...", Short: a.short, Args: cobra.ArbitraryArgs,
		Long: a.short + ".\n\nSee 'postern analyze --help' for what it reads.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.takes != "" {
				if len(args) == 0 {
					return usageError{fmt.Errorf("%s: say which %s", a.name, a.takes)}
				}
				a.set(&f.filter, args[0])
				args = args[1:]
			}
			if a.lines != nil {
				return f.stream(cmd.Context(), a, args)
			}
			return f.single(cmd.Context(), a, args)
		},
	}
	if a.lines == nil {
		f.outputFlags(c, &f.rows, 0)
		c.Flags().BoolVar(&f.csv, "csv", false, "print CSV")
	}
	return c
}

// stream prints a line for each delivery and message.
func (f *analyzeFlags) stream(ctx context.Context, a *analyzer, args []string) error {
	w := bufio.NewWriter(f.g.std.out)
	var other func([]byte) error
	if a.name == "matchup" {
		other = func(line []byte) error {
			_, err := w.Write(append(line, '\n'))
			return err
		}
	}
	err := f.read(ctx, args, a.lines(w), other)
	return errors.Join(w.Flush(), err)
}

// single prints one report.
func (f *analyzeFlags) single(ctx context.Context, a *analyzer, args []string) error {
	if f.json && f.csv {
		return usageError{errors.New("--json or --csv, not both")}
	}
	if f.rows < 0 {
		return usageError{errors.New("--top: write how many rows, 0 for all")}
	}
	r := a.report()
	if err := f.read(ctx, args, r, nil); err != nil {
		return err
	}
	t := a.tableOf(r)
	left := t.Top(f.rows)
	switch {
	case f.json:
		return json.NewEncoder(f.g.std.out).Encode(t)
	case f.csv:
		return t.WriteCSV(f.g.std.out)
	}
	return f.print(t, left, "")
}

// print writes a table, and what is not in it.
func (f *analyzeFlags) print(t *analyze.Table, left int, more string) error {
	if err := t.WriteText(f.g.std.out); err != nil {
		return err
	}
	if left > 0 {
		if _, err := fmt.Fprintf(f.g.std.out, "and %d more%s\n", left, more); err != nil {
			return err
		}
	}
	if t.Folded > 0 {
		_, err := fmt.Fprintf(f.g.std.out, "There were more than %d names: %d times one with few attempts went into (others); all rows together are exact.\n", analyze.MaxNames, t.Folded)
		return err
	}
	return nil
}

// unknownReport tells of a first argument that is neither a report nor a file.
func unknownReport(args []string) error {
	if len(args) == 0 || strings.ContainsAny(args[0], "/.") || args[0] == "-" {
		return nil
	}
	if _, err := os.Lstat(args[0]); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	names := make([]string, len(analyzers))
	for i := range analyzers {
		names[i] = analyzers[i].name
	}
	return usageError{fmt.Errorf("%q is neither a file nor a report; reports are %s", args[0], strings.Join(names, ", "))}
}

// overview prints all reports, and the charts.
func (f *analyzeFlags) overview(ctx context.Context, args []string) error {
	if f.csv {
		return usageError{errors.New("--csv prints one report; say which: postern analyze zoverall --csv")}
	}
	if f.top < 0 {
		return usageError{errors.New("--top: write how many rows, 0 for all")}
	}
	if err := unknownReport(args); err != nil {
		return err
	}
	series, delays, recipients := &analyze.Series{}, &analyze.Distribution{}, &analyze.Recipients{}
	sinks := analyze.Sinks{series}
	reports := map[string]analyze.Report{"zddist": delays, "zrecipients": recipients, "zrxdelay": recipients}
	heard := map[analyze.Report]bool{}
	for i := range analyzers {
		a := &analyzers[i]
		if a.report == nil {
			continue
		}
		r := reports[a.name]
		if r == nil {
			r = a.report()
			reports[a.name] = r
		}
		if !heard[r] {
			heard[r] = true
			sinks = append(sinks, r)
		}
	}
	if err := f.read(ctx, args, sinks, nil); err != nil {
		return err
	}
	var tables []*analyze.Table
	var left []int
	for i := range analyzers {
		if a := &analyzers[i]; a.report != nil {
			t := a.tableOf(reports[a.name])
			tables, left = append(tables, t), append(left, t.Top(f.top))
		}
	}
	if f.html != "" {
		err := writeFile(f.html, func(w io.Writer) error {
			return analyze.Page(w, "Mail of "+f.source(args), delays, series, tables, left)
		})
		if err != nil {
			return err
		}
	}
	if f.json {
		return f.encode(tables, series)
	}
	for i, t := range tables {
		if i > 0 {
			fmt.Fprintln(f.g.std.out)
		}
		if t.Name == "zdeferrals" { // behind the totals and the delays
			if err := analyze.Charts(f.g.std.out, delays, series, columns(f.g.std.out)); err != nil {
				return err
			}
			fmt.Fprintln(f.g.std.out)
		}
		if err := f.print(t, left[i], ": postern analyze "+t.Name); err != nil {
			return err
		}
	}
	return nil
}

func (f *analyzeFlags) encode(tables []*analyze.Table, s *analyze.Series) error {
	type part struct {
		Start      string `json:"start"`
		Successes  int64  `json:"successes"`
		Failures   int64  `json:"failures"`
		Deferrals  int64  `json:"deferrals"`
		Bytes      int64  `json:"bytes"`
		Completed  int64  `json:"completed"`
		StepSecond int64  `json:"seconds"`
	}
	start, parts := s.Within(1000)
	list := make([]part, len(parts))
	for i, p := range parts {
		list[i] = part{start[i].Format("2006-01-02T15:04:05Z"), p.Successes, p.Failures, p.Deferrals, p.Bytes, p.Messages, int64(s.Width().Seconds())}
	}
	return json.NewEncoder(f.g.std.out).Encode(struct {
		Reports []*analyze.Table `json:"reports"`
		Series  []part           `json:"series"`
	}{tables, list})
}

func (f *analyzeFlags) source(args []string) string {
	if len(args) == 0 {
		return "the flight recorder"
	}
	if len(args) > 3 {
		return fmt.Sprintf("%s and %d more files", args[0], len(args)-1)
	}
	return strings.Join(args, ", ")
}

// columns is how wide the terminal is; 80 where there is none.
func columns(w io.Writer) int {
	if file, ok := w.(*os.File); ok {
		if wide, _, err := term.GetSize(int(file.Fd())); err == nil && wide > 40 {
			return min(wide, 160)
		}
	}
	return 80
}
