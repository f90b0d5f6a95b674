package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"
	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/auth/feedback"
)

// maxReportFiles bounds the files of one call.
const maxReportFiles = 100_000

type dmarcReportFlags struct {
	g    *global
	json bool
	svg  string
	by   string
	top  int
}

func dmarcReportCommand(g *global) *cobra.Command {
	f := dmarcReportFlags{g: g}
	c := &cobra.Command{
		Use:   "report FILE|DIR|-...",
		Short: "Read the aggregate reports that receivers send",
		Long: `Reads DMARC aggregate reports and adds them up: who sends in your domains' names, what
of it passes, and what became of it. Files are XML, packed by gzip or zip, or the
messages that carry them; of a folder, such as a Maildir, all files below it. The same
report counts once. A file that can't be read is told, and the rest goes on.

The table begins with the sources of most mail that failed. --svg draws the plot of the
days into a file; the terminal shows it as text.

Exit status: 0 every file was read, 1 some could not be, or there was no report, 2 wrong use.`,
		Example: `  postern dmarc report google.com!example.net!1764547200!1764633599.zip
  postern dmarc report ~/Maildir/.dmarc --by reporter --svg dmarc.svg
  postern dmarc report reports --json`,
		Args: expects(-1, "a FILE or folder of reports, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), args) },
	}
	fl := c.Flags()
	fl.BoolVar(&f.json, "json", false, "print the sums and every report as JSON")
	fl.StringVar(&f.svg, "svg", "", "draw the plot into `FILE`")
	fl.StringVar(&f.by, "by", "source", "what the table is about: source, domain, reporter or day")
	fl.IntVar(&f.top, "top", 20, "so `MANY` rows of the table at most")
	return c
}

func (f *dmarcReportFlags) run(ctx context.Context, args []string) error {
	rows := map[string]func(*feedback.Tally) []feedback.Count{
		"source":   func(t *feedback.Tally) []feedback.Count { return t.Sources },
		"domain":   func(t *feedback.Tally) []feedback.Count { return t.Domains },
		"reporter": func(t *feedback.Tally) []feedback.Count { return t.Reporter },
		"day":      func(t *feedback.Tally) []feedback.Count { return t.Days },
	}[f.by]
	if rows == nil {
		return usageError{fmt.Errorf("--by %q: write source, domain, reporter or day", f.by)}
	}
	if f.top < 1 {
		return usageError{errors.New("--top: write how many rows, at least 1")}
	}
	reports, failed, err := f.read(ctx, args)
	if err != nil {
		return err
	}
	tally := feedback.Sum(reports)
	if f.svg != "" && tally.Reports > 0 {
		if err := os.WriteFile(f.svg, []byte(feedback.Plot(&tally)), 0o644); err != nil {
			return err
		}
	}
	if f.json {
		err = json.NewEncoder(f.g.std.out).Encode(struct {
			feedback.Tally
			All []feedback.Report `json:"all"`
		}{tally, reports})
	} else if tally.Reports > 0 {
		err = f.print(&tally, rows(&tally))
	}
	switch {
	case err != nil:
		return err
	case tally.Reports == 0 && failed == 0:
		return errors.New("there is no aggregate report")
	case failed > 0:
		return exitError{exitNo, nil}
	}
	return nil
}

// read reads all files; those that can't be read are told on standard error.
func (f *dmarcReportFlags) read(ctx context.Context, args []string) (reports []feedback.Report, failed int, err error) {
	files := 0
	one := func(path string, in io.Reader, asked bool) error {
		if files++; files > maxReportFiles {
			return fmt.Errorf("more than %d files", maxReportFiles)
		}
		b, err := io.ReadAll(io.LimitReader(in, feedback.MaxFile+1))
		if err == nil {
			var list []feedback.Report
			list, err = feedback.Read(b)
			reports = append(reports, list...)
		}
		if err != nil && (asked || !errors.Is(err, feedback.ErrNone)) { // a folder has other files, too
			failed++
			fmt.Fprintf(f.g.std.err, "postern: %s: %v\n", path, err)
		}
		return ctx.Err()
	}
	for _, arg := range args {
		if arg == "-" {
			if err := one("standard input", f.g.std.in, true); err != nil {
				return nil, 0, err
			}
			continue
		}
		err := filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !d.Type().IsRegular() && path != arg || d.IsDir() {
				return nil
			}
			in, err := os.Open(path)
			if err != nil {
				return err
			}
			return errors.Join(one(path, in, path == arg), in.Close())
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return reports, failed, nil
}

func (f *dmarcReportFlags) print(t *feedback.Tally, rows []feedback.Count) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s to %s\n", count(t.Reports, "report"), t.Begin.Format(time.DateOnly), t.End.Format(time.DateOnly))
	fmt.Fprintf(&b, "%s: %d passed, %d failed (%.1f %%)\n\n", count(int(t.Messages), "message"), t.Passed, t.Failed, part(t.Failed, t.Messages))
	width := len(f.by)
	for _, c := range rows[:min(len(rows), f.top)] {
		width = max(width, displaywidth.String(shown(c.Name)))
	}
	width = min(width, 45)
	fmt.Fprintf(&b, "%-*s  %9s  %9s  %9s  %9s  %9s  %9s\n", width, strings.ToUpper(f.by), "MESSAGES", "FAILED", "SPF", "DKIM", "QUARANT.", "REJECTED")
	for i, c := range rows {
		if i == f.top {
			fmt.Fprintf(&b, "and %d more: --top %d\n", len(rows)-i, len(rows))
			break
		}
		fmt.Fprintf(&b, "%s  %9d  %9d  %9d  %9d  %9d  %9d\n", padded(shown(c.Name), width), c.Messages, c.Messages-c.Passed, c.SPF, c.DKIM, c.Quarantined, c.Rejected)
	}
	b.WriteString("\n")
	f.plot(&b, t.Days)
	_, err := io.WriteString(f.g.std.out, b.String())
	return err
}

// plot is a bar a day: what passed, and what failed.
func (f *dmarcReportFlags) plot(b *strings.Builder, days []feedback.Count) {
	const width, most = 50, 62
	if len(days) > most {
		fmt.Fprintf(b, "the last %d days\n", most)
		days = days[len(days)-most:]
	}
	highest := int64(1)
	for _, d := range days {
		highest = max(highest, d.Messages)
	}
	for _, d := range days {
		whole := int((d.Messages*width + highest - 1) / highest)
		failed := 0
		if bad := d.Messages - d.Passed; bad > 0 {
			failed = max(1, int(bad*int64(whole)/d.Messages))
		}
		fmt.Fprintf(b, "%s  %s%s %d", d.Name, strings.Repeat("█", whole-failed), strings.Repeat("░", failed), d.Messages)
		if d.Messages > d.Passed {
			fmt.Fprintf(b, ", %d failed", d.Messages-d.Passed)
		}
		b.WriteString("\n")
	}
}

// padded is a text in so many columns, cut where it is longer.
func padded(s string, width int) string {
	if displaywidth.String(s) > width {
		r := []rune(s)
		for len(r) > 0 && displaywidth.String(string(r)) > width-1 {
			r = r[:len(r)-1]
		}
		s = string(r) + "…"
	}
	return s + strings.Repeat(" ", width-displaywidth.String(s))
}

func part(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}
