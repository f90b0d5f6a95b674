package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ShowControls tells what a folder of control files says, as qmail-showctl does: of each
// file its value or its default, and of files that qmail does not know that they are none.
func ShowControls(dir string) (string, error) {
	q, err := newQmail(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "control folder: %s\n", q.dir)
	known := map[string]bool{}
	for _, c := range Controls() {
		known[c.Name] = true
		fmt.Fprintf(&b, "\n%s: %s\n", c.Name, c.About)
		info, err := os.Stat(q.path(c.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(&b, "  (default) %s\n", q.byDefault(c))
			continue
		case err != nil:
			fmt.Fprintf(&b, "  can't be read: %v\n", err)
			continue
		case c.Shape == Database:
			fmt.Fprintf(&b, "  compiled, %d bytes, of %s\n", info.Size(), info.ModTime().UTC().Format("2006-01-02 15:04:05"))
			continue
		}
		text, err := readFile(q.path(c.Name))
		if err != nil {
			fmt.Fprintf(&b, "  can't be read: %v\n", err)
			continue
		}
		q.show(&b, c, text)
	}
	for _, name := range q.names("") {
		if !known[name] {
			fmt.Fprintf(&b, "\n%s: no program of qmail reads this file\n", name)
			if about := patches()[name]; about != "" {
				fmt.Fprintf(&b, "  %s\n", about)
			}
		}
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return printable(r)
	}, b.String()), errors.Join(q.errs...)
}

// byDefault is what counts where a file is not there, with our name in it.
func (q *qmail) byDefault(c Control) string {
	if c.Default != "me" {
		return c.Default
	}
	if me, ok := q.first("me"); ok {
		return me
	}
	return "undefined, since there is no file me"
}

func (q *qmail) show(b *strings.Builder, c Control, text string) {
	if c.Shape != List {
		l, rest, _ := strings.Cut(text, "\n")
		l = strings.TrimRight(l, " \t\r")
		fmt.Fprintf(b, "  %s\n", l)
		if _, ok := scan(l); c.Shape == Number && !ok {
			fmt.Fprintf(b, "  it is no number, so that the default counts: %s\n", c.Default)
		}
		if strings.TrimSpace(rest) != "" {
			b.WriteString("  further lines are not read\n")
		}
		return
	}
	list := lines(text)
	if len(list) == 0 {
		b.WriteString("  empty\n")
	}
	for _, l := range list {
		fmt.Fprintf(b, "  %s\n", l.text)
	}
}
