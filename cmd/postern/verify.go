package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// verifyFlags are what the commands share that judge mail (spf, dkim, dmarc, arc,
// srs check): which name server is asked, what time it is, and how they answer.
type verifyFlags struct {
	g       *global
	servers []string
	now     momentFlag
	json    bool
}

// verifyStatus is the end of their help.
const verifyStatus = `
The first word printed is the verdict, then come the facts that led to it, and each
step with what was asked and the DNS records that were the answer.

Exit status: 0 judged, whatever the verdict; 1 a file can't be read; 2 wrong use.`

// add declares the flags.
func (f *verifyFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringSliceVar(&f.servers, "dns", nil, "ask the name server at `ADDRESS`, with or without a port, not those of [dns]")
	fl.Var(&f.now, "now", "what time it is: "+momentHelp)
	fl.BoolVar(&f.json, "json", false, "print JSON")
}

// clock is the time that --now says.
func (f *verifyFlags) clock() time.Time {
	if f.now.IsZero() {
		return time.Now()
	}
	return f.now.Time
}

// resolver asks the servers of --dns, else those of the configuration; our name
// comes with it. The caller closes it.
func (f *verifyFlags) resolver() (r *dns.Client, hostname string, err error) {
	o := dns.Options{Servers: f.servers}
	c, err := f.g.settled()
	switch {
	case err == nil:
		hostname = c.Server.Hostname
		if o = dnsOptions(c); len(f.servers) > 0 {
			o.Servers = f.servers
		}
	case len(f.servers) == 0:
		return nil, "", err
	}
	r, err = dns.New(o)
	if err != nil {
		return nil, "", usageError{fmt.Errorf("--dns: %w", err)}
	}
	return r, hostname, nil
}

// verdictReport is what such a command prints.
type verdictReport struct {
	verdict string
	facts   []fact
	steps   []verdictStep
	object  any // of --json
}

// fact is one line under the verdict; without a value it is left out.
type fact struct{ name, value string }

// verdictStep is one thing that was done on the way.
type verdictStep struct {
	depth   int
	what    string   // what it was about: a record's domain and term, a signature
	query   string   // what was asked: type and name
	answer  []string // the records
	outcome string
}

// print writes the verdictReport as text, or its object as JSON.
func (f *verifyFlags) print(w io.Writer, j verdictReport) error {
	if f.json {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(j.object)
	}
	var b strings.Builder
	fmt.Fprintln(&b, j.verdict)
	width := 0
	for _, x := range j.facts {
		width = max(width, len(x.name))
	}
	for _, x := range j.facts {
		if x.value != "" {
			fmt.Fprintf(&b, "  %-*s  %s\n", width, x.name, shown(x.value))
		}
	}
	for i, s := range j.steps {
		if i == 0 {
			b.WriteString("\n")
		}
		indent := strings.Repeat("  ", min(s.depth, 12))
		fmt.Fprintf(&b, "%3d %s%s", i+1, indent, shown(s.what))
		if s.outcome != "" {
			fmt.Fprintf(&b, " → %s", shown(s.outcome))
		}
		b.WriteString("\n")
		if s.query != "" {
			fmt.Fprintf(&b, "    %s  asked  %s\n", indent, shown(s.query))
		}
		for _, a := range s.answer {
			fmt.Fprintf(&b, "    %s  answer %s\n", indent, shown(a))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shown is a text from outside for a terminal: control characters are escaped.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}

// maxMessage bounds a message that a command judges.
const maxMessage = 1 << 30

// readMessage reads the message in a file, "-": of standard input, with CRLF line ends,
// and without the line of a mailbox file.
func readMessage(in io.Reader, file string) (message.Bytes, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxMessage+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxMessage:
		return nil, fmt.Errorf("%s has more than 1 GiB", file)
	}
	if bytes.HasPrefix(text, []byte("From ")) {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return crlf(text), nil
}

// expects is how many arguments a command takes, and what they are: with more of them,
// or fewer, it is used wrongly. A negative n takes -n or more.
func expects(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if n >= 0 && len(args) != n || len(args) < -n {
			return fmt.Errorf("%s expected", what)
		}
		return nil
	}
}
