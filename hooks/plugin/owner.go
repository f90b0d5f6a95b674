package plugin

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// Errors of Load and Check that are about one of the Options, for errors.Is.
var (
	ErrChecksum = errors.New("its SHA-256")             // Options.SHA256 is not that of the file
	ErrAccount  = errors.New("account to run it under") // Options.User can't be had
)

// owner is the account that a process runs under. A nil owner is ours.
type owner struct {
	uid, gid int
	groups   []uint32
}

// findOwner looks up an account; "" and our own are nil.
func findOwner(name string) (*owner, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAccount, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAccount, err)
	}
	if uid == os.Geteuid() {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: only root can run it as %s; start as root, and leave [server] user empty", ErrAccount, name)
	}
	o := &owner{uid: uid}
	if o.gid, err = strconv.Atoi(u.Gid); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAccount, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAccount, err)
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			o.groups = append(o.groups, uint32(n))
		}
	}
	return o, nil
}

// give makes a file the account's.
func (o *owner) give(path string) error {
	if o == nil {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

func (o *owner) credential() *syscall.Credential {
	if o == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid), Groups: o.groups}
}
