// Command postern is the whole of Postern: the gateway (serve) and everything
// that looks at it or speaks to it. Each subcommand is a thin file of its own;
// the parts list of the daemon is in daemon.go.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the linker (see Makefile).
var version = "0.1.0-dev"

// streams are the standard streams, so that commands can be tested.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Exit statuses that commands share.
const (
	exitDone    = 0
	exitNo      = 1 // refused, nothing matched, unknown id, errors found
	exitUsage   = 2 // wrong use
	exitOffline = 3 // the daemon is down
)

// usageError is a mistake of whoever called: exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError ends with a status of its own; a nil error prints nothing.
type exitError struct {
	status int
	error
}

func (e exitError) Unwrap() error { return e.error }

func main() {
	name, args := ourName, os.Args[1:]
	if as := called(os.Args[0]); as != nil {
		name, args = filepath.Base(os.Args[0]), append(as, args...)
	}
	if name == "qmail-queue" {
		args = args[:1] // it takes none, and its status 0 means that it has the message
	}
	if os.Geteuid() != os.Getuid() || os.Getegid() != os.Getgid() {
		args = []string{"queue-in"} // with a set-ID bit it is qmail-queue, whatever its caller calls it
	}
	os.Exit(runAs(name, args, streams{os.Stdin, os.Stdout, os.Stderr}))
}

// called is the command that a name of the program stands for, such as that of a
// link called qmail-queue; nothing for its own.
func called(as string) []string {
	if slices.ContainsFunc(analyzers, func(a analyzer) bool { return a.name == filepath.Base(as) }) {
		return []string{"analyze", filepath.Base(as), "--" + asFilter}
	}
	switch filepath.Base(as) {
	case "qmail-queue":
		return []string{"queue-in"}
	case "qmail-qmqpc":
		return []string{"qmqpc"}
	case "qmail-inject", "sendmail", "newaliases", "qmail-qread", "qmail-qstat", "qmail-tcpto", "qmail-tcpok":
		return []string{filepath.Base(as)}
	case "tcprules", "tcprulescheck", "tcpserver":
		return []string{filepath.Base(as)}
	case "mailq":
		return []string{"sendmail", "-bp"}
	}
	if name := filepath.Base(as); slices.Contains(tools(), name) {
		return []string{name}
	}
	return nil
}

func run(args []string, std streams) int { return runAs(ourName, args, std) }

// ourName is how the program calls itself, unless it is called by the name of another one.
const ourName = "postern"

// runAs is the whole program but for the exit. Its messages bear the name.
func runAs(name string, args []string, std streams) int {
	root := rootCommand(&global{std: std, byName: name != ourName})
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	err := root.Execute()
	if err == nil {
		return exitDone
	}
	status := exitNo
	if e, ok := errors.AsType[exitError](err); ok {
		status = e.status
		if e.error == nil {
			return status
		}
	} else if _, ok := errors.AsType[usageError](err); ok || strings.HasPrefix(err.Error(), "unknown command") {
		status = exitUsage // cobra's own error has no type
	}
	fmt.Fprintf(std.err, "%s: %v\n", name, err)
	return status
}

func rootCommand(g *global) *cobra.Command {
	std := g.std
	root := &cobra.Command{
		Use:   "postern",
		Short: "A plugin-driven policy SMTP gateway",
		Long: `Postern takes mail in, asks policies what to do with it, keeps what it accepted
safe, and sends it on. Policies are Lua scripts or plugin processes.

  postern serve                 run the gateway on built-in defaults
  postern check -c FILE         find every mistake in a configuration
  postern why ID                tell how a message was decided, step by step

The configuration is the file of -c, else $POSTERN_CONFIG, ./postern.toml,
/etc/postern/postern.toml, else the built-in default.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SuggestionsMinimumDistance = 2
	root.PersistentFlags().StringVarP(&g.file, "config", "c", "", "configuration `FILE`")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(analyzeCommand(g), qreadCommand(g), qstatCommand(g), tcptoCommand(g), tcpokCommand(g))
	root.AddCommand(
		serveCommand(g), initCommand(std), checkCommand(g), reloadCommand(g), statusCommand(g), topCommand(g),
		queueCommand(g), quarantineCommand(g), whyCommand(g), shadowCommand(g), replayCommand(g), sendCommand(std), injectCommand(g),
		deliveryCommand(g), queueInCommand(g), qmqpcCommand(g), injectAsCommand(g), sendmailCommand(g), newaliasesCommand(g),
		policyCommand(g), testCommand(g), pluginCommand(g), passwdCommand(std), profileCommand(g),
		spfCommand(g), dmarcCommand(g), dkimCommand(g), arcCommand(g), srsCommand(g), batvCommand(g), lookupCommand(g),
	)
	root.AddCommand(rulesCommand(g), tcpserverCommand(g), importCommand(g), showctlCommand(std))
	root.AddCommand(tcprulesCommands(std)...)
	root.AddCommand(toolCommands(g)...)
	for _, c := range root.Commands() {
		if c.HasSubCommands() && c.RunE == nil {
			group(c)
		}
		wrapArgs(c)
	}
	return root
}

// group makes a command that only holds others say so: its help without an
// argument, an error with one that it does not know.
func group(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		hint := ""
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf("; did you mean %q?", near[0])
		}
		return usageError{fmt.Errorf("%s has no command %q%s\nSee '%s --help'", c.CommandPath(), args[0], hint, c.CommandPath())}
	}
}

// wrapArgs makes a wrong number of arguments a usage error in a command and all
// below it.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}
