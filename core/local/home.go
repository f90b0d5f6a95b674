package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/dotqmail"
	"github.com/postern-mta/postern/core/send"
)

// This file is one delivery by a dot-qmail file, made by the account that it belongs
// to: in our own process, or in one that has become that account (child.go).

// errand is what is to be done. It goes to another process as JSON.
type errand struct {
	dotqmail.Delivery
	Default  string        // the instructions of a file that is empty
	Timeout  time.Duration // of one program
	Environ  []string      // of programs, beside what the delivery tells them
	Hostname string        // in the names of files
}

// report is what came of it. Forwards are left to whoever may queue mail.
type report struct {
	Result    send.Result
	Status    string // enhanced, of anything but a delivery
	Text      string // why
	Output    string // of the programs
	Files     int
	Programs  int
	To        []string // whom to forward to
	NewSender string   // as whom
}

// trouble is why a delivery does not go on.
type trouble struct {
	result send.Result
	status string
	text   string
}

func (t trouble) Error() string { return t.text }

func notNow(status, text string, args ...any) error {
	return trouble{send.Deferred, status, fmt.Sprintf(text, args...)}
}

func never(status, text string, args ...any) error {
	return trouble{send.Bounced, status, fmt.Sprintf(text, args...)}
}

// house is a delivery under way.
type house struct {
	*errand
	letter  letter
	writer  *writer
	disk    disk
	report  report
	output  output
	matched *string
}

// deliverHome does an errand. What it wrote before something failed stays.
func deliverHome(ctx context.Context, e *errand, l letter, w *writer) report {
	h := &house{errand: e, letter: l, writer: w, disk: plainDisk{}}
	h.report.Result = send.Delivered
	if err := h.run(ctx); err != nil {
		t, ok := errors.AsType[trouble](err)
		if !ok {
			t = trouble{send.Deferred, diskStatus(err), err.Error()}
		}
		if ctx.Err() != nil {
			t = trouble{send.Deferred, "4.3.2", "The mail system is stopping"}
		}
		h.report.Result, h.report.Status, h.report.Text, h.report.To = t.result, t.status, t.text, nil
	}
	h.report.Output = h.output.String()
	return h.report
}

func diskStatus(err error) string {
	switch {
	case errors.Is(err, syscall.EDQUOT):
		return "4.2.2"
	case errors.Is(err, syscall.ENOSPC):
		return "4.3.1"
	}
	return "4.3.0"
}

func (h *house) run(ctx context.Context) error {
	if err := h.checkHome(); err != nil {
		return err
	}
	switch looping, err := dotqmail.Looping(h.letter.reader(), h.DTLine()); {
	case err != nil:
		return fmt.Errorf("reading the message: %w", err)
	case looping:
		return never("5.4.6", "This message is looping: it already has my Delivered-To line")
	}
	text, forwardOnly, err := h.search()
	if err != nil {
		return err
	}
	owner, err := h.exists(dotqmail.Owner(h.Dash, h.Ext))
	if err != nil {
		return err
	}
	ownerDefault := false
	if owner {
		if ownerDefault, err = h.exists(dotqmail.OwnerDefault(h.Dash, h.Ext)); err != nil {
			return err
		}
	}
	h.report.NewSender = h.Delivery.NewSender(owner, ownerDefault)
	if len(text) == 0 {
		text, forwardOnly = []byte(h.Default), false
	}
	list, err := dotqmail.Parse(text)
	if err != nil {
		return notNow("4.2.1", "The .qmail file is not ready: %v", err)
	}
	return h.follow(ctx, list, forwardOnly)
}

// follow does the instructions in their order.
func (h *house) follow(ctx context.Context, list []dotqmail.Instruction, forwardOnly bool) error {
	for _, i := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch i.Kind {
		case dotqmail.List:
			forwardOnly = true
			continue
		case dotqmail.Forward:
			h.report.To = append(h.report.To, i.Text)
			continue
		}
		if forwardOnly {
			return notNow("4.7.0", "The .qmail file has a %s delivery on line %d, but only forwards may stand there, since it has the x bit or +list", i.Kind, i.Line)
		}
		var err error
		stop := false
		switch i.Kind {
		case dotqmail.Program:
			h.report.Programs++
			stop, err = h.program(ctx, i.Text)
		case dotqmail.Maildir:
			h.report.Files++
			err = h.maildir(ctx, i.Text)
		default:
			h.report.Files++
			err = h.mbox(ctx, i.Text)
		}
		if err != nil || stop {
			return err
		}
	}
	return nil
}

// checkHome refuses a home that others may write to, or whose owner is at work in it.
func (h *house) checkHome() error {
	st, err := os.Stat(h.Home)
	switch {
	case err != nil:
		return notNow("4.3.0", "Unable to switch to the home directory: %v", bare(err))
	case !st.IsDir():
		return notNow("4.3.0", "Unable to switch to the home directory: it is none")
	case st.Mode().Perm()&0o002 != 0:
		return notNow("4.7.0", "The home directory is writable by everybody")
	case st.Mode()&fs.ModeSticky != 0:
		return notNow("4.2.1", "The home directory is sticky: the user is editing .qmail files")
	}
	return nil
}

// maxInstructions bounds a dot-qmail file: a list of half a million addresses.
const maxInstructions = 16 << 20

// search finds and reads the dot-qmail file of the address. No text is an empty file,
// or none where the address needs none.
func (h *house) search() (text []byte, forwardOnly bool, err error) {
	for _, c := range dotqmail.Candidates(h.Dash, h.Ext) {
		text, mode, ok, err := readInstructions(h.Home + "/" + c.File)
		if err != nil {
			return nil, false, err
		}
		if ok {
			h.matched = c.Default
			return text, mode&0o100 != 0, nil
		}
	}
	if h.Dash != "" {
		return nil, false, never("5.1.1", "Sorry, no mailbox here by that name")
	}
	return nil, false, nil
}

func readInstructions(name string) (text []byte, mode fs.FileMode, ok bool, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case absent(err):
		return nil, 0, false, nil
	case err != nil:
		return nil, 0, false, notNow("4.3.0", "Unable to open %s: %v", filepath.Base(name), bare(err))
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, false, err
	case !st.Mode().IsRegular():
		return nil, 0, false, nil
	case st.Mode().Perm()&0o002 != 0:
		return nil, 0, false, notNow("4.7.0", "The .qmail file is writable by everybody")
	case st.Size() > maxInstructions:
		return nil, 0, false, notNow("4.3.0", "The .qmail file is larger than 16 MiB")
	}
	text, err = io.ReadAll(io.LimitReader(f, maxInstructions))
	return text, st.Mode().Perm(), err == nil, err
}

// absent tells whether there is no such file, as opposed to one that can't be looked at
// now.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.ENXIO)
}

func (h *house) exists(file string) (bool, error) {
	switch _, err := os.Stat(h.Home + "/" + file); {
	case err == nil:
		return true, nil
	case absent(err), errors.Is(err, fs.ErrPermission):
		return false, nil
	default:
		return false, notNow("4.3.0", "Unable to look for %s: %v", file, bare(err))
	}
}

// path is a file of an instruction.
func (h *house) path(text string) string {
	if filepath.IsAbs(text) {
		return filepath.Clean(text)
	}
	return filepath.Join(h.Home, text)
}

// trace is what stands in front of a message in a mailbox.
func (h *house) trace() []byte { return []byte(h.RPLine() + h.DTLine()) }

// maildir writes into a Maildir, which is made where it is missing.
func (h *house) maildir(ctx context.Context, text string) error {
	box := h.path(text)
	err := h.writer.store(ctx, h.disk, box, h.trace(), h.letter)
	if errors.Is(err, fs.ErrNotExist) {
		if err = h.newMaildir(box); err == nil {
			err = h.writer.store(ctx, h.disk, box, h.trace(), h.letter)
		}
	}
	if err != nil {
		return notNow(diskStatus(err), "Unable to write to the Maildir %s: %v", text, bare(err))
	}
	return nil
}

func (h *house) newMaildir(box string) error {
	for _, dir := range []string{box, box + "/tmp", box + "/new", box + "/cur"} {
		if err := h.disk.Mkdir(dir); err != nil {
			return err
		}
	}
	return errors.Join(h.disk.SyncDir(box), h.disk.SyncDir(filepath.Dir(box)))
}

// plainDisk is the disk as it is: what an account may reach is for the system to say.
type plainDisk struct{}

func (plainDisk) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
func (plainDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (plainDisk) Remove(name string) error     { return os.Remove(name) }

func (plainDisk) Mkdir(name string) error {
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (plainDisk) SyncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// bare is an error without the path of the file, which senders need not know.
func bare(err error) error {
	for _, one := range unwrapped(err) {
		if p, ok := errors.AsType[*os.PathError](one); ok {
			return p.Err
		}
		if l, ok := errors.AsType[*os.LinkError](one); ok {
			return l.Err
		}
	}
	return err
}

// unwrapped are the parts of a joined error.
func unwrapped(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// said is the text of a report as a reply has it: what programs wrote, then what was
// done, or why it was not.
func (r *report) said(last string) string {
	text := strings.TrimRight(r.Output, "\n")
	if text != "" && last != "" {
		text += "\n"
	}
	return text + last
}
