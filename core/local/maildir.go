package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// maxKnown bounds the memory of mailboxes whose folders are synced.
const maxKnown = 10_000

// disk is the file layer below a delivery. Tests make it fail.
type disk interface {
	// Create makes a file that must not exist yet.
	Create(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// Mkdir makes a folder; one that exists is no error.
	Mkdir(name string) error
	// SyncDir makes the entries of a folder durable.
	SyncDir(name string) error
}

type file interface {
	io.WriteCloser
	Sync() error
}

// rootDisk is the disk below an os.Root.
type rootDisk struct{ root *os.Root }

func (d rootDisk) Create(name string) (file, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
func (d rootDisk) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d rootDisk) Remove(name string) error     { return d.root.Remove(name) }

func (d rootDisk) Mkdir(name string) error {
	if err := d.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (d rootDisk) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeRoot makes the root of all mailboxes and its parents, durably.
func makeRoot(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeRoot(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// put writes one message into a mailbox. When it returns nil, the message
// survives a power cut.
func (d *Maildir) put(ctx context.Context, box string, head []byte, body letter) error {
	if err := d.prepare(box); err != nil {
		return err
	}
	err := d.store(ctx, d.disk, box, head, body)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the mailbox: make it anew, once
		d.forget(box)
		if err = d.prepare(box); err == nil {
			err = d.store(ctx, d.disk, box, head, body)
		}
	}
	return err
}

// writer gives messages in Maildirs names that no other delivery has: time, process, a
// count and chance.
type writer struct {
	host  string // as hostPart makes it
	count atomic.Uint64
}

// store writes one message into a mailbox whose folders are there.
func (w *writer) store(ctx context.Context, d disk, box string, head []byte, body letter) error {
	name := w.unique()
	temporary := path.Join(box, "tmp", name)
	err := write(ctx, d, temporary, head, body)
	if err == nil {
		if err = d.Rename(temporary, path.Join(box, "new", name)); err == nil {
			if err = d.SyncDir(path.Join(box, "new")); err != nil {
				// It may or may not be there after a power cut: take it back, since it
				// will be delivered again.
				return errors.Join(err, d.Remove(path.Join(box, "new", name)))
			}
			return nil
		}
	}
	if gone := d.Remove(temporary); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// prepare makes the folders of a mailbox where they are missing, and syncs the
// ones above them, the first time that this process meets the mailbox.
func (d *Maildir) prepare(box string) error {
	d.mu.Lock()
	_, known := d.known[box]
	d.mu.Unlock()
	if known {
		return nil
	}
	domain := path.Dir(box)
	for _, dir := range []string{domain, box, path.Join(box, "tmp"), path.Join(box, "new"), path.Join(box, "cur")} {
		if err := d.disk.Mkdir(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{box, domain, "."} {
		if err := d.disk.SyncDir(dir); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxKnown {
		clear(d.known)
	}
	d.known[box] = struct{}{}
	return nil
}

func (d *Maildir) forget(box string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, box)
}

func (w *writer) unique() string {
	now := time.Now()
	return fmt.Sprintf("%d.M%06dP%dQ%dR%08x.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), w.count.Add(1), rand.Uint32(), w.host)
}

// write makes the file and syncs it.
func write(ctx context.Context, d disk, name string, head []byte, body letter) (err error) {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := body.copyTo(ctx, f, head); err != nil {
		return err
	}
	return f.Sync()
}

const block = 64 << 10

// copyLF writes head, then body with LF for each CRLF, in large pieces.
func copyLF(ctx context.Context, w io.Writer, head []byte, body message.Body) error {
	in := make([]byte, min(block, body.Size()))
	out := make([]byte, 0, len(head)+len(in)+1)
	out = append(out, head...)
	held := false // a CR at the end of the last piece
	for at, size := int64(0), body.Size(); at < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := body.ReadAt(in[:min(int64(len(in)), size-at)], at)
		if n == 0 {
			return fmt.Errorf("reading the message: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		at += int64(n)
		p := in[:n]
		if held && p[0] != '\n' {
			out = append(out, '\r')
		}
		if held = p[n-1] == '\r'; held {
			p = p[:n-1]
		}
		for {
			i := bytes.Index(p, []byte("\r\n"))
			if i < 0 {
				break
			}
			out = append(append(out, p[:i]...), '\n')
			p = p[i+2:]
		}
		out = append(out, p...)
		if _, err := w.Write(out); err != nil {
			return err
		}
		out = out[:0]
	}
	if held {
		out = append(out, '\r')
	}
	if len(out) > 0 {
		_, err := w.Write(out)
		return err
	}
	return nil
}
