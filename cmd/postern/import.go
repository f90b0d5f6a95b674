package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/migrate"
)

// importFlags are the flags that all sources share.
type importFlags struct {
	out         string
	force, json bool
	rules       string
}

func importCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Make a postern.toml of the configuration of qmail, qpsmtpd, Haraka or Postfix",
	}
	var f importFlags
	source := func(name, what string, read func(dir string) (*migrate.Result, error)) {
		sub := &cobra.Command{
			Use:   name + " DIR",
			Short: "Make a postern.toml of " + what,
			Long: `Reads ` + what + `, writes a postern.toml and the files that
it names into the folder of --output, and prints what has no equivalent or behaves in
another way, each with its place: missing, differs, todo (something for you to do),
unknown, unused (nothing is lost).

What is written has been checked as 'postern check' does. Files that are there
already are left alone, and nothing is written, unless --force is given. Nothing of
the source is changed. See docs/importing.md.

Exit status: 0 written, 1 not, 2 wrong use.`,
			Example: "  postern import " + name + " " + map[string]string{"qmail": "/var/qmail/control", "qpsmtpd": "/etc/qpsmtpd", "haraka": "/etc/haraka", "postfix": "/etc/postfix"}[name] + " --output /etc/postern",
			Args:    cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				r, err := read(args[0])
				if err != nil {
					return err
				}
				return bringIn(g, r, &f)
			},
		}
		fl := sub.Flags()
		fl.StringVarP(&f.out, "output", "o", ".", "`DIR` to write to; it is made where it is missing")
		fl.BoolVar(&f.force, "force", false, "replace files that are there")
		fl.BoolVar(&f.json, "json", false, "print the report as JSON, one object a line")
		if name == "qmail" {
			fl.StringVar(&f.rules, "rules", "", "connection rules, `FILE` such as /etc/tcp.smtp; else tcp.smtp is looked for beside the folder")
		}
		c.AddCommand(sub)
	}
	source("qmail", "qmail's control files, with users/ and alias/ beside them", func(dir string) (*migrate.Result, error) { return migrate.Qmail(dir, f.rules) })
	source("qpsmtpd", "qpsmtpd's folder config", migrate.Qpsmtpd)
	source("haraka", "Haraka's folder config", migrate.Haraka)
	source("postfix", "Postfix's main.cf, master.cf, and the tables they name", migrate.Postfix)
	return c
}

// bringIn checks what was made, writes it, and reports.
func bringIn(g *global, r *migrate.Result, f *importFlags) error {
	if err := checkImported(r.Files); err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return err
	}
	if !f.force {
		var there []error
		for _, file := range r.Files {
			name := filepath.Join(f.out, file.Name)
			if _, err := os.Lstat(name); err == nil {
				there = append(there, fmt.Errorf("%s is there already; give another --output, or --force to replace it", name))
			}
		}
		if err := errors.Join(there...); err != nil {
			return err
		}
	}
	for i := len(r.Files) - 1; i >= 0; i-- { // postern.toml last, when what it names is there
		file := r.Files[i]
		err := replaceFile(filepath.Join(f.out, file.Name), file.Mode, func(to *os.File) error {
			_, err := io.WriteString(to, file.Text)
			return err
		})
		if err != nil {
			return err
		}
	}
	if f.json {
		return reportJSON(g.std.out, r)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(g.std.out, n)
	}
	fmt.Fprintf(g.std.out, "%s: %s, %s\n", filepath.Join(f.out, "postern.toml"), count(len(r.Files), "file"), count(len(r.Notes), "note"))
	return nil
}

func reportJSON(out io.Writer, r *migrate.Result) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for _, n := range r.Notes {
		if err := e.Encode(n); err != nil {
			return err
		}
	}
	return nil
}

// checkImported looks at what was made, in a folder of its own, as `postern check` does.
// Only errors count: warnings are about this machine.
func checkImported(files []migrate.File) error {
	dir, err := os.MkdirTemp("", "postern-import-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(dir, file.Name), []byte(file.Text), 0o600); err != nil {
			return err
		}
	}
	made := &global{file: filepath.Join(dir, "postern.toml")}
	c, problems, err := made.load()
	if err != nil {
		return err
	}
	if c != nil {
		more, _ := examine(made, c)
		problems = append(problems, more...).Sorted()
	}
	if found := problems.Errors(); len(found) > 0 {
		return fmt.Errorf("nothing is written, since what was made of it has errors:\n%s", strings.ReplaceAll(found.Error(), dir+string(filepath.Separator), ""))
	}
	return nil
}
