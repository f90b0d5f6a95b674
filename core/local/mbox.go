package local

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/dotqmail"
)

// Bounds of the wait for an mbox file that somebody else has locked.
const (
	lockTime  = 30 * time.Second
	lockPause = 50 * time.Millisecond
)

// mbox appends to an mbox file.
func (h *house) mbox(ctx context.Context, text string) error {
	head := []byte(h.UFLine())
	trace := h.trace()
	err := appendMbox(ctx, h.path(text), func(w *bufio.Writer) error {
		if _, err := w.Write(head); err != nil {
			return err
		}
		m := dotqmail.NewMbox(w)
		if err := h.letter.copyTo(ctx, m, trace); err != nil {
			return err
		}
		return m.End()
	})
	if errors.Is(err, errLocked) {
		return notNow("4.3.0", "The file %s has been locked by somebody else for 30 seconds", text)
	}
	if err != nil {
		return notNow(diskStatus(err), "Unable to append to %s: %v", text, bare(err))
	}
	return nil
}

// errLocked says that somebody else keeps the file.
var errLocked = errors.New("the file has been locked for 30 seconds")

// appendMbox has fill write to the end of a file that is locked meanwhile. When it
// returns nil, that is durable; else the file is as long as it was.
func appendMbox(ctx context.Context, name string, fill func(*bufio.Writer) error) error {
	f, made, err := lockedMbox(ctx, name)
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w := bufio.NewWriterSize(f, block)
	if err = fill(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil && made {
		err = plainDisk{}.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return errors.Join(err, f.Truncate(end), f.Close())
	}
	return f.Close() // what Sync wrote is on the disk; the lock ends with it
}

// lockedMbox opens a file and locks it, as other programs that deliver do (flock).
func lockedMbox(ctx context.Context, name string) (f *os.File, made bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTime, errLocked)
	defer cancel()
	for {
		_, missing := os.Lstat(name)
		// Without O_NONBLOCK a pipe of that name would keep us.
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, false, err
		}
		st, err := f.Stat()
		if err == nil && !st.Mode().IsRegular() {
			err = &os.PathError{Op: "open", Path: name, Err: errors.New("it is no regular file")}
		}
		if err == nil {
			err = lock(ctx, f)
		}
		if err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		// A mail reader may have put another file in its place while we waited.
		if now, err := os.Stat(name); err == nil && os.SameFile(st, now) {
			return f, missing != nil, nil
		}
		_ = f.Close() // nothing was written
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
	}
}

// lock waits for an exclusive lock until ctx is done.
func lock(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
