package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/hooks"
)

func checkCommand(g *global) *cobra.Command {
	strict := false
	c := &cobra.Command{
		Use:   "check",
		Short: "Find every mistake in the configuration, its scripts and plugins",
		Long: `Reads the configuration and everything it names, as serve would, and prints
each finding as FILE:LINE: key: what is wrong; what to write. What depends on the
moment, such as a port in use, is a warning; so is what the analysis of scripts
finds: members that there are not, stages that do not know them, decisions that
are not returned, settings that nobody reads.

Exit status: 0 nothing is wrong (warnings do not count, unless --strict), 1
errors, 2 wrong use.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return check(g, strict) },
	}
	c.Flags().BoolVar(&strict, "strict", false, "warnings are errors")
	return c
}

func check(g *global, strict bool) error {
	c, problems, err := g.load()
	if err != nil {
		return err
	}
	policies := 0
	if c != nil {
		more, n := examine(g, c)
		problems = append(problems, more...).Sorted()
		policies = n
	}
	for _, p := range problems {
		fmt.Fprintln(g.std.out, p)
	}
	if len(problems.Errors()) > 0 || strict && len(problems) > 0 {
		return exitError{exitNo, fmt.Errorf("%s: %w", count(len(problems), "finding"), errFound)}
	}
	fmt.Fprintf(g.std.out, "ok: %s: %s, %s, %s, %s\n", name(c), count(len(c.Listen), "listener"), count(len(c.Domains), "domain"), count(len(c.Routes), "route"), count(policies, "policy"))
	return nil
}

// examine looks at what the configuration names: rules, scripts, plugins, ports.
func examine(g *global, c *config.Config) (problems config.Problems, policies int) {
	for i := range c.Listen {
		l := &c.Listen[i]
		_, found := loadRules(l)
		problems = append(problems, found...)
		_, found = loadSenders(l)
		problems = append(problems, found...)
		if strings.Contains(l.Address, "unix:") || strings.HasPrefix(l.Address, "systemd:") {
			continue // looking would replace the one, and the other is passed to serve alone
		}
		if ln, err := net.Listen("tcp", l.Address); err == nil {
			_ = ln.Close()
		} else if !servedByUs(c, l.Address) {
			p := l.Problem("address", bindError(err))
			p.Warning = true
			problems = append(problems, p)
		}
	}
	problems = append(problems, checkPasswords(c)...)
	problems = append(problems, checkStore(c)...)
	_, found := readSigning(c)
	problems = append(problems, found...)
	_, _, found = loadLocal(c)
	problems = append(problems, found...)
	loader := newPolicyLoader(g, slog.New(slog.DiscardHandler), nil, nil, func(string) bool { return false })
	chain, found := loader.chain(c, hooks.Options{})
	if chain != nil {
		chain.Retire()
		problems = append(problems, reachMaps(c, loader.maps)...)
	}
	return append(problems, found...), len(c.Policies)
}

// servedByUs tells whether the daemon of this configuration listens there, which is
// as it should be.
func servedByUs(c *config.Config, address string) bool {
	client, err := dial(c)
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := client.Status(ctx)
	return err == nil && slices.ContainsFunc(s.Listeners, func(l console.Listener) bool { return sameAddress(l.Address, address) })
}

// sameAddress compares an address that is listened on with one that is configured.
func sameAddress(is, configured string) bool {
	a, errA := net.ResolveTCPAddr("tcp", is)
	b, errB := net.ResolveTCPAddr("tcp", configured)
	if errA != nil || errB != nil || a.Port != b.Port {
		return false
	}
	everywhere := func(t *net.TCPAddr) bool { return t.IP == nil || t.IP.IsUnspecified() }
	return everywhere(a) && everywhere(b) || a.IP.Equal(b.IP)
}

func count(n int, what string) string {
	switch {
	case n == 1:
	case what[len(what)-1] == 'y':
		what = what[:len(what)-1] + "ies"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
