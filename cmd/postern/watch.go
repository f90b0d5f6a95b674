package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/postern-mta/postern/core/config"
)

// settle is how long files must be quiet before they are read: editors and
// builds write in several steps.
const settle = 150 * time.Millisecond

// watcher reloads the daemon when what it reads changes: the configuration, the
// scripts and modules, the plugins. It watches folders, since editors write
// another file and rename it.
type watcher struct {
	d       *daemon
	tty     bool
	notify  *fsnotify.Watcher
	folders map[string]bool // that are watched
	files   map[string]bool // files named one by one
	policy  string          // the policy folder; it may not be there yet
}

// newWatcher begins to watch.
func newWatcher(d *daemon, tty bool) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("--watch: %w", err)
	}
	w := &watcher{d: d, tty: tty, notify: notify, folders: map[string]bool{}}
	w.follow(d.config.Load())
	return w, nil
}

// follow watches what a configuration names. What can't be watched is told once.
func (w *watcher) follow(c *config.Config) {
	w.files = map[string]bool{}
	folders := map[string]bool{}
	file := func(path string) {
		if path != "" {
			path = absolute(path)
			w.files[path], folders[filepath.Dir(path)] = true, true
		}
	}
	file(c.Path)
	for i := range c.Policies {
		file(c.Policies[i].Path)
	}
	for i := range c.Listen {
		file(c.Listen[i].Rules)
	}
	w.policy = ""
	for _, dir := range []string{c.Server.PolicyDir, c.Server.PluginDir} {
		if dir != "" {
			folders[absolute(dir)] = true
		}
	}
	if c.Server.PolicyDir != "" {
		w.policy = absolute(c.Server.PolicyDir)
		folders[filepath.Dir(w.policy)] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		if w.folders[dir] {
			continue
		}
		if err := w.notify.Add(dir); err == nil {
			w.folders[dir] = true
		} else if _, there := os.Stat(dir); there == nil {
			w.d.log.Warn("can't be watched", "folder", dir, "error", err)
		}
	}
	for dir := range w.folders {
		if !folders[dir] {
			_ = w.notify.Remove(dir) // it may be gone
			delete(w.folders, dir)
		}
	}
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// matters tells whether a change of the file changes what the daemon does.
func (w *watcher) matters(path string) bool {
	if w.files[path] || path == w.policy {
		return true
	}
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") {
		return false
	}
	dir := filepath.Dir(path)
	if dir == absoluteOf(w.d.config.Load().Server.PluginDir) {
		return true
	}
	script := strings.HasSuffix(name, ".lua") && !strings.HasSuffix(name, "_test.lua") && name != "postern.lua"
	return script && (dir == w.policy || w.besideScript(dir))
}

func absoluteOf(dir string) string {
	if dir == "" {
		return ""
	}
	return absolute(dir)
}

// besideScript tells whether a script that is named by its path is in the
// folder: modules are found there.
func (w *watcher) besideScript(dir string) bool {
	for path := range w.files {
		if filepath.Dir(path) == dir && strings.HasSuffix(path, ".lua") {
			return true
		}
	}
	return false
}

// run reloads until ctx is done.
func (w *watcher) run(ctx context.Context) {
	defer w.notify.Close()
	changed := map[string]bool{}
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-w.notify.Errors:
			w.d.log.Warn("watching", "error", err)
		case e := <-w.notify.Events:
			if e.Op == fsnotify.Chmod && !w.files[e.Name] || !w.matters(e.Name) {
				continue
			}
			changed[e.Name] = true
			quiet.Reset(settle)
		case <-quiet.C:
			w.follow(w.d.config.Load()) // a policy folder that is new
			w.reload(slices.Sorted(maps.Keys(changed)))
			clear(changed)
		}
	}
}

// reload takes up what changed, and says what came of it.
func (w *watcher) reload(changed []string) {
	for i, path := range changed {
		changed[i] = w.shown(path)
	}
	files := strings.Join(changed, ", ")
	before := w.d.chain.Load().Generation
	err := w.d.reload()
	now := w.d.chain.Load().Generation
	if err == nil {
		w.follow(w.d.config.Load())
	}
	if !w.tty {
		if err != nil {
			w.d.log.Error("reload failed, everything stays as it was", "changed", files, "generation", before, "error", err)
		}
		return
	}
	stamp, paint := time.Now().Format("15:04:05"), painter(os.Getenv("NO_COLOR") == "")
	if err != nil {
		fmt.Fprintf(w.d.g.std.out, "%s %s %s; generation %d goes on:\n  %s\n", stamp, paint("31", "not reloaded"), files, before, strings.ReplaceAll(err.Error(), "\n", "\n  "))
		return
	}
	fmt.Fprintf(w.d.g.std.out, "%s %s %s; generation %d\n", stamp, paint("36", "reloaded    "), files, now)
}

// painter colours texts by an ANSI code, or leaves them.
func painter(colour bool) func(code, text string) string {
	return func(code, text string) string {
		if !colour {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
}

// shown is a path as people write it.
func (w *watcher) shown(path string) string {
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}
