package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postern-mta/postern/core/auth"
)

func passwdCommand(std streams) *cobra.Command {
	scheme := auth.Schemes()[0]
	c := &cobra.Command{
		Use:   "passwd USER",
		Short: "Print a line for a password file of [[auth]]",
		Long: `Asks for a password, twice on a terminal, else one line of standard input, and
prints USER:HASH, a line for the file that [[auth]] names. scram-sha-256 entries
serve every mechanism, the others PLAIN and LOGIN.

Exit status: 0 printed, 2 wrong use.`,
		Example: "  postern passwd joe@example.net >> users.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if strings.ContainsAny(args[0], ":\r\n") || args[0] == "" {
				return usageError{fmt.Errorf("%q is no user name: it holds no colon", args[0])}
			}
			password, err := readPassword(std)
			if err != nil {
				return usageError{err}
			}
			hash, err := auth.Hash(scheme, password)
			if err != nil {
				return usageError{err}
			}
			_, err = fmt.Fprintf(std.out, "%s:%s\n", args[0], hash)
			return err
		},
	}
	c.Flags().StringVar(&scheme, "scheme", scheme, "one of "+strings.Join(auth.Schemes(), ", "))
	return c
}

func readPassword(std streams) (string, error) {
	in, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(std.in).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", errors.Join(errors.New("no password on standard input"), err)
		}
		return line, nil
	}
	var given [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(std.err, prompt)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(std.err)
		if err != nil {
			return "", err
		}
		given[i] = string(b)
	}
	switch {
	case given[0] != given[1]:
		return "", errors.New("the two differ")
	case given[0] == "":
		return "", errors.New("an empty password is none")
	}
	return given[0], nil
}
