package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/etc"
)

// global is what every command shares: its streams and the -c flag.
type global struct {
	std    streams
	file   string
	byName bool // called by the name of another program, such as sendmail, from anywhere
}

// load reads the configuration that the flags and the environment name, with
// all its problems. Without a file it is the built-in default, to which the
// machine's name is added.
func (g *global) load() (*config.Config, config.Problems, error) {
	path, embedded, err := g.find()
	if err != nil {
		return nil, nil, usageError{err}
	}
	if !embedded {
		c, problems := config.Load(path, config.Options{})
		return c, problems, nil
	}
	c, problems := config.Load("", config.Options{Default: etc.Default})
	if c != nil {
		local := config.Route{ToDomain: []string{c.Server.Hostname}, NextHop: config.NextHop{Scheme: send.SchemeLocal}, Mode: "queue", TLS: "none"}
		c.Routes = slices.Insert(c.Routes, 0, local)
	}
	return c, problems, nil
}

func (g *global) find() (path string, embedded bool, err error) {
	if g.byName {
		path, err = config.FindSystem(g.file, os.Getenv)
		return path, false, err
	}
	return config.Find(g.file, os.Getenv)
}

// settled is load for commands that need a configuration without errors.
func (g *global) settled() (*config.Config, error) {
	c, problems, err := g.load()
	if err != nil {
		return nil, err
	}
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("the configuration has errors:\n%w", err)
	}
	return c, nil
}

// Where a delivery of ours runs a program, these say how that hands mail over; the
// user whose program it is need not be able to read the configuration.
const (
	envInject = "POSTERN_INJECT" // a socket, as console.ListenInjection makes it
	envHost   = "POSTERN_HOST"   // our host name
)

// handing is settled for programs that hand mail over.
func (g *global) handing() (*config.Config, error) {
	socket := os.Getenv(envInject)
	if socket == "" || g.file != "" {
		return g.settled()
	}
	c := &config.Config{}
	c.Server.Control, c.Server.Hostname, c.Server.DataDir = socket, os.Getenv(envHost), noDataDir
	return c, nil
}

// noDataDir is where a program of a user can't leave mail while no daemon runs.
const noDataDir = "/nonexistent"

// name is how messages call the configuration.
func name(c *config.Config) string {
	if c.Path == "" {
		return "the built-in default"
	}
	return c.Path
}

var errFound = errors.New("errors were found")
