package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/analyze"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/record"
)

// stateFile is the descriptor on which qmailanalog's matchup leaves its state.
const stateFile = 5

// read gives sink all that the files tell, or the recorder where there are none.
func (f *analyzeFlags) read(ctx context.Context, args []string, sink analyze.Sink, other func([]byte) error) error {
	if f.filter.Sender != "" || f.filter.Recipient != "" || f.filter.QP != "" {
		f.filter.To = sink
		sink = &f.filter
	}
	m := analyze.NewMatcher(sink)
	if f.asFilter && len(args) == 0 {
		args = []string{"-"}
	}
	if len(args) == 0 {
		if f.state != "" {
			return usageError{errors.New("--state is for files; the recorder knows what is not over")}
		}
		return f.readRecorder(ctx, m)
	}
	if !f.since.IsZero() || !f.until.IsZero() {
		return usageError{errors.New("--since and --until are for the recorder; choose the files")}
	}
	r := analyze.NewReader(m)
	r.Other = other
	if err := f.loadState(r); err != nil {
		return err
	}
	if err := f.readFiles(ctx, r, args); err != nil {
		return err
	}
	c := r.Counts()
	if err := c.Nothing(); err != nil {
		return exitError{exitNo, err}
	}
	if c.Understood < c.Lines {
		fmt.Fprintf(f.g.std.err, "postern: %d of %d lines were understood\n", c.Understood, c.Lines)
	}
	if c.Forgotten > 0 {
		fmt.Fprintf(f.g.std.err, "postern: more than %d messages or deliveries were not over at a time; the oldest %d of them were forgotten\n", analyze.MaxOpen, c.Forgotten)
	}
	return f.saveState(r)
}

func (f *analyzeFlags) readRecorder(ctx context.Context, m *analyze.Matcher) error {
	bar := newProgress(f.g.std.err, "reading", -1)
	defer bar.end()
	n := 0
	take := func(list iter.Seq2[record.Passage, error]) error {
		for p, err := range list {
			if err != nil {
				return err
			}
			_, err = m.Own(&analyze.Own{
				Event: p.Event, ID: p.ID, Time: analyze.Stamp(p.Time.UnixNano()), Sender: p.Sender, Recipient: p.Recipient, NextHop: p.NextHop,
				Reply: p.Reply, UID: p.By, Duration: p.Duration, Age: p.Age, Size: p.Size,
			})
			if err != nil {
				return err
			}
			n++
			bar.at(n)
		}
		return nil
	}
	since, until := f.since.Time, f.until.Time
	err := f.g.askRecorder(
		func(c *console.Client) error { return take(c.Passages(ctx, since, until)) },
		func(r *record.Recorder) error { return take(r.Passages(ctx, since, until)) },
	)
	if err == nil && n == 0 {
		return exitError{exitNo, errors.New("nothing is on record; name log files to read")}
	}
	return err
}

func (f *analyzeFlags) loadState(r *analyze.Reader) error {
	if f.state == "" {
		return nil
	}
	in, err := os.Open(f.state)
	if errors.Is(err, os.ErrNotExist) {
		return r.LoadState(strings.NewReader(""))
	}
	if err != nil {
		return err
	}
	defer in.Close()
	if err := r.LoadState(in); err != nil {
		return fmt.Errorf("--state %s: %w", f.state, err)
	}
	return nil
}

// saveState replaces the state at once, so that it is whole whatever happens.
func (f *analyzeFlags) saveState(r *analyze.Reader) error {
	if f.state != "" {
		made := f.state + ".tmp"
		err := writeFile(made, r.WriteState)
		if err == nil {
			err = os.Rename(made, f.state)
		}
		if err != nil {
			return fmt.Errorf("--state: %w", err)
		}
	}
	if f.asFilter && isOpenFile(stateFile) {
		out := os.NewFile(stateFile, "descriptor 5")
		return errors.Join(r.WriteState(out), out.Close())
	}
	return nil
}

// isOpenFile tells whether a caller gave a descriptor for writing. What the Go runtime
// opens for itself is no file of these kinds.
func isOpenFile(fd int) bool {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil {
		return false
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFIFO, syscall.S_IFREG, syscall.S_IFCHR:
	default:
		return false
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
	return errno == 0 && flags&syscall.O_ACCMODE != syscall.O_RDONLY
}

func (f *analyzeFlags) readFiles(ctx context.Context, r *analyze.Reader, args []string) error {
	files, total, err := logFiles(args)
	if err != nil {
		return err
	}
	steps := -1
	if total > 0 {
		steps = int(total >> 10)
	}
	bar := newProgress(f.g.std.err, "reading, KiB", steps)
	defer bar.end()
	next := time.Now()
	var read int64
	for _, path := range files {
		err := func() error {
			in, shut, err := openLog(path, f.g.std.in, &read)
			if err != nil {
				return err
			}
			defer shut()
			lines := 0
			r.Progress = func(int64) {
				if lines++; lines&1023 == 0 && time.Now().After(next) {
					next = time.Now().Add(100 * time.Millisecond)
					bar.at(int(read >> 10))
				}
			}
			return r.Read(counted{ctx, in})
		}()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// counted ends reading where ctx is done.
type counted struct {
	ctx context.Context
	io.Reader
}

func (c counted) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(b)
}

// logFiles is the files that arguments mean, with their size together; -1 where
// nobody knows. Of a folder it is those of multilog, the oldest first.
func logFiles(args []string) (files []string, total int64, err error) {
	for _, arg := range args {
		if arg == "-" {
			files, total = append(files, arg), -1
			continue
		}
		st, err := os.Stat(arg)
		if err != nil {
			return nil, 0, err
		}
		list := []string{arg}
		if st.IsDir() {
			if list, err = filepath.Glob(filepath.Join(arg, "@*.[su]")); err != nil {
				return nil, 0, err
			}
			slices.Sort(list)
			if _, err := os.Stat(filepath.Join(arg, "current")); err == nil {
				list = append(list, filepath.Join(arg, "current"))
			}
			if len(list) == 0 {
				return nil, 0, fmt.Errorf("%s: no log of multilog is in this folder (@*.s, current); name files", arg)
			}
		}
		for _, path := range list {
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && total >= 0 {
				total += st.Size()
			}
			files = append(files, path)
		}
	}
	return files, total, nil
}

// openLog opens a file, unpacked where it is packed by gzip; read counts its bytes.
func openLog(path string, stdin io.Reader, read *int64) (io.Reader, func(), error) {
	in, shut := stdin, func() {}
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, nil, err
		}
		in, shut = file, func() { _ = file.Close() }
	}
	b := bufio.NewReaderSize(&tally{in, read}, 256<<10)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		shut()
		return nil, nil, err
	}
	if string(magic) != "\x1f\x8b" {
		return b, shut, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		shut()
		return nil, nil, err
	}
	return z, shut, nil
}

// tally counts what is read.
type tally struct {
	io.Reader
	n *int64
}

func (t *tally) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	*t.n += int64(n)
	return n, err
}
