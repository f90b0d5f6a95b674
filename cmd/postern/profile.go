package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func profileCommand(g *global) *cobra.Command {
	seconds, out := 0, ""
	c := &cobra.Command{
		Use:   "profile [cpu|heap|allocs|goroutine|trace]",
		Short: "Record what the daemon's time or memory goes to",
		Long: `Writes a profile of the running daemon, which go tool pprof reads (trace: go tool
trace). cpu, the default, and trace watch it for some seconds, which costs little;
heap and goroutine are what is there now, allocs what was allocated since its start.
It holds names of functions and no mail. Reports of slowness are welcome with one.

Exit status: 0 written, 1 not, 2 wrong use, 3 the daemon is down.`,
		Example: `  postern profile --seconds 30 --out cpu.pprof
  postern profile heap --out heap.pprof
  go tool pprof -top cpu.pprof`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, kinds := "cpu", []string{"cpu", "heap", "allocs", "goroutine", "trace"}
			if len(args) > 0 {
				kind = args[0]
			}
			if !slices.Contains(kinds, kind) {
				return usageError{fmt.Errorf("there is no profile %q; there are %s", kind, strings.Join(kinds, ", "))}
			}
			if seconds < 1 || seconds > 600 {
				return usageError{fmt.Errorf("--seconds %d: write a number from 1 to 600", seconds)}
			}
			if out == "" {
				out = kind + ".pprof"
			}
			client, err := g.daemonClient()
			if err != nil {
				return err
			}
			defer client.Close()
			in, err := client.Profile(cmd.Context(), kind, seconds)
			if err != nil {
				return err
			}
			defer in.Close()
			return writeProfile(g, out, in)
		},
	}
	c.Flags().IntVar(&seconds, "seconds", 10, "how long cpu and trace watch, in `SECONDS`")
	c.Flags().StringVar(&out, "out", "", "write to this `FILE` (default: KIND.pprof)")
	return c
}

func writeProfile(g *global, name string, in io.Reader) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, in)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = fmt.Fprintf(g.std.out, "%s: %d bytes\n", name, n)
	return err
}
