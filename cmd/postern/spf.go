package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/auth/spf"
	"github.com/postern-mta/postern/core/message"
)

func spfCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "spf",
		Short: "Judge clients by the SPF records of domains (RFC 7208)",
	}
	c.AddCommand(spfCheckCommand(g))
	return c
}

type spfFlags struct {
	verifyFlags
	ip, helo, from string
}

func spfCheckCommand(g *global) *cobra.Command {
	f := spfFlags{verifyFlags: verifyFlags{g: g}}
	c := &cobra.Command{
		Use:   "check --ip IP [--from ADDRESS] [--helo NAME]",
		Short: "Tell whether a client may send in a domain's name, step by step",
		Long: `Judges the client's address by the SPF record of the sender's domain, or, without
--from, of its HELO name. The null sender (--from "") stands for postmaster at the
HELO name.
` + verifyStatus,
		Example: `  postern spf check --ip 192.0.2.7 --from you@example.net
  postern spf check --ip 2001:db8::7 --helo mx.example.net
  postern spf check --ip 192.0.2.7 --helo mx.example.net --from you@example.net --dns 127.0.0.1:5353 --json`,
		Args: expects(0, "flags alone, --ip and --from or --helo,"),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), cmd.Flags().Changed("from")) },
	}
	fl := c.Flags()
	fl.StringVar(&f.ip, "ip", "", "the client's `ADDRESS`")
	fl.StringVar(&f.helo, "helo", "", "the `NAME` that it gave in HELO or EHLO")
	fl.StringVar(&f.from, "from", "", "the sender's `ADDRESS` in MAIL FROM")
	f.add(c)
	return c
}

// client reads the flags that tell of the client.
func (f *spfFlags) client() (spf.Client, error) {
	ip, err := netip.ParseAddr(strings.Trim(f.ip, "[]"))
	if err != nil {
		return spf.Client{}, usageError{fmt.Errorf("--ip: %q is no IP address", f.ip)}
	}
	by := spf.Client{IP: ip, Helo: f.helo}
	from := strings.TrimSuffix(strings.TrimPrefix(f.from, "<"), ">")
	if a, err := message.ParseAddress(from); err == nil {
		by.Local, by.Domain = a.Local, a.Domain
		return by, nil
	}
	// What is no address is judged too: servers are told such senders.
	at := strings.LastIndexByte(from, '@')
	by.Local, by.Domain = from[:max(at, 0)], from[at+1:]
	return by, nil
}

func (f *spfFlags) run(ctx context.Context, withSender bool) error {
	if f.ip == "" || f.from == "" && f.helo == "" {
		return usageError{errors.New("say who: --ip, and --from or --helo\nSee 'postern spf check --help'")}
	}
	by, err := f.client()
	if err != nil {
		return err
	}
	r, hostname, err := f.resolver()
	if err != nil {
		return err
	}
	defer r.Close()
	checker := spf.Checker{Resolver: r, Hostname: hostname, Now: f.clock}
	var result spf.Result
	if withSender {
		result = checker.Check(ctx, by)
	} else {
		result = checker.CheckHelo(ctx, by)
	}
	return f.print(f.g.std.out, spfReport(by, result))
}

func spfReport(by spf.Client, r spf.Result) verdictReport {
	matched := r.Mechanism
	if r.Source != "" && r.Source != r.Domain {
		matched += " of " + r.Source
	}
	j := verdictReport{verdict: string(r.Verdict), object: r, facts: []fact{
		{"client", by.IP.String()},
		{"identity", string(r.Identity)},
		{"sender", r.Sender},
		{"domain", r.Domain},
		{"matched", matched},
		{"explanation", r.Explanation},
		{"problem", r.Problem},
		{"look-ups", strconv.Itoa(r.Lookups) + " of 10 terms, " + strconv.Itoa(r.Voids) + " of 2 without an answer"},
	}}
	for _, s := range r.Steps {
		what := s.Domain
		if s.Term != "" {
			what += "  " + s.Term
		}
		j.steps = append(j.steps, verdictStep{s.Depth, what, s.Query, s.Answer, s.Outcome})
	}
	return j
}
