package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/hooks/plugin"
)

func pluginCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "plugin",
		Short: "List, check and try plugins",
		Long: `Plugins are policies in processes of their own. list shows those that run in the
daemon, and those that are there to be used; check starts one, asks what it is,
and ends it; run asks one about a sample message.`,
	}
	asJSON := false
	list := &cobra.Command{
		Use:   "list",
		Short: "List the plugins that run and those that are there",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return pluginList(cmd.Context(), g, asJSON) },
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	checkJSON := false
	check := &cobra.Command{
		Use:   "check PATH",
		Short: "Start a plugin, ask what it is, end it",
		Long: `Starts the executable, asks for its name, stages and settings, and ends it.

Exit status: 0 it is a plugin that this version can use, 1 it is not, 2 wrong use.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return pluginCheck(g, args[0], checkJSON) },
	}
	check.Flags().BoolVar(&checkJSON, "json", false, "print JSON")
	c.AddCommand(list, check, pluginRunCommand(g))
	return c
}

func pluginList(ctx context.Context, g *global, asJSON bool) error {
	c, err := g.settled()
	if err != nil {
		return err
	}
	rows, err := runningPlugins(ctx, c)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.Path] = true
	}
	loader := newPolicyLoader(g, slog.New(slog.DiscardHandler), nil, nil, nil)
	for _, dir := range loader.pluginDirs(c) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if seen[path] || checkExecutable(path) != nil {
				continue
			}
			rows = append(rows, availablePlugin(path))
		}
	}
	if asJSON {
		return json.NewEncoder(g.std.out).Encode(rows)
	}
	console.PrintPlugins(g.std.out, rows)
	return nil
}

// runningPlugins asks the daemon; with the daemon down none run.
func runningPlugins(ctx context.Context, c *config.Config) ([]console.Plugin, error) {
	client, err := dial(c)
	if isDown(err) {
		return []console.Plugin{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.Plugins(ctx)
}

func availablePlugin(path string) console.Plugin {
	r := console.Plugin{Name: filepath.Base(path), Path: path, State: "available"}
	d, _, err := plugin.Check(path, plugin.Options{TempDir: shortTemp()})
	if err != nil {
		r.State, r.Error = "unusable", err.Error()
		return r
	}
	r.Version = d.Version
	for _, at := range d.Stages {
		r.Stages = append(r.Stages, at.String())
	}
	return r
}

type pluginDetail struct {
	Name      string          `json:"name"`
	Version   string          `json:"version"`
	About     string          `json:"about"`
	Path      string          `json:"path"`
	Stages    []string        `json:"stages"`
	Body      string          `json:"body"`
	OnFailure string          `json:"on_failure"`
	Settings  []settingDetail `json:"settings"`
}

func pluginCheck(g *global, path string, asJSON bool) error {
	if err := checkExecutable(path); err != nil {
		return err
	}
	d, _, err := plugin.Check(path, plugin.Options{TempDir: shortTemp()})
	if err != nil {
		return err
	}
	out := pluginDetail{Name: d.Name, Version: d.Version, About: d.About, Path: path, Body: d.Access, OnFailure: d.OnFailure, Settings: []settingDetail{}}
	if out.OnFailure == "" {
		out.OnFailure = "defer"
	}
	for _, at := range d.Stages {
		out.Stages = append(out.Stages, at.String())
	}
	for _, s := range d.Settings {
		one := settingDetail{Name: s.Name, Type: s.Type, About: s.Doc}
		if s.Of != "" {
			one.Type += "(" + s.Of + ")"
		}
		if s.Default != nil {
			one.Default = fmt.Sprint(s.Default)
		} else if s.Required {
			one.Default = "required"
		}
		out.Settings = append(out.Settings, one)
	}
	if asJSON {
		return json.NewEncoder(g.std.out).Encode(out)
	}
	fmt.Fprintf(g.std.out, "%s %s: %s\n\nplugin:     %s\nstages:     %s\nbody:       %s\non failure: %s\n", out.Name, out.Version, out.About, path, strings.Join(out.Stages, ", "), out.Body, out.OnFailure)
	if len(out.Settings) == 0 {
		return nil
	}
	fmt.Fprintln(g.std.out)
	w := tabwriter.NewWriter(g.std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SETTING\tTYPE\tDEFAULT\tMEANING")
	for _, s := range out.Settings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Type, s.Default, s.About)
	}
	return w.Flush()
}
