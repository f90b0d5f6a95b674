package policytest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks/lua"
)

// FileResult is what became of a file.
type FileResult struct {
	File     string // as messages name it
	Source   []byte
	Err      error // the file itself is wrong: none of its tests ran
	Results  []Result
	Duration time.Duration
}

// Failed counts what failed; a file that is wrong counts as one.
func (f *FileResult) Failed() int {
	n := 0
	if f.Err != nil {
		n++
	}
	for i := range f.Results {
		if f.Results[i].Err != nil {
			n++
		}
	}
	return n
}

// Print writes the file's failures for people, and with verbose every test with its
// sessions.
func (f *FileResult) Print(w io.Writer, verbose bool) {
	if f.Err != nil {
		fmt.Fprintf(w, "FAIL %s\n%s\n", f.File, indent(f.Err.Error(), "    "))
	}
	for i := range f.Results {
		r := &f.Results[i]
		word := "ok  "
		if r.Err != nil {
			word = "FAIL"
		} else if !verbose {
			continue
		}
		fmt.Fprintf(w, "%s %s: %s (%s)\n", word, f.File, r.Name, shortTime(r.Duration))
		fmt.Fprint(w, indent(r.Details(f.Source), "    "))
	}
}

// Details is what a reader needs to find out why a test failed: the error with the
// line of the test that it stands in, the Lua calls, what was said and decided.
func (r *Result) Details(source []byte) string {
	var b strings.Builder
	if r.Err != nil {
		fmt.Fprintf(&b, "%s\n", r.Err)
		if line, text := failedLine(r.Err.Error(), source); text != "" {
			fmt.Fprintf(&b, "    %d | %s\n", line, text)
		}
		if strings.Count(r.Stack, "\n") > 1 {
			fmt.Fprintf(&b, "calls:\n%s\n", indent(strings.ReplaceAll(r.Stack, "\t", ""), "  "))
		}
	}
	for i, d := range r.Dialogue {
		name := "session"
		if len(r.Dialogue) > 1 {
			name = fmt.Sprintf("session %d", i+1)
		}
		fmt.Fprintf(&b, "%s:\n%s\n", name, indent(strings.Join(d, "\n"), "  "))
	}
	if len(r.Trace) > 0 {
		fmt.Fprintf(&b, "trace:\n%s\n", indent(strings.Join(r.Trace, "\n"), "  "))
	}
	return b.String()
}

var errorLine = regexp.MustCompile(`^[^\s:]+_test\.lua:(\d+): `)

// failedLine is the line of the test file that an error names.
func failedLine(err string, source []byte) (int, string) {
	m := errorLine.FindStringSubmatch(err)
	if m == nil {
		return 0, ""
	}
	n, _ := strconv.Atoi(m[1])
	lines := strings.Split(string(source), "\n")
	if n < 1 || n > len(lines) {
		return 0, ""
	}
	return n, strings.TrimSpace(lines[n-1])
}

func indent(s, by string) string {
	trimmed := strings.TrimRight(s, "\n")
	if trimmed == "" {
		return ""
	}
	return by + strings.ReplaceAll(trimmed, "\n", "\n"+by) + s[len(trimmed):]
}

func shortTime(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// ShowLines is a list of lines in few words: "3, 7-9, 12 (in part)".
func ShowLines(lines []lua.LineCoverage) string {
	var parts []string
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		if l.Run > 0 {
			parts = append(parts, fmt.Sprintf("%d (in part)", l.Line))
			continue
		}
		last := i
		for last+1 < len(lines) && lines[last+1].Run == 0 && lines[last+1].Line == lines[last].Line+1 {
			last++
		}
		part := strconv.Itoa(l.Line)
		if last > i {
			part += "-" + strconv.Itoa(lines[last].Line)
		}
		parts, i = append(parts, part), last
	}
	return strings.Join(parts, ", ")
}

// Missed lists the lines of which a statement did not run.
func Missed(f lua.FileCoverage) []lua.LineCoverage {
	var missed []lua.LineCoverage
	for _, l := range f.Lines {
		if !l.Whole() {
			missed = append(missed, l)
		}
	}
	return missed
}

// WriteLCOV writes coverage in the format of lcov's tracefiles (geninfo(1)). A line
// counts as often as its statement that ran most seldom.
func WriteLCOV(w io.Writer, files []lua.FileCoverage) error {
	var b strings.Builder
	for _, f := range files {
		whole, all := f.Covered()
		fmt.Fprintf(&b, "TN:\nSF:%s\n", f.Name)
		for _, l := range f.Lines {
			fmt.Fprintf(&b, "DA:%d,%d\n", l.Line, l.Hits)
		}
		fmt.Fprintf(&b, "LF:%d\nLH:%d\nend_of_record\n", all, whole)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr,omitempty"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Error   *junitFailure `xml:"error"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 6, 64) }

// WriteJUnit writes results as the XML that CI systems read: a testsuite for each
// file, a testcase for each test.
func WriteJUnit(w io.Writer, files []FileResult, took time.Duration) error {
	all := junitSuites{Time: seconds(took)}
	for i := range files {
		f := &files[i]
		s := junitSuite{Name: f.File, Time: seconds(f.Duration)}
		class := strings.TrimSuffix(f.File, ".lua")
		if f.Err != nil {
			s.Errors++
			s.Cases = append(s.Cases, junitCase{Class: class, Name: "(the file)", File: f.File, Time: "0", Error: &junitFailure{clean(f.Err.Error()), ""}})
		}
		for k := range f.Results {
			r := &f.Results[k]
			c := junitCase{Class: class, Name: clean(r.Name), File: f.File, Line: r.Line, Time: seconds(r.Duration)}
			if r.Err != nil {
				s.Failures++
				c.Failure = &junitFailure{clean(r.Err.Error()), clean(r.Details(f.Source))}
			}
			s.Cases = append(s.Cases, c)
		}
		s.Tests = len(s.Cases)
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// clean leaves out what XML can't hold.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, s)
}

type jsonTest struct {
	Name     string     `json:"name"`
	Line     int        `json:"line"`
	Passed   bool       `json:"passed"`
	Duration float64    `json:"duration_ms"`
	Error    string     `json:"error,omitempty"`
	Stack    string     `json:"stack,omitempty"`
	Dialogue [][]string `json:"dialogue,omitempty"`
	Trace    []string   `json:"trace,omitempty"`
}

type jsonFile struct {
	File  string     `json:"file"`
	Error string     `json:"error,omitempty"`
	Tests []jsonTest `json:"tests"`
}

type jsonCoverage struct {
	File    string  `json:"file"`
	Lines   int     `json:"lines"`
	Run     int     `json:"run"`
	Percent float64 `json:"percent"`
	Missed  []int   `json:"missed"`
}

// WriteJSON writes results and coverage, which may be empty, as one JSON object.
// Sessions and traces are told of tests that failed, with verbose of all.
func WriteJSON(w io.Writer, files []FileResult, coverage []lua.FileCoverage, took time.Duration, verbose bool) error {
	var all struct {
		Passed   int            `json:"passed"`
		Failed   int            `json:"failed"`
		Duration float64        `json:"duration_ms"`
		Files    []jsonFile     `json:"files"`
		Coverage []jsonCoverage `json:"coverage,omitempty"`
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	all.Duration = ms(took)
	for i := range files {
		f := &files[i]
		one := jsonFile{File: f.File, Tests: []jsonTest{}}
		if f.Err != nil {
			one.Error = f.Err.Error()
		}
		for k := range f.Results {
			r := &f.Results[k]
			t := jsonTest{Name: r.Name, Line: r.Line, Passed: r.Err == nil, Duration: ms(r.Duration)}
			if r.Err != nil {
				t.Error, t.Stack = r.Err.Error(), r.Stack
			}
			if r.Err != nil || verbose {
				t.Dialogue, t.Trace = r.Dialogue, r.Trace
			}
			one.Tests = append(one.Tests, t)
		}
		all.Failed += f.Failed()
		all.Passed += len(f.Results) - f.Failed()
		if f.Err != nil {
			all.Passed++ // the file was no test that could pass
		}
		all.Files = append(all.Files, one)
	}
	for _, f := range coverage {
		whole, lines := f.Covered()
		c := jsonCoverage{File: f.Name, Lines: lines, Run: whole, Percent: Percent(f), Missed: []int{}}
		for _, l := range Missed(f) {
			c.Missed = append(c.Missed, l.Line)
		}
		all.Coverage = append(all.Coverage, c)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(all)
}

// Percent is how many of a file's lines ran whole.
func Percent(f lua.FileCoverage) float64 {
	whole, all := f.Covered()
	if all == 0 {
		return 100
	}
	return float64(whole) * 100 / float64(all)
}
