//go:build linux

// Command bench measures the built gateway from outside: beside other servers
// (relay), and with long queues and large messages (backlog). It needs root for
// Postfix alone, listens on loopback, ends what it started and leaves no files.
//
//	go run ./t/bench relay   [-n 5000] [-sessions 50] [-rounds 3] [-peers postern,postfix] [-json FILE] [-write]
//	go run ./t/bench backlog [-messages 1000000] [-scenes start,drain,…] [-json FILE] [-write]
//	go run ./t/bench gateway [-n 5000] [-rounds 3] [-profile etc/gateway.toml] [-json FILE] [-write]
//	go run ./t/bench labelled [-profile etc/gateway.toml] [-write]
//	go run ./t/bench draw docs/benchmarks/relay.json
//
// The last one makes table and plot of the documents anew from figures that are there.
//
// Load generator (load.go) and next hop (sink.go) are its own: one thread each
// that does nothing but its part of the dialogue, so that they leave the cores to
// the server. Peers are in peers.go, processes and what they use in group.go, what
// is measured in relay.go and the files named after the scenes of backlog, and
// how it is told in report.go and plot.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// bench is one run: its settings, and the folder that all its files are in.
type bench struct {
	root string // of the repository
	dir  string // removed at the end
	rounds,
	sessions,
	messages,
	size int
	json  string
	write bool
	bins  map[string]string // built binaries by their build tags
}

func main() {
	runtime.GOMAXPROCS(runtime.NumCPU() + 4) // the threads of load and sink are always in a system call
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := errors.New("say what to do: relay, backlog, gateway, labelled or draw")
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "relay":
			err = runRelay(ctx, os.Args[2:])
		case "backlog":
			err = runBacklog(ctx, os.Args[2:])
		case "gateway":
			err = runGateway(ctx, os.Args[2:])
		case "labelled":
			err = runLabelled(ctx, os.Args[2:])
		case "draw":
			err = runDraw(os.Args[2:])
		case "sink":
			err = sinkProcess()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// flags are the settings that both commands have.
func (b *bench) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ExitOnError)
	f.IntVar(&b.size, "size", 4096, "octets of a message")
	f.StringVar(&b.json, "json", "", "write the results to this `FILE`")
	f.BoolVar(&b.write, "write", false, "write the results into docs/benchmarks.md, with plot and JSON")
	f.StringVar(&b.dir, "dir", "/var/tmp", "make the folder of the run in this `DIRECTORY`, on the disk that is to be measured")
	return f
}

// open makes the run's folder; close removes it.
func (b *bench) open() (shut func(), err error) {
	if b.root, err = repository(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp(b.dir, "postern-bench-"); err != nil {
		return nil, err
	}
	b.bins = map[string]string{}
	if err := os.Chmod(b.dir, 0o755); err != nil { // Postfix's accounts walk through it
		return nil, err
	}
	raiseFiles()
	return func() { _ = os.RemoveAll(b.dir) }, nil
}

// repository is the folder that go.mod is in.
func repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// raiseFiles raises the limit of open files, for us and those we start.
func raiseFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
}

// binary builds the gateway, once for each set of tags.
func (b *bench) binary(ctx context.Context, tags string) (string, error) {
	if exe := b.bins[tags]; exe != "" {
		return exe, nil
	}
	exe := filepath.Join(b.dir, "postern"+tags)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", tags, "-ldflags", "-s=false", "-o", exe, "./cmd/postern")
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building: %w\n%s", err, out)
	}
	b.bins[tags] = exe
	return exe, nil
}

// say tells how the run goes.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
