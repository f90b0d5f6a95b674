package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/migrate"
)

func showctlCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "showctl [DIR]",
		Short: "Tell what qmail's control files say, as qmail-showctl does",
		Long: `Prints each control file of DIR (/var/qmail/control), what it means to qmail, what is
its default where it is not there, and what no program of qmail reads.

Exit status: 0, or 1 where the folder can't be read.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "/var/qmail/control"
			if len(args) > 0 {
				dir = args[0]
			}
			text, err := migrate.ShowControls(dir)
			if err != nil {
				return fmt.Errorf("showctl: %w", err)
			}
			_, err = io.WriteString(std.out, text)
			return err
		},
	}
}
