package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/etc"
)

// profileNames are the configurations that people start from.
func profileNames() []string { return []string{"default", "gateway", "submission", "local"} }

func initCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "init PROFILE [FILE]",
		Short: "Write a commented configuration to start from",
		Long: `Writes a whole configuration for a purpose, with a comment at each line and a mark
(<<) where something of yours is to be filled in. It starts as it is.

  default      what runs without a file
  gateway      in front of another mail server: refuses junk, hands on the rest
  submission   your people log in and send
  local        the mail of one machine

FILE is ./postern.toml by default, and - is standard output. A file that exists is
never overwritten.

Exit status: 0 written, 1 not, 2 wrong use.`,
		Example: "  postern init gateway /etc/postern/postern.toml\n  postern init submission - | less",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			file := "postern.toml"
			if len(args) > 1 {
				file = args[1]
			}
			return startFrom(std, args[0], file)
		},
	}
}

func startFrom(std streams, name, file string) error {
	if !slices.Contains(profileNames(), name) {
		return usageError{fmt.Errorf("there is no profile %q; there are %s", name, strings.Join(profileNames(), ", "))}
	}
	text := etc.Default
	if name != "default" {
		var err error
		if text, err = etc.Profiles.ReadFile(name + ".toml"); err != nil {
			return err
		}
	}
	if file == "-" {
		_, err := std.out.Write(text)
		return err
	}
	text = bytes.ReplaceAll(text, []byte(name+".toml"), []byte(filepath.Base(file))) // as its comments call it
	switch err := writeNew(file, string(text), 0o644); {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s exists, and is not overwritten; name another FILE, or - for standard output", file)
	case err != nil:
		return err
	}
	var with []string
	beside, err := fs.Glob(etc.Profiles, name+".[^t]*") // such as its users
	if err != nil {
		return err
	}
	for _, one := range beside {
		text, err := etc.Profiles.ReadFile(one)
		if err == nil {
			err = writeNew(filepath.Join(filepath.Dir(file), one), string(text), 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		with = append(with, ", with "+filepath.Join(filepath.Dir(file), one))
	}
	fmt.Fprintf(std.err, "%s is written%s; look for << in it, then: postern check -c %s\n", file, strings.Join(with, ""), file)
	return nil
}
