package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Find chooses the configuration file as every command does: flag (the value of -c), the environment's POSTERN_CONFIG,
// ./postern.toml, /etc/postern/postern.toml, else the built-in default (embedded is true and path empty).
// A file that was named must exist; one that exists but can't be looked at is an error too, never passed over.
func Find(flag string, getenv func(string) string) (path string, embedded bool, err error) {
	for _, named := range []struct{ by, path string }{{"-c", flag}, {"POSTERN_CONFIG", getenv("POSTERN_CONFIG")}} {
		if named.path == "" {
			continue
		}
		if _, err := os.Stat(named.path); err != nil {
			return "", false, fmt.Errorf("config: %s names %s: %w", named.by, named.path, bare(err))
		}
		return named.path, false, nil
	}
	for _, usual := range []string{"postern.toml", "/etc/postern/postern.toml"} {
		_, err := os.Stat(usual)
		if err == nil {
			return usual, false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", false, fmt.Errorf("config: %s: %w", usual, bare(err))
		}
	}
	return "", true, nil
}
