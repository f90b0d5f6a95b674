package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/lookup"
)

// lookupSource is an entry as the package of maps takes it.
func lookupSource(m *config.Lookup) lookup.Source {
	s := lookup.Source{
		Name: m.Name, Type: m.Type, Query: m.Query, Base: m.Base, Scope: m.Scope, Attributes: strings.Join(m.Attributes, " "), StartTLS: m.StartTLS,
		User: m.User, PasswordFile: m.PasswordFile,
	}
	if !s.Service() {
		s.Path = m.Source
		return s
	}
	s.Timeout, s.Concurrency, s.Positive, s.Negative, s.Entries, s.Stale = m.Timeout, m.Concurrency, m.Positive, m.Negative, m.Entries, m.OnFailure == "stale"
	if s.URL = m.Source; m.Type == lookup.SQLite {
		s.Path, s.URL = m.Source, ""
	}
	return s
}

// reachMaps asks the services of [[lookup]]: what fails is a matter of the moment.
func reachMaps(c *config.Config, set *lookup.Set) (problems config.Problems) {
	failed := set.Reach(context.Background()) // each bounds its own time
	for i := range c.Lookups {
		m := &c.Lookups[i]
		if err := failed[m.Name]; err != nil {
			p := m.Problem("source", "can't be asked now: "+err.Error())
			p.Warning = true
			problems = append(problems, p)
		}
	}
	return problems
}

// lookupOptions are the flags of `postern lookup`.
type lookupOptions struct {
	rcpt, user, json bool
}

func lookupCommand(g *global) *cobra.Command {
	var o lookupOptions
	c := &cobra.Command{
		Use:   "lookup NAME KEY [SETTING]",
		Short: "Ask a map of [[lookup]] for a key",
		Long: `Asks a map as the daemon would, but without what that remembers, and prints the
value: a text as it is, all else as JSON.

With --recipient the key is an address, which is looked for as [[domain]] does for
recipients = "lookup:NAME". With --user it is an address too, and SETTING one of the
settings that lookup.user gives to scripts.

Exit status: 0 found, 1 not there or can't be asked, 2 wrong use.`,
		Example: `  postern lookup aliases sales@example.net
  postern lookup --recipient users jane+lists@example.net
  postern lookup --user users jane@example.net spam`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(_ *cobra.Command, args []string) error { return lookedUp(g, &o, args) },
	}
	c.Flags().BoolVar(&o.rcpt, "recipient", false, "look for an address as for a recipient")
	c.Flags().BoolVar(&o.user, "user", false, "look for a setting of an address")
	c.Flags().BoolVar(&o.json, "json", false, "print texts as JSON too")
	c.MarkFlagsMutuallyExclusive("recipient", "user")
	return c
}

func lookedUp(g *global, o *lookupOptions, args []string) error {
	if o.user != (len(args) == 3) {
		return usageError{fmt.Errorf("a SETTING belongs to --user, and --user needs one")}
	}
	c, err := g.settled()
	if err != nil {
		return err
	}
	set, err := openOne(c, args[0])
	if err != nil {
		return err
	}
	v, found, err := asked(c, set, o, args)
	if err != nil {
		return err
	}
	if !found {
		return exitError{exitNo, fmt.Errorf("%q is not in map %q", args[1], args[0])}
	}
	if s, ok := v.(string); ok && !o.json {
		_, err = fmt.Fprintln(g.std.out, s)
		return err
	}
	e := json.NewEncoder(g.std.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// openOne opens the map of a name, and no other.
func openOne(c *config.Config, name string) (*lookup.Set, error) {
	at := map[string]int{}
	for i := range c.Lookups {
		at[c.Lookups[i].Name] = i
	}
	i, ok := at[name]
	if !ok {
		names := slices.Sorted(maps.Keys(at))
		if near := config.Suggest(name, names); near != "" {
			return nil, usageError{fmt.Errorf("there is no map %q; did you mean %q?", name, near)}
		}
		return nil, usageError{fmt.Errorf("there is no map %q; [[lookup]] names %s", name, strings.Join(names, ", "))}
	}
	settings, err := remoteSettings(c)
	if err != nil {
		return nil, err
	}
	set, failures := lookup.Open([]lookup.Source{lookupSource(&c.Lookups[i])}, nil, lookup.Options{Log: slog.New(slog.DiscardHandler), Roots: settings.Roots})
	for _, f := range failures {
		return nil, config.Problems{c.Lookups[i].Problem(f.Key, f.Err.Error())}
	}
	return set, nil
}

func asked(c *config.Config, set *lookup.Set, o *lookupOptions, args []string) (v any, found bool, err error) {
	ctx := context.Background() // each question bounds its own time
	if !o.rcpt && !o.user {
		return set.Get(ctx, args[0], args[1])
	}
	a, err := addressOf(args[1])
	if err != nil {
		return nil, false, err
	}
	if o.user {
		return lookup.User(ctx, set, args[0], a, args[2])
	}
	separator := ""
	for i := range c.Domains {
		d := &c.Domains[i]
		if d.Recipients.Lookup == args[0] && slices.Contains(d.Names, a.Domain) {
			separator = d.Subaddress
		}
	}
	found, err = lookup.Recipient(ctx, set, args[0], a, separator)
	return found, found, err
}
