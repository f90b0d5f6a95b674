package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/gate"
)

func rulesCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "rules",
		Short: "Check, compile and try connection rules (tcprules)",
	}
	c.AddCommand(rulesCompileCommand(g.std), rulesTestCommand(g.std))
	return c
}

func rulesCompileCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "compile RULES CDB",
		Short: "Check rules and write them as the database that tcpserver -x reads",
		Long: `Checks a file of connection rules (- is standard input), tells every mistake at once
with its line, and only without any puts the database in the place of the old one,
whole or not at all.

The database is what tcprules makes: tcpserver and tcprulescheck of ucspi-tcp read
it. An IPv4 network in CIDR notation becomes the prefixes or addresses that it
holds; rules for IPv6 are for 'postern tcpserver' alone. A [[listen]] entry of the
gateway takes the file of rules itself.

Called by the name tcprules it takes the arguments CDB and TMP, and the rules from
standard input. Exit status: 0 done, 1 the rules have mistakes or a file can't be
used, 2 wrong use.`,
		Example: `  postern rules compile /etc/tcp.smtp /etc/tcp.smtp.cdb`,
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return compileRules(std, args[0], args[1])
		},
	}
}

func compileRules(std streams, from, to string) error {
	in := std.in
	name := "standard input"
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		in, name = f, from
	}
	rules, errs := gate.ParseRulesFor(in, gate.WithIdent)
	if len(errs) > 0 {
		return &gate.RuleErrors{File: name, List: errs}
	}
	return replaceFile(to, 0o644, func(f *os.File) error {
		errs, err := rules.Compile(f)
		if len(errs) > 0 {
			return &gate.RuleErrors{File: name, List: errs}
		}
		return err
	})
}

// clientFlags are the flags of `postern rules test`.
type clientFlags struct {
	gate.Client
	ip   string
	json bool
}

func rulesTestCommand(std streams) *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:   "test RULES",
		Short: "Tell which rule is for a client, and what it says",
		Long: `Reads a file of connection rules, or a database that was compiled from one, and
tells what becomes of a client, in the words of tcprulescheck. Who the client is say
the flags, else the variables TCPREMOTEIP (0.0.0.0 where it is not set),
TCPREMOTEHOST and TCPREMOTEINFO.

Exit status: 0 allowed, 1 denied or the file can't be used, 2 wrong use.`,
		Example: `  postern rules test tcp.smtp --ip 192.0.2.7
  TCPREMOTEIP=192.0.2.7 TCPREMOTEHOST=mx.example.net postern rules test tcp.smtp.cdb
  postern rules test tcp.smtp --ip 2001:db8::7 --host mx.example.net --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			deny, err := testRules(std.out, args[0], &f)
			if err == nil && deny {
				return exitError{status: exitNo}
			}
			return err
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.ip, "ip", "", "the client's `ADDRESS`")
	fl.StringVar(&f.Name, "host", "", "its confirmed `NAME`")
	fl.StringVar(&f.Info, "info", "", "what its ident server says (`INFO`)")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	return c
}

// toldRule is what --json prints.
type toldRule struct {
	Rule     *string  `json:"rule"` // null: none is for the client
	Line     int      `json:"line,omitempty"`
	Decision string   `json:"decision"`
	Set      []string `json:"set"` // NAME=value, in order
}

func testRules(out io.Writer, name string, f *clientFlags) (deny bool, err error) {
	env := func(flag *string, name string) {
		if *flag == "" {
			*flag = os.Getenv(name)
		}
	}
	env(&f.ip, "TCPREMOTEIP")
	env(&f.Name, "TCPREMOTEHOST")
	env(&f.Info, "TCPREMOTEINFO")
	if f.ip == "" {
		f.ip = "0.0.0.0"
	}
	if f.IP, err = netip.ParseAddr(strings.Trim(f.ip, "[]")); err != nil {
		return false, usageError{fmt.Errorf("%q is no IP address; write --ip 192.0.2.7 or set TCPREMOTEIP", f.ip)}
	}
	file, err := gate.OpenRules(name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	rule, found, err := file.FindClient(f.Client)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if !f.json {
		_, err = io.WriteString(out, rule.Told(found))
		return rule.Deny, err
	}
	told := toldRule{Line: rule.Line, Decision: "allow", Set: append([]string{}, rule.Vars...)}
	if found {
		told.Rule = &rule.Text
	}
	if rule.Deny {
		told.Decision = "deny"
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return rule.Deny, e.Encode(told)
}

// likeTcprules gives wrong use the status that it has there.
func likeTcprules(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return exitError{100, err}
		}
		return nil
	}
}

// tcprulesCommands are the commands behind the names tcprules and tcprulescheck.
func tcprulesCommands(std streams) []*cobra.Command {
	compile := &cobra.Command{
		Use: "tcprules CDB TMP", Short: "Compile connection rules, as tcprules does", Hidden: true, Args: likeTcprules(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			// Both files are in one folder in all documents, and ours is made there.
			err := compileRules(std, "-", args[0])
			if _, bad := errors.AsType[*gate.RuleErrors](err); bad {
				return exitError{100, err}
			} else if err != nil {
				return exitError{111, err}
			}
			return nil
		},
	}
	check := &cobra.Command{
		Use: "tcprulescheck CDB", Short: "Try connection rules, as tcprulescheck does", Hidden: true, Args: likeTcprules(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := testRules(std.out, args[0], &clientFlags{}); err != nil {
				return exitError{111, err}
			}
			return nil
		},
	}
	return []*cobra.Command{compile, check}
}
