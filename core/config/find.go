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
	path, err = find(flag, getenv, "postern.toml", systemPath)
	return path, path == "" && err == nil, err
}

// FindSystem is Find for programs that are called from anywhere, such as sendmail: what lies in the folder that they
// happen to be called in is not for them, and without a file there is nothing that they could do.
func FindSystem(flag string, getenv func(string) string) (path string, err error) {
	if path, err = find(flag, getenv, systemPath); path == "" && err == nil {
		err = fmt.Errorf("config: there is no %s; write one, or name another file by POSTERN_CONFIG", systemPath)
	}
	return path, err
}

const systemPath = "/etc/postern/postern.toml"

// find returns "" where there is none.
func find(flag string, getenv func(string) string, usual ...string) (path string, err error) {
	for _, named := range []struct{ by, path string }{{"-c", flag}, {"POSTERN_CONFIG", getenv("POSTERN_CONFIG")}} {
		if named.path == "" {
			continue
		}
		if _, err := os.Stat(named.path); err != nil {
			return "", fmt.Errorf("config: %s names %s: %w", named.by, named.path, bare(err))
		}
		return named.path, nil
	}
	for _, path := range usual {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("config: %s: %w", path, bare(err))
		}
	}
	return "", nil
}
