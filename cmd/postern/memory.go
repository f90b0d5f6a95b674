package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/store"
)

// memory tells how the store of policies is.
type memory struct {
	failures func() int
	failing  func() (why string, failing bool)
}

// openStore opens the memory of policies: below data_dir, or at a server, which
// need not be there now.
func openStore(c *config.Config, log *slog.Logger) (store.Store, memory, error) {
	if c.Store.Shared() {
		r, problems := sharedStore(c, log)
		if problems != nil {
			return nil, memory{}, problems
		}
		if err := r.Ping(context.Background()); err != nil {
			log.Warn("the store of policies does not answer; it is asked again with each operation", "error", err.Error())
		}
		return r, memory{r.Failures, r.Failing}, nil
	}
	e, err := store.Open(filepath.Join(c.Server.DataDir, "store"), store.Options{Size: c.Store.MaxSize, Log: log})
	if err != nil {
		return nil, memory{}, err
	}
	return e, memory{e.Failures, func() (string, bool) {
		trouble, ok := e.Trouble()
		if !ok {
			return "", false
		}
		return trouble.String(), true
	}}, nil
}

func sharedStore(c *config.Config, log *slog.Logger) (*store.Remote, config.Problems) {
	settings, err := remoteSettings(c)
	if err != nil {
		return nil, config.Problems{c.Problem("tls.ca", err.Error())}
	}
	r, err := store.OpenRedis(store.RedisOptions{
		URL: c.Store.Engine, User: c.Store.User, PasswordFile: c.Store.PasswordFile, Timeout: c.Store.Timeout, Connections: c.Store.Concurrency, Roots: settings.Roots, Log: log,
	})
	if err != nil {
		return nil, config.Problems{c.Problem("store.engine", err.Error())}
	}
	return r, nil
}

// checkStore looks whether a server that has the memory of policies is there: that
// depends on the moment.
func checkStore(c *config.Config) config.Problems {
	if !c.Store.Shared() {
		return nil
	}
	r, problems := sharedStore(c, nil)
	if problems != nil {
		return problems
	}
	defer r.Close()
	if err := r.Ping(context.Background()); err != nil {
		p := c.Problem("store.engine", "the server does not answer now: "+err.Error())
		p.Warning = true
		return config.Problems{p}
	}
	return nil
}
