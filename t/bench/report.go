//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what a run found: the JSON of -json, and the source of table and plot.
type report struct {
	Bench    string    `json:"bench"`
	When     time.Time `json:"when"`
	Commit   string    `json:"commit"`
	Machine  string    `json:"machine"`
	Cores    int       `json:"cores"`
	Load     float64   `json:"load"` // of the minute before, at the start
	Go       string    `json:"go"`
	Settings string    `json:"settings"`
	Targets  []target  `json:"targets,omitempty"`
	Sections []section `json:"sections"`
}

// section is a table, and its ratios.
type section struct {
	Title  string `json:"title"`
	Note   string `json:"note,omitempty"`
	Rows   []row  `json:"rows"`
	Ratios []row  `json:"ratios,omitempty"`
}

type row struct {
	Name    string   `json:"name"`
	Figures []figure `json:"figures"`
}

// figure is one number, as often as it was measured.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
}

// target is what is aimed at: a median within a limit.
type target struct {
	What    string  `json:"what"`
	Unit    string  `json:"unit"` // "": a ratio
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least"` // the limit is the least and not the most
	Got     float64 `json:"got"`
}

func (t target) met() bool { return t.AtLeast == (t.Got >= t.Limit) || t.Got == t.Limit }

// want is the limit for people.
func (t target) want() string {
	sign := "≤ "
	if t.AtLeast {
		sign = "≥ "
	}
	return strings.TrimSpace(sign + digits(t.Limit) + " " + t.Unit)
}

func (b *bench) report(name, settings string) *report {
	r := &report{Bench: name, When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Cores: runtime.NumCPU(), Go: runtime.Version(), Settings: settings}
	if out, err := exec.Command("git", "-C", b.root, "describe", "--always", "--dirty").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &r.Load) // left out where it can't be told
	}
	return r
}

// median of a figure, where it was measured.
func (r *report) median(title, name, fig string) (float64, bool) {
	for _, s := range r.Sections {
		if s.Title != title {
			continue
		}
		for _, line := range append(slices.Clone(s.Rows), s.Ratios...) {
			for _, f := range line.Figures {
				if line.Name == name && f.Name == fig && len(f.Values) > 0 {
					return f.median(), true
				}
			}
		}
	}
	return 0, false
}

func (f figure) median() float64 {
	s := slices.Sorted(slices.Values(f.Values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// String is minimum / median / maximum, or the one value.
func (f figure) String() string {
	switch len(f.Values) {
	case 0:
		return ""
	case 1:
		return digits(f.Values[0])
	}
	return digits(slices.Min(f.Values)) + " / " + digits(f.median()) + " / " + digits(slices.Max(f.Values))
}

// digits prints as many as there is sense in.
func digits(x float64) string {
	if x >= 1000 || x <= -1000 || x == 0 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// tell prints the report, and writes it where it was asked to.
func (b *bench) tell(r *report) error {
	fmt.Print(r.markdown())
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if b.json != "" {
		if err := os.WriteFile(b.json, text, 0o644); err != nil {
			return err
		}
	}
	if !b.write {
		return nil
	}
	dir := filepath.Join(b.root, "docs/benchmarks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, r.Bench+".json"), text, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, r.Bench+".svg"), []byte(r.plot()), 0o644); err != nil {
		return err
	}
	plot := fmt.Sprintf("![The figures as bars](benchmarks/%s.svg)\n\n", r.Bench)
	return writeBetween(filepath.Join(b.root, "docs/benchmarks.md"), r.Bench, plot+r.markdown())
}

// runDraw writes into the documents what reports say that were written before.
func runDraw(files []string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		r := &report{}
		if err := json.Unmarshal(text, r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		b := &bench{write: true}
		if b.root, err = repository(); err != nil {
			return err
		}
		if err := b.tell(r); err != nil {
			return err
		}
	}
	return nil
}

// writeBetween replaces what stands between a document's marks of that name.
func writeBetween(file, name, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	open, end := "<!-- bench "+name+" -->\n", "<!-- end "+name+" -->\n"
	before, rest, ok := strings.Cut(string(old), open)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no lines %q and %q", file, strings.TrimSpace(open), strings.TrimSpace(end))
	}
	return os.WriteFile(file, []byte(before+open+text+end+after), 0o644)
}

// markdown is the report for people.
func (r *report) markdown() string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s, commit %s, %d cores (%s), %s, load %.1f at the start.\n%s\n", r.When.Format(time.DateOnly), r.Commit, r.Cores, r.Machine, r.Go, r.Load, r.Settings)
	if len(r.Targets) > 0 {
		w.WriteString("\n| target | aimed at | median | |\n|---|---|---|---|\n")
		for _, t := range r.Targets {
			met := "**missed**"
			if t.met() {
				met = "met"
			}
			fmt.Fprintf(&w, "| %s | %s | %s | %s |\n", t.What, t.want(), strings.TrimSpace(digits(t.Got)+" "+t.Unit), met)
		}
	}
	for _, s := range r.Sections {
		fmt.Fprintf(&w, "\n### %s\n\n", s.Title)
		if s.Note != "" {
			fmt.Fprintf(&w, "%s\n\n", s.Note)
		}
		s.table(&w, s.Rows)
		if len(s.Ratios) > 0 {
			w.WriteString("\n")
			s.table(&w, s.Ratios)
		}
	}
	return w.String()
}

func (s *section) table(w *strings.Builder, rows []row) {
	head, rule := "| |", "|---|"
	alone := rows[0].Figures[0].Name == "" // a figure of its own in each row
	for _, f := range rows[0].Figures {
		unit := ", " + f.Unit
		if strings.HasPrefix(f.Unit, "/") {
			unit = f.Unit
		}
		if alone {
			unit = ""
		}
		head, rule = head+" "+f.Name+strings.TrimSuffix(unit, ", ")+" |", rule+"---|"
	}
	fmt.Fprintf(w, "%s\n%s\n", head, rule)
	for _, line := range rows {
		fmt.Fprintf(w, "| %s |", line.Name)
		for _, f := range line.Figures {
			fmt.Fprintf(w, " %s", f)
			if alone {
				fmt.Fprintf(w, " %s", f.Unit)
			}
			w.WriteString(" |")
		}
		w.WriteString("\n")
	}
}
