package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/dotqmail"
)

// MaildirToMbox moves the messages of a Maildir, the oldest first, to the end of an mbox
// file, which is locked meanwhile, and returns how many. They are removed from the
// Maildir when all of them are durable in the file: whatever stops it before that leaves
// them where they are, and the file as it was.
func MaildirToMbox(ctx context.Context, maildir, mbox string) (int, error) {
	var names []string
	for _, folder := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(maildir, folder))
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() {
				names = append(names, filepath.Join(folder, e.Name()))
			}
		}
	}
	if len(names) == 0 {
		return 0, nil
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) }) // they begin with the time
	moved := names[:0]
	err := appendMbox(ctx, mbox, func(w *bufio.Writer) error {
		for _, name := range names {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := copyMessage(w, filepath.Join(maildir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue // a mail reader moved or removed it meanwhile
			}
			if err != nil {
				return err
			}
			moved = append(moved, name)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", mbox, err)
	}
	var all error
	for _, name := range moved {
		if err := os.Remove(filepath.Join(maildir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("it is in %s too: %w", mbox, err))
		}
	}
	return len(moved), all
}

// copyMessage writes one file of a Maildir as an mbox file has it. Its sender is that of
// the Return-Path that begins it.
func copyMessage(w *bufio.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	in := bufio.NewReader(f)
	first, _ := in.Peek(1 << 10) // as much as there is
	if _, err := w.WriteString(dotqmail.FromLine(returnPath(first), st.ModTime().Truncate(time.Second))); err != nil {
		return err
	}
	m := dotqmail.NewMbox(w)
	if _, err := io.Copy(m, in); err != nil {
		return err
	}
	return m.End()
}

// returnPath is the sender that the first line tells; "" for none.
func returnPath(text []byte) string {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte("Return-Path: <"))
	if !ok {
		return ""
	}
	path, ok := bytes.CutSuffix(bytes.TrimRight(rest, "\r "), []byte(">"))
	if !ok {
		return ""
	}
	return string(path)
}
