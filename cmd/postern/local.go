package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/dotqmail"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/local"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/hooks"
)

// This file is the daemon's part in deliveries on this host.

// openLocal makes what delivers here.
func (d *daemon) openLocal(c *config.Config) error {
	boxes, err := local.New(local.Options{Dir: filepath.Join(c.Server.DataDir, "mail"), Hostname: c.Server.Hostname, Log: d.log})
	if err != nil {
		return err
	}
	d.closers = append(d.closers, boxes.Close)
	spool := filepath.Join(c.Server.DataDir, "tmp")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(spool, "delivery-*.tmp")) // the pattern is good
	for _, file := range left {                                      // of a process that was killed
		_ = os.Remove(file)
	}
	users, pipes, problems := loadLocal(c)
	if err := problems.Err(); err != nil {
		return err
	}
	d.users = local.NewUsers(local.UsersOptions{
		Boxes: boxes, Hostname: c.Server.Hostname, Spool: spool, Self: []string{"/proc/self/exe", deliveryCommandName},
		Forward: d.forward,
	})
	d.users.Reconfigure(users)
	d.pipes = local.NewPipes(spool, pipes)
	return nil
}

// injectionSocket is where programs of all accounts hand mail over.
func injectionSocket(c *config.Config) string {
	return filepath.Join(filepath.Dir(c.Server.Control), "inject.sock")
}

// openInjection makes that socket.
func (d *daemon) openInjection(c *config.Config) (err error) {
	switch d.injection, err = console.ListenInjection(injectionSocket(c)); {
	case err == nil:
		d.closers = append(d.closers, func() error { return ignoreClosed(d.injection.Close()) })
	case errors.Is(err, console.ErrLongPath) && len(c.Local.Users) == 0:
		d.log.Warn("only this account can hand mail over: the path of the socket for others is too long", "error", err)
		return nil
	}
	return err
}

// loadLocal reads [local] and the files it names; no Settings where there are no users.
func loadLocal(c *config.Config) (*local.Settings, local.PipeSettings, config.Problems) {
	l := &c.Local
	env := []string{"PATH=" + cmp.Or(os.Getenv("PATH"), "/usr/local/bin:/usr/bin:/bin")}
	if len(l.Users) > 0 {
		env = append(env, envInject+"="+injectionSocket(c), envHost+"="+c.Server.Hostname)
	}
	pipes := local.PipeSettings{User: l.PipeUser, Timeout: l.ProgramTimeout, Environ: env}
	problems := checkPipes(c)
	virtual, found := loadVirtual(c)
	problems = append(problems, found...)
	if len(l.Users) == 0 {
		return nil, pipes, problems
	}
	s := &local.Settings{Virtual: virtual, Aliases: l.Aliases, Breaks: l.Break, Default: l.DefaultDelivery, Timeout: l.ProgramTimeout, Environ: env}
	if _, err := dotqmail.Parse([]byte(l.DefaultDelivery)); err != nil {
		problems = append(problems, c.Problem("local.default_delivery", fmt.Sprintf("%v; write instructions such as \"./Maildir/\"", err)))
	}
	for i, file := range l.Users {
		if file == config.SystemUsers {
			s.Users = append(s.Users, nil)
			continue
		}
		table, found := loadAssign(c, i, file)
		s.Users = append(s.Users, table)
		problems = append(problems, found...)
	}
	return s, pipes, problems
}

// loadAssign reads a users/assign file.
func loadAssign(c *config.Config, i int, file string) (*dotqmail.Assign, config.Problems) {
	key := fmt.Sprintf("local.users[%d]", i)
	f, err := os.Open(file)
	if err != nil {
		return nil, config.Problems{c.Problem(key, fmt.Sprintf("%v; write the path of a readable file", err))}
	}
	defer f.Close()
	table, errs := dotqmail.ParseAssign(f)
	var problems config.Problems
	for _, e := range errs {
		problems = append(problems, config.Problem{File: file, Line: e.Line, Key: key, Text: e.Text})
	}
	return table, problems
}

// loadVirtual reads virtualdomains.
func loadVirtual(c *config.Config) (*dotqmail.Virtual, config.Problems) {
	v := &dotqmail.Virtual{}
	var problems config.Problems
	for i, line := range c.Local.Virtual {
		key := fmt.Sprintf("local.virtualdomains[%d]", i)
		file, isFile := strings.CutPrefix(line, "@")
		if !isFile {
			if err := v.Add(line); err != nil {
				problems = append(problems, c.Problem(key, err.Error()))
			}
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			problems = append(problems, c.Problem(key, fmt.Sprintf("%v; write the path of a readable file", err)))
			continue
		}
		n := 0
		for one := range strings.Lines(string(text)) {
			n++
			one = strings.TrimRight(one, " \t\r\n")
			if one == "" || one[0] == '#' {
				continue
			}
			if err := v.Add(one); err != nil {
				problems = append(problems, config.Problem{File: file, Line: n, Key: key, Text: err.Error()})
			}
		}
	}
	return v, problems
}

// checkPipes looks at the programs that are next hops.
func checkPipes(c *config.Config) (problems config.Problems) {
	for i := range c.Routes {
		r := &c.Routes[i]
		if r.NextHop.Scheme != send.SchemePipe {
			continue
		}
		args, err := local.SplitCommand(r.NextHop.Path)
		if err != nil {
			problems = append(problems, r.Problem("next_hop", err.Error()+"; write a program and its arguments"))
			continue
		}
		warn := func(text string) {
			p := r.Problem("next_hop", text)
			p.Warning = true
			problems = append(problems, p)
		}
		if st, err := os.Stat(args[0]); err != nil || st.IsDir() || st.Mode().Perm()&0o111 == 0 {
			warn(args[0] + " is no program that can be run now; mail waits until it is")
		}
		if os.Geteuid() == 0 && c.Server.User == "" && c.Local.PipeUser == "" {
			warn("is never run as root, so that mail waits; write pipe_user in [local], or user in [server]")
		}
	}
	return problems
}

// forward queues what a dot-qmail file forwards. Recipients that are refused for good
// are told to the sender of what is forwarded, as long as there are others.
func (d *daemon) forward(ctx context.Context, f *local.Forward) (id string, r message.Reply) {
	host := d.config.Load().Server.Hostname
	protocol := intake.Forwarded
	if f.Sender == qmail.DoubleBounce {
		protocol = intake.DoubleBounce
	}
	sender, err := qmail.Address(f.Sender, host)
	if err != nil {
		return "", message.NewReply(451, "4.3.5", "the sender %q: %v", f.Sender, err)
	}
	var to []message.Address
	for _, one := range f.Recipients {
		a, err := qmail.Address(one, host)
		if err == nil && a.IsNull() {
			err = message.ErrSyntax
		}
		if err != nil { // whoever wrote the file can mend it
			return "", message.NewReply(451, "4.3.5", "the .qmail file forwards to %q: %v", one, err)
		}
		to = append(to, a)
	}
	tx := intake.NewLocal(protocol, sender, to)
	tx.Received = fmt.Sprintf("(forwarded by %s) by %s with %s id %s", f.By, host, protocol, tx.ID)
	passParams(tx, f)
	chain := d.acquire()
	defer chain.Release()
	r, refused := d.intake.Onward(ctx, chain, tx, message.Edited{Head: f.Head, Rest: f.Body})
	if !r.Negative() && len(refused) > 0 {
		d.tellRefused(ctx, tx, f, refused)
	}
	return tx.ID, r
}

// passParams hands on what the message's sender wants, where it stays the sender (RFC
// 3461 section 5.2.7.1).
func passParams(tx *hooks.Transaction, f *local.Forward) {
	m := f.From
	put := func(list *[]hooks.Param, key, value string) {
		if value != "" {
			*list = append(*list, hooks.Param{Key: key, Value: value})
		}
	}
	switch {
	case m.Binary:
		put(&tx.Params, "BODY", "BINARYMIME")
	case m.EightBit:
		put(&tx.Params, "BODY", "8BITMIME")
	}
	if m.SMTPUTF8 || slices.ContainsFunc(tx.Recipients, func(r *hooks.Recipient) bool { return !r.Address.IsASCII() }) {
		tx.Params = append(tx.Params, hooks.Param{Key: "SMTPUTF8"})
	}
	if f.Sender != qmail.Text(m.Sender) {
		return
	}
	put(&tx.Params, "RET", m.Ret)
	put(&tx.Params, "ENVID", m.EnvID)
	was := &m.Recipients[f.Recipient]
	notify := was.Notify
	if f.Kept && notify != "" { // its delivery here is told already
		events := slices.DeleteFunc(strings.Split(notify, ","), func(s string) bool { return strings.EqualFold(s, "SUCCESS") })
		notify = cmp.Or(strings.Join(events, ","), "NEVER")
	}
	for _, r := range tx.Recipients {
		put(&r.Params, "NOTIFY", notify)
		put(&r.Params, "ORCPT", was.Original)
	}
}

// tellRefused mails the refusals of some recipients of what is forwarded.
func (d *daemon) tellRefused(ctx context.Context, tx *hooks.Transaction, f *local.Forward, refused map[*hooks.Recipient]message.Reply) {
	m := &queue.Message{ID: tx.ID, Sender: tx.Sender, Arrived: time.Now()}
	for r, reply := range refused {
		d.log.Warn("forwarding refused", "id", f.From.ID, "by", f.By, "recipient", r.Address.String(), "reply", reply)
		m.Recipients = append(m.Recipients, queue.Recipient{Address: r.Address, State: queue.Failed, Last: reply})
	}
	if tx.Sender.IsNull() {
		return
	}
	slices.SortFunc(m.Recipients, func(a, b queue.Recipient) int { return strings.Compare(a.Address.String(), b.Address.String()) })
	if answer := d.bounce(ctx, send.RefusalNotice(d.config.Load().Server.Hostname, m)); answer.Negative() {
		d.log.Error("refusal of forwarded mail not told", "id", tx.ID, "sender", tx.Sender.String(), "error", answer)
	}
}

// deliveryCommandName is the process of a user; the daemon alone calls it.
const deliveryCommandName = "local-delivery"

func deliveryCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:    deliveryCommandName,
		Short:  "Make one delivery as the user whose it is; for serve",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM)
			defer stop()
			return local.Child(ctx, os.Stdin, os.NewFile(3, "errand"), g.std.out)
		},
	}
}
