package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/postern-mta/postern/core/config"
)

// drop gives up root for the account of [server] user, after the sockets are
// bound and before anything on disk is touched. The data directory becomes that
// account's.
func (d *daemon) drop(c *config.Config) error {
	if c.Server.User == "" {
		return nil
	}
	account, err := user.Lookup(c.Server.User)
	if err != nil {
		return fmt.Errorf("user: %w", err)
	}
	uid, errU := strconv.Atoi(account.Uid)
	gid, errG := strconv.Atoi(account.Gid)
	if errU != nil || errG != nil {
		return fmt.Errorf("user: %s has no numeric ids", c.Server.User)
	}
	if os.Getuid() == uid {
		return nil
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("user: %w", errNotRoot)
	}
	if err := os.MkdirAll(c.Server.DataDir, 0o755); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if err := os.Chown(c.Server.DataDir, uid, gid); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	groups, err := account.GroupIds()
	if err != nil {
		return fmt.Errorf("user: %w", err)
	}
	ids := make([]int, 0, len(groups))
	for _, g := range groups {
		if n, err := strconv.Atoi(g); err == nil {
			ids = append(ids, n)
		}
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(ids) },
		func() error { return syscall.Setgid(gid) },
		func() error { return syscall.Setuid(uid) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("user: changing to %s: %w", c.Server.User, err)
		}
	}
	d.log.Info("changed account", "user", c.Server.User)
	return nil
}
