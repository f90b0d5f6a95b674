package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/hooks/lua"
)

func policyCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "List, show and write policies",
		Long: `Policies are what decides about mail. list shows what runs or would run, and
what is there to be used; show tells what one does and its settings; new writes one
to begin with, and stubs what an editor needs to complete scripts.`,
	}
	asJSON := false
	list := &cobra.Command{
		Use:   "list",
		Short: "List the policies that are configured and those that are there",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return policyList(g, asJSON) },
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	source, showJSON := false, false
	show := &cobra.Command{
		Use:   "show NAME",
		Short: "Tell what a policy does, its stages and settings",
		Long: `Tells what a policy does, where it stands, its stages and its settings with
their types and defaults. --source prints the script that runs: a script in
policy_dir comes before the shipped one of its name.

Exit status: 0 shown, 1 no such policy, 2 wrong use.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return policyShow(g, args[0], source, showJSON) },
	}
	show.ValidArgsFunction = policyNames(g)
	show.Flags().BoolVar(&source, "source", false, "print the script")
	show.Flags().BoolVar(&showJSON, "json", false, "print JSON")
	c.AddCommand(list, show, policyNew(g), policyStubs(g))
	return c
}

// policyRow is one line of `policy list --json`.
type policyRow struct {
	Name   string   `json:"name"`
	Use    string   `json:"use,omitempty"`
	Mode   string   `json:"mode,omitempty"` // empty where it is not configured
	Kind   string   `json:"kind,omitempty"` // "built-in", "site script" or "plugin"
	From   string   `json:"from,omitempty"`
	Stages []string `json:"stages,omitempty"`
	About  string   `json:"about,omitempty"`
}

func policyList(g *global, asJSON bool) error {
	c, err := g.settled()
	if err != nil {
		return err
	}
	loader := newPolicyLoader(g, slog.New(slog.DiscardHandler), nil, nil, func(string) bool { return false })
	var rows []policyRow
	used := map[string]bool{}
	for i := range c.Policies {
		p := &c.Policies[i]
		row := policyRow{Name: p.Name, Use: p.Use, Mode: p.Mode}
		used[p.Use] = true
		if f, err := loader.find(c, p.Use, p.Path); err == nil {
			loader.describe(f, &row)
		}
		rows = append(rows, row)
	}
	for _, n := range loader.names(c) {
		if used[n] {
			continue
		}
		row := policyRow{Name: n, Use: n}
		if f, err := loader.find(c, n, ""); err == nil {
			loader.describe(f, &row)
		}
		rows = append(rows, row)
	}
	if asJSON {
		return json.NewEncoder(g.std.out).Encode(rows)
	}
	w := tabwriter.NewWriter(g.std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMODE\tKIND\tSTAGES\tABOUT")
	for _, r := range rows {
		mode := r.Mode
		if mode == "" {
			mode = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Name, mode, r.Kind, strings.Join(r.Stages, ","), r.About)
	}
	return w.Flush()
}

// describe fills in what a script says of itself.
func (p *policyLoader) describe(f found, row *policyRow) {
	row.From, row.Kind = f.path, f.kind()
	if f.script == nil {
		row.About = "a plugin (postern plugin list)"
		return
	}
	script, found := p.compile(f, "")
	if lua.Failed(found) {
		row.About = "does not compile: " + found[0].String()
		return
	}
	row.About = script.About()
	for _, s := range script.Stages() {
		row.Stages = append(row.Stages, s.String())
	}
}

// kind is where a policy comes from.
func (f *found) kind() string {
	switch {
	case f.script == nil:
		return "plugin"
	case f.site:
		return "site script"
	}
	return "built-in"
}

// policyNames completes the names of policies, those that are configured and those
// that are there.
func policyNames(g *global) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if strings.Contains(typed, "/") {
			return nil, cobra.ShellCompDirectiveDefault // a path
		}
		c, _, err := g.load()
		if err != nil || c == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		loader := newPolicyLoader(g, slog.New(slog.DiscardHandler), nil, nil, func(string) bool { return false })
		var names []cobra.Completion
		seen := map[string]bool{}
		add := func(name, use, path string) {
			if f, err := loader.find(c, use, path); err == nil && !seen[name] && strings.HasPrefix(name, typed) {
				seen[name] = true
				names = append(names, cobra.CompletionWithDesc(name, f.kind()))
			}
		}
		for i := range c.Policies {
			add(c.Policies[i].Name, c.Policies[i].Use, c.Policies[i].Path)
		}
		for _, name := range loader.names(c) {
			add(name, name, "")
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func policyShow(g *global, name string, source, asJSON bool) error {
	c, problems, err := g.load()
	if err != nil {
		return err
	}
	if c == nil {
		return problems.Err()
	}
	loader := newPolicyLoader(g, slog.New(slog.DiscardHandler), nil, nil, func(string) bool { return false })
	use, path := name, ""
	for i := range c.Policies {
		if p := &c.Policies[i]; p.Name == name {
			use, path = p.Use, p.Path
			break
		}
	}
	if path == "" && strings.Contains(use, "/") {
		path = use
	}
	f, err := loader.find(c, use, path)
	if err != nil {
		return err
	}
	if source {
		if f.script == nil {
			return fmt.Errorf("%s is a plugin, it has no source here: postern plugin check %s", name, f.path)
		}
		_, err := g.std.out.Write(f.script)
		return err
	}
	if f.script == nil {
		return pluginCheck(g, f.path, asJSON)
	}
	script, found := loader.compile(f, "")
	if lua.Failed(found) {
		return f.problems(found)
	}
	if asJSON {
		return json.NewEncoder(g.std.out).Encode(describeScript(script, f, name))
	}
	return printScript(g.std.out, describeScript(script, f, name))
}

type policyDetail struct {
	policyRow
	OnFailure string          `json:"on_failure"`
	Immune    []string        `json:"immune,omitempty"`
	Settings  []settingDetail `json:"settings"`
}

type settingDetail struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Default string `json:"default"`
	About   string `json:"about"`
}

func describeScript(s *lua.Script, f found, name string) policyDetail {
	d := policyDetail{policyRow: policyRow{Name: name, From: f.path, Kind: f.kind(), About: s.About()}, OnFailure: "defer", Immune: s.Immune(), Settings: []settingDetail{}}
	if s.FailOpen() {
		d.OnFailure = "pass"
	}
	for _, at := range s.Stages() {
		d.Stages = append(d.Stages, at.String())
	}
	for _, one := range s.Settings() {
		d.Settings = append(d.Settings, settingOf(one))
	}
	return d
}

func settingOf(s lua.Setting) settingDetail {
	d := settingDetail{Name: s.Name, Type: s.Type, About: s.About}
	if s.Range != "" {
		d.Type += ", " + s.Range
	}
	switch {
	case s.Required:
		d.Default = "required"
	case s.Secret:
		d.Default = "secret"
	case s.Default != nil:
		d.Default = defaultText(s.Default)
	}
	return d
}

// defaultText is a default as it may be written in the configuration, but for texts,
// which have no quotes.
func defaultText(v any) string {
	switch v.(type) {
	case []any, map[string]any:
		if b, err := json.Marshal(v); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v)
}

func printScript(out io.Writer, d policyDetail) error {
	fmt.Fprintf(out, "%s: %s\n\nscript:     %s (%s)\nstages:     %s\non failure: %s\n", d.Name, d.About, d.From, d.Kind, strings.Join(d.Stages, ", "), d.OnFailure)
	if len(d.Immune) > 0 {
		fmt.Fprintf(out, "immune:     %s clients\n", strings.Join(d.Immune, " and "))
	}
	if len(d.Settings) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SETTING\tTYPE\tDEFAULT\tMEANING")
	for _, s := range d.Settings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Type, s.Default, s.About)
	}
	return w.Flush()
}
