package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// This file is export, import and fsck: the queue as files, and the proof of what
// it holds.

func queueExport(g *global) *cobra.Command {
	var f filterFlags
	c := &cobra.Command{
		Use:   "export DIR [ID...] | filters | --all",
		Short: "Copy messages into a folder, each as ID.eml and ID.json",
		Long: `Copies messages with their envelopes into DIR, which is made where it is missing:
ID.eml is the message as it is stored, byte for byte, ID.json its envelope with
each recipient's state. The messages stay in the queue; delete them, or hold them
first, where they are to move: "postern queue import DIR" takes them in on another
host. Works with the daemon down, too. A file that is there is never overwritten.

Exit status: 0 done, 1 nothing matched, unknown id, or a file could not be written.`,
		Example: "  postern queue hold --domain example.net --yes\n  postern queue export moved --held\n  postern queue import moved        # on the other host",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter(args[1:])
			if err != nil {
				return err
			}
			if err := filter.Check(); err != nil {
				return usageError{err}
			}
			return export(cmd.Context(), g, args[0], filter)
		},
	}
	f.add(c)
	f.addPlaces(c)
	c.Flags().BoolVar(&f.All, "all", false, "every message")
	return c
}

func export(ctx context.Context, g *global, dir string, f console.Filter) error {
	view, err := openView(ctx, g)
	if err != nil {
		return err
	}
	defer view.close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	bar := newProgress(g.std.err, "exporting", -1)
	defer bar.end()
	n, bad, found := 0, 0, map[string]bool{}
	for row, err := range view.rows(f) {
		if err != nil {
			return err
		}
		found[row.ID] = true
		switch err := view.exportOne(root, row.ID); {
		case errors.Is(err, errLeft):
		case err != nil:
			bad++
			fmt.Fprintf(g.std.err, "postern: %s: %v\n", row.ID, err)
		default:
			n++
		}
		bar.at(n)
	}
	if err := syncFolder(dir); err != nil { // who exports may delete next
		return err
	}
	for _, id := range f.IDs {
		if !found[id] {
			bad++
			fmt.Fprintf(g.std.err, "postern: %s: no such message in the queue\n", id)
		}
	}
	bar.end()
	fmt.Fprintf(g.std.out, "%s exported to %s\n", count(n, "message"), dir)
	if n == 0 || bad > 0 {
		return exitError{status: exitNo}
	}
	return nil
}

// errLeft says that a message left the queue before it could be copied.
var errLeft = errors.New("the message left the queue")

// exportOne writes the message and, when that is whole, its envelope.
func (v *view) exportOne(root *os.Root, id string) error {
	d, err := v.show(id)
	if err == nil {
		err = createFile(root, id+".eml", func(w io.Writer) error { return v.body(id, w) })
	}
	if e, ok := errors.AsType[exitError](err); ok && e.status == exitNo {
		return errLeft
	}
	if err != nil {
		return err
	}
	return createFile(root, id+".json", func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(d)
	})
}

// createFile makes a file with what fill writes, on stable storage, or none.
func createFile(root *os.Root, name string, fill func(io.Writer) error) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(name))
	}
	return nil
}

func queueImport(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "import DIR | FILE.json...",
		Short: "Take messages in that were exported",
		Long: `Puts messages that "postern queue export" wrote into the queue of the running
daemon, with their age, state and place; each is durable when it is counted. What
is delivered already is not delivered again. Policies are not asked: they judged
the message where it came in. A message whose id is in the queue is not taken.

Exit status: 0 done, 1 some were not taken, 2 wrong use, 3 the daemon is down.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return importAll(cmd.Context(), g, args) },
	}
	return c
}

func importAll(ctx context.Context, g *global, args []string) error {
	c, err := g.settled()
	if err != nil {
		return err
	}
	files, err := envelopes(args)
	if err != nil {
		return err
	}
	client, err := dial(c)
	if err != nil {
		return offline(err)
	}
	defer client.Close()
	bar := newProgress(g.std.err, "importing", len(files))
	defer bar.end()
	n := 0
	for i, file := range files {
		if err := importOne(ctx, client, file); err != nil {
			if isDown(err) {
				return offline(err)
			}
			fmt.Fprintf(g.std.err, "postern: %s: %v\n", file, err)
		} else {
			n++
		}
		bar.at(i + 1)
	}
	bar.end()
	fmt.Fprintf(g.std.out, "%s imported\n", count(n, "message"))
	if n < len(files) {
		return exitError{status: exitNo}
	}
	return nil
}

// envelopes lists the envelopes that the arguments name.
func envelopes(args []string) (files []string, err error) {
	for _, arg := range args {
		st, err := os.Stat(arg)
		switch {
		case err != nil:
			return nil, exitError{exitNo, err}
		case !st.IsDir() && strings.HasSuffix(arg, ".json"):
			files = append(files, arg)
			continue
		case !st.IsDir():
			return nil, usageError{fmt.Errorf("%s: name a folder, or ID.json, with ID.eml beside it", arg)}
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && message.ValidID(id) {
				files = append(files, filepath.Join(arg, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, exitError{exitNo, errors.New("there is no exported message")}
	}
	return files, nil
}

// importOne hands over one message: what it is taken for is in its own file.
func importOne(ctx context.Context, client *console.Client, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var d console.Detail
	if err := json.Unmarshal(text, &d); err != nil {
		return fmt.Errorf("it is no envelope of an exported message: %w", err)
	}
	if want := strings.TrimSuffix(filepath.Base(file), ".json"); d.ID != want {
		return fmt.Errorf("it is the envelope of %.40q; its name is that of %q", d.ID, want)
	}
	body, err := os.Open(strings.TrimSuffix(file, ".json") + ".eml")
	if err != nil {
		return err
	}
	defer body.Close()
	if st, err := body.Stat(); err != nil || st.Size() != d.Size {
		return errors.Join(err, fmt.Errorf("%s has not the %d bytes that the envelope says", body.Name(), d.Size))
	}
	return client.QueueImport(ctx, d, body)
}

func queueCheck(g *global) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Prove that every message is whole and will be tried",
		Long: `Reads every stored message and checks it against its checksums, its envelope and
the index of what is due, and looks for bodies and index entries without a message.
Nothing is changed. It runs beside the daemon, or on the disk where none runs. A
damaged message is set aside, and the index made anew, when the daemon opens the
queue or meets the message.

Exit status: 0 no fault, 1 faults.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			view, err := openView(cmd.Context(), g)
			if err != nil {
				return err
			}
			defer view.close()
			return view.fsck(g, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line: faults, then the result")
	return c
}

func (v *view) fsck(g *global, asJSON bool) error {
	of := -1
	if v.client != nil {
		if s, err := v.client.Status(v.ctx); err == nil {
			of = s.Queue.Messages
		}
	} else if v.queue != nil {
		of = v.queue.Totals().Messages
	}
	bar := newProgress(g.std.err, "checking", of)
	defer bar.end()
	enc, faults := json.NewEncoder(g.std.out), 0
	for line, err := range v.inspect() {
		if err != nil {
			return err
		}
		switch {
		case line.Fault != nil:
			faults++
			bar.end()
			if !asJSON {
				fmt.Fprintf(g.std.out, "%s: %s\n", printable(line.Fault.ID), line.Fault.What)
			}
		case line.Result == nil:
			bar.at(line.Messages)
			continue
		default:
			bar.end()
			if r := line.Result; !asJSON {
				fmt.Fprintf(g.std.out, "%s, %d bytes, %s waiting: %s\n", count(r.Messages, "message"), r.Bytes, count(r.Recipients, "recipient"), count(r.Faults, "fault"))
				if r.Aside > 0 {
					fmt.Fprintf(g.std.out, "%s set aside before\n", count(r.Aside, "damaged message"))
				}
			}
		}
		if asJSON {
			if err := enc.Encode(line); err != nil {
				return err
			}
		}
	}
	if faults > 0 {
		return exitError{status: exitNo}
	}
	return nil
}

// inspect is the check of the queue, by the daemon or on the disk.
func (v *view) inspect() func(func(console.Inspection, error) bool) {
	if v.client != nil {
		return v.client.QueueCheck(v.ctx)
	}
	return func(yield func(console.Inspection, error) bool) {
		if v.queue == nil { // there never was one
			yield(console.Inspection{Result: new(queue.Checked)}, nil)
			return
		}
		more := true
		say := func(i console.Inspection) { more = more && yield(i, nil) }
		done, err := v.queue.Check(v.ctx, func(f queue.Fault) { say(console.Inspection{Fault: &f}) }, func(n int) { say(console.Inspection{Messages: n}) })
		if more {
			yield(console.Inspection{Result: &done}, err)
		}
	}
}
