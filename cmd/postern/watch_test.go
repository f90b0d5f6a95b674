package main

import (
	"path/filepath"
	"testing"

	"github.com/postern-mta/postern/core/config"
)

// What is reloaded for, and what is not.
func TestWatchMatters(t *testing.T) {
	dir := t.TempDir()
	in := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	d := &daemon{}
	d.config.Store(&config.Config{Server: config.Server{PluginDir: in("plugins.d")}})
	w := &watcher{d: d, policy: in("policies"), files: map[string]bool{in("postern.toml"): true, in("site", "a.lua"): true, in("bin", "checker"): true}}
	for path, want := range map[string]bool{
		in("postern.toml"):             true,
		in("other.toml"):               false,
		in("policies"):                 true,
		in("policies", "x.lua"):        true,
		in("policies", "x_test.lua"):   false,
		in("policies", "postern.lua"):  false,
		in("policies", ".x.lua.swp"):   false,
		in("policies", "x.lua~"):       false,
		in("policies", "4913"):         false,
		in("site", "a.lua"):            true,
		in("site", "module.lua"):       true,
		in("site", "notes.txt"):        false,
		in("bin", "checker"):           true,
		in("bin", "other"):             false,
		in("plugins.d", "anything"):    true,
		in("plugins.d", ".anything.x"): false,
		in("elsewhere", "x.lua"):       false,
	} {
		if got := w.matters(path); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
}
