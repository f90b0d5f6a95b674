package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// This file holds deliveries on this machine: [local], and programs as next hops.

// Local is the [local] section.
type Local struct {
	Users           []string // "system", or absolute paths of readable files; empty: a Maildir for every address
	Aliases         string   // absolute folder, or empty
	Virtual         []string // lines of virtualdomains as written, or "@" and the absolute path of a readable file of them
	DefaultDelivery string   // instructions as in a dot-qmail file
	Break           string   // characters
	ProgramTimeout  time.Duration
	PipeUser        string // an account; empty: none
}

// SystemUsers in Local.Users stands for the accounts of the machine.
const SystemUsers = "system"

func localKeys() section[Local] {
	return section[Local]{
		name: "local", doc: "How mail with `next_hop = \"local\"` is delivered: without `users`, into a Maildir for every address below `data_dir`; with them, to users by users/assign and their dot-qmail files, as qmail does; see [docs/local.md](local.md). All of it, and the files it names, is read again at a reload.",
		rows: []row[Local]{
			{"users", to(listOf(userTable(), `"users/assign", "system"`), func(l *Local) *[]string { return &l.Users }), []any{}, "who has which addresses, asked in this order: files in the form of qmail's users/assign; `system`: the accounts of this machine. Empty: nobody is asked, and every address has a Maildir"},
			{"aliases", to(path(), func(l *Local) *string { return &l.Aliases }), "", "folder with dot-qmail files for addresses that no user has, such as `.qmail-postmaster`; mail for them is delivered as its owner. Empty: such addresses bounce"},
			{"virtualdomains", to(listOf(virtualLine(), `"example.net:joe"`), func(l *Local) *[]string { return &l.Virtual }), []any{}, "whose the mail of a domain is: `domain:name`, `user@domain:name`, `.domain:name` for all below it, `:name` for all other; the mail of info@domain is name-info's. Without a name: an exception. `@file`: a file of such lines"},
			{"default_delivery", to(instructions(), func(l *Local) *string { return &l.DefaultDelivery }), "./Maildir/", "what a user without instructions wants: the text of a dot-qmail file"},
			{"break", to(breaks(), func(l *Local) *string { return &l.Break }), "-", "characters that part the name of an account from an extension, where `users` has `system`"},
			{"program_timeout", to(duration(time.Second), func(l *Local) *time.Duration { return &l.ProgramTimeout }), "15m", "time for one program; then it is ended, and the mail tried again later"},
			{"pipe_user", to(account(), func(l *Local) *string { return &l.PipeUser }), "", "account that programs of `next_hop = \"pipe:…\"` run as, where the server runs as root; elsewhere they run as the server does"},
		},
	}
}

// userTable is "system" or the path of a file.
func userTable() kind[string] {
	file := path()
	return reader("path", func(v value) (string, bool) {
		if v.raw == SystemUsers {
			return SystemUsers, true
		}
		s, ok := file.read(v)
		if ok && s == "" {
			v.fail(`is empty; write the path of a file such as "users/assign", or "system"`)
			return "", false
		}
		return s, ok
	})
}

// virtualLine is a line of virtualdomains, or @ and the path of a file of them.
func virtualLine() kind[string] {
	plain := word("example.net:joe")
	return reader(plain.typ, func(v value) (string, bool) {
		s, ok := plain.read(v)
		if file, isFile := strings.CutPrefix(s, "@"); ok && isFile {
			return "@" + v.load.resolve(file), true
		}
		return s, ok
	})
}

// instructions is the text of a dot-qmail file.
func instructions() kind[string] {
	return scalar("string", `"./Maildir/"`, func(s string) (string, error) {
		if strings.TrimSpace(strings.SplitN(s, "\n", 2)[0]) == "" || strings.ContainsRune(s, 0) {
			return "", fmt.Errorf(`%q delivers nowhere; write instructions such as "./Maildir/" or "|preline procmail"`, s)
		}
		return s, nil
	})
}

// breaks is one or more signs.
func breaks() kind[string] {
	return scalar("string", `"-"`, func(s string) (string, error) {
		if s == "" || strings.Trim(s, "-+=_.#%&!~^") != "" {
			return "", fmt.Errorf(`%q can't part a name from an extension; write signs such as "-" or "+-"`, s)
		}
		return s, nil
	})
}

// checkLocal looks at files and folders, as far as they need not be read, and at keys that nothing uses.
func checkLocal(c *Config) (found Problems) {
	l := &c.Local
	for i, file := range l.Users {
		if file == SystemUsers {
			continue
		}
		if err := readable(file); err != nil {
			found = append(found, c.Problem(fmt.Sprintf("local.users[%d]", i), fmt.Sprintf("%s can't be read: %v; write the path of a file as users/assign is", file, bare(err))))
		}
	}
	for i, line := range l.Virtual {
		if file, isFile := strings.CutPrefix(line, "@"); isFile {
			if err := readable(file); err != nil {
				found = append(found, c.Problem(fmt.Sprintf("local.virtualdomains[%d]", i), fmt.Sprintf("%s can't be read: %v; write the path of a file of lines such as domain:name", file, bare(err))))
			}
		}
	}
	if l.Aliases != "" {
		if st, err := os.Stat(l.Aliases); err != nil || !st.IsDir() {
			found = append(found, c.Problem("local.aliases", l.Aliases+" is not a folder; write the path of one, which belongs to an account such as alias"))
		}
	}
	warn := func(key, text string) {
		p := c.Problem(key, text)
		p.Warning = true
		found = append(found, p)
	}
	for i := range c.Domains {
		if d := &c.Domains[i]; d.Recipients.Local && len(l.Users) == 0 {
			found = append(found, d.Problem("recipients", `asks the users of this machine, and there are none; write users in [local], such as ["system"]`))
		}
	}
	if len(l.Users) == 0 {
		if l.Aliases != "" {
			warn("local.aliases", `is looked into for addresses that no user has, but there are no users; write users = ["system"], or a file in the form of users/assign`)
		}
		if len(l.Virtual) > 0 {
			warn("local.virtualdomains", `leads to users, but there are none; write users = ["system"], or a file in the form of users/assign`)
		}
		return found
	}
	if c.Server.User != "" && os.Geteuid() == 0 {
		warn("local.users", fmt.Sprintf("[server] user = %q drops root, and so all mail must be that account's; leave user out to deliver to others", c.Server.User))
	}
	return append(found, checkAliases(c)...)
}

// checkAliases warns where nobody gets what must be deliverable (RFC 5321 section 4.5.1).
func checkAliases(c *Config) (found Problems) {
	if !slices.ContainsFunc(c.Routes, func(r Route) bool { return r.NextHop.Scheme == "local" }) {
		p := c.Problem("local.users", `no route leads there; write a [[route]] with next_hop = "local"`)
		p.Warning = true
		found = append(found, p)
	}
	dir := c.Local.Aliases
	if dir == "" {
		return found
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found // it may be for root alone to see
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == name })
	}
	for _, name := range []string{"postmaster", "mailer-daemon", "root"} {
		if !has(".qmail-"+name) && !has(".qmail-default") {
			p := c.Problem("local.aliases", fmt.Sprintf("%s has no .qmail-%s; write one with a line such as &you@example.net, since people and programs write to %s", dir, name, name))
			p.Warning = true
			found = append(found, p)
		}
	}
	return found
}

// parsePipe reads a program and its arguments as a next hop.
func parsePipe(s, command string) (NextHop, error) {
	program, _, _ := strings.Cut(command, " ")
	switch {
	case !strings.HasPrefix(command, "/"), s != oneLine(s):
		return NextHop{}, fmt.Errorf(`%q names no program; write its whole path, such as "pipe:/usr/bin/maildrop -d joe"`, s)
	case program == "/":
		return NextHop{}, fmt.Errorf(`%q names a folder; write a program such as "pipe:/usr/bin/maildrop -d joe"`, s)
	}
	return NextHop{Scheme: "pipe", Path: command}, nil
}
