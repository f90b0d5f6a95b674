package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/dotqmail"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// UsersOptions are what Users need that does not change.
type UsersOptions struct {
	Boxes    *Maildir // takes all mail where Settings name no users
	Hostname string   // in the names of files
	Spool    string   // a folder for copies that programs read
	// Self starts a process of ours that calls Child: a program and its arguments.
	Self []string
	// Forward queues what a dot-qmail file forwards. A positive reply means that it is
	// durable; id is the message's.
	Forward func(ctx context.Context, f *Forward) (id string, r message.Reply)
}

// Settings are what a reload may change.
type Settings struct {
	// Users are asked in their order for the account of a local part; a nil one is the
	// system's accounts.
	Users   []*dotqmail.Assign
	Virtual *dotqmail.Virtual // nil: none
	Aliases string            // the home of all addresses that no user has; "": there are none
	Breaks  string            // what parts the name of a system's account from an extension
	Default string            // the instructions of an empty dot-qmail file
	Timeout time.Duration     // of one program
	Environ []string          // of programs
}

// Forward is mail that goes on by a dot-qmail file.
type Forward struct {
	From       *queue.Message // the message that it was
	Recipient  int            // the recipient of From that it goes on for
	By         string         // the account
	Sender     string         // as qmail has it
	Recipients []string       // as qmail has them
	Head       []byte         // the field Delivered-To
	Body       message.Body   // the rest
	Kept       bool           // the message was delivered here, too
}

// Users is the Deliverer to the users of this host, by users/assign and dot-qmail
// files. It is safe for concurrent use.
type Users struct {
	writer
	o   UsersOptions
	set atomic.Pointer[Settings]
}

// NewUsers makes Users that know nobody yet: all mail goes to o.Boxes.
func NewUsers(o UsersOptions) *Users {
	return &Users{o: o, writer: writer{host: hostPart(o.Hostname)}}
}

// Reconfigure replaces the settings, nil for none; deliveries under way keep theirs.
func (u *Users) Reconfigure(s *Settings) { u.set.Store(s) }

// Deliver implements send.Deliverer.
func (u *Users) Deliver(ctx context.Context, j *send.Job) []send.Outcome {
	s := u.set.Load()
	if s == nil {
		return u.o.Boxes.Deliver(ctx, j)
	}
	list := make([]send.Outcome, 0, len(j.Recipients))
	for _, i := range j.Recipients {
		started := time.Now()
		o := u.deliver(ctx, s, j, i)
		o.Recipient, o.Duration = i, time.Since(started)
		list = append(list, o)
	}
	return list
}

func (u *Users) deliver(ctx context.Context, s *Settings, j *send.Job, i int) send.Outcome {
	m := j.Message
	e, err := s.errand(m, m.Recipients[i].Address)
	switch {
	case err != nil:
		return outcome(report{Result: send.Deferred, Status: "4.3.0", Text: err.Error()})
	case e == nil:
		return outcome(report{Result: send.Bounced, Status: "5.1.1", Text: "Sorry, no mailbox here by that name"})
	}
	e.Hostname = u.o.Hostname
	l := &spooled{stored: stored{j.Body}, dir: u.o.Spool}
	defer l.close()
	var r report
	switch uid := os.Geteuid(); {
	case e.UID == 0:
		r = report{Status: "4.3.5", Text: "Mail is never delivered as root: let " + e.Local + " belong to another account"}
	case uid == 0:
		r = u.asUser(ctx, e, l)
	case uid == e.UID:
		r = deliverHome(ctx, e, l, &u.writer)
	default:
		r = report{Status: "4.3.5", Text: fmt.Sprintf(
			"The mailbox belongs to account %s (%d), and this server runs as %d: only a server that runs as root can deliver to other accounts", e.User, e.UID, uid)}
	}
	if r.Result != send.Delivered {
		return outcome(r)
	}
	return u.forward(ctx, j, i, e, r)
}

// errand is the delivery to an address; nil where nobody has it.
func (s *Settings) errand(m *queue.Message, to message.Address) (*errand, error) {
	e := &errand{Default: s.Default, Timeout: s.Timeout, Environ: s.Environ}
	e.Delivery = deliveryOf(m, to)
	e.Local = s.Virtual.Rewrite(to.Local, to.Domain)
	var ok bool
	var err error
	e.Account, ok, err = s.find(e.Local)
	if err != nil || !ok {
		return nil, err
	}
	return e, nil
}

// deliveryOf is a delivery whose account is not known yet.
func deliveryOf(m *queue.Message, to message.Address) dotqmail.Delivery {
	d := dotqmail.Delivery{Local: to.Local, Host: to.Domain, Sender: qmail.Text(m.Sender), ReturnPath: m.Sender.String(), Time: time.Now()}
	if m.Double {
		d.Sender, d.ReturnPath = dotqmail.DoubleBounce, dotqmail.DoubleBounce
	}
	return d
}

// find is the account of a local part.
func (s *Settings) find(local string) (dotqmail.Account, bool, error) {
	for _, table := range s.Users {
		if table == nil {
			if a, ok, err := systemAccount(local, s.Breaks); ok || err != nil {
				return a, ok, err
			}
			continue
		}
		if a, ok := table.Find(local); ok {
			return a, true, nil
		}
	}
	if s.Aliases == "" {
		return dotqmail.Account{}, false, nil
	}
	return aliasAccount(s.Aliases, local)
}

// Knows tells whether somebody has an address: an account that needs no dot-qmail file
// for it, or has one. Where that can't be looked at, the address is let pass, and its
// delivery tells.
func (s *Settings) Knows(to message.Address) (bool, error) {
	e, err := s.errand(&queue.Message{}, to)
	if err != nil || e == nil {
		return false, err
	}
	if e.Dash == "" {
		return true, nil
	}
	for _, c := range dotqmail.Candidates(e.Dash, e.Ext) {
		st, err := os.Stat(e.Home + "/" + c.File)
		if err == nil && st.Mode().IsRegular() || err != nil && !absent(err) {
			return true, nil
		}
	}
	_, err = os.Stat(e.Home)
	return absent(err), nil // a home that is missing comes back
}

// systemAccount is the account of the system that a local part names: one that has a
// home of its own and is not root.
func systemAccount(local, breaks string) (dotqmail.Account, bool, error) {
	for _, n := range dotqmail.Names(local, breaks) {
		one, err := user.Lookup(n.User)
		if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
			continue
		}
		if err != nil {
			return dotqmail.Account{}, false, fmt.Errorf("looking for account %s: %w", n.User, err)
		}
		a := dotqmail.Account{User: one.Username, Home: one.HomeDir, Dash: n.Dash, Ext: n.Ext}
		uid, errU := strconv.Atoi(one.Uid)
		gid, errG := strconv.Atoi(one.Gid)
		if a.UID, a.GID = uid, gid; errU != nil || errG != nil || uid == 0 {
			continue
		}
		st, err := os.Stat(one.HomeDir)
		switch {
		case absent(err), errors.Is(err, fs.ErrPermission):
			continue
		case err != nil:
			return dotqmail.Account{}, false, fmt.Errorf("the home of account %s: %w", n.User, bare(err))
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) == uid {
			return a, true, nil
		}
	}
	return dotqmail.Account{}, false, nil
}

// aliasAccount is who has all other addresses: the owner of the folder of aliases.
func aliasAccount(home, local string) (dotqmail.Account, bool, error) {
	st, err := os.Stat(home)
	if err != nil {
		return dotqmail.Account{}, false, fmt.Errorf("the folder of aliases: %w", bare(err))
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return dotqmail.Account{}, false, errors.New("the folder of aliases has no owner")
	}
	a := dotqmail.Account{User: "alias", UID: int(sys.Uid), GID: int(sys.Gid), Home: home, Dash: "-", Ext: local}
	if one, err := user.LookupId(strconv.Itoa(a.UID)); err == nil {
		a.User = one.Username
		if gid, err := strconv.Atoi(one.Gid); err == nil {
			a.GID = gid
		}
	}
	return a, true, nil
}

// credential is an account as a process has it: with the groups of its name, where it is
// an account of the system.
func credential(a *dotqmail.Account) (*syscall.Credential, error) {
	c := &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID), Groups: []uint32{uint32(a.GID)}}
	one, err := user.Lookup(a.User)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown || err == nil && one.Uid != strconv.Itoa(a.UID) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	ids, err := one.GroupIds()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(c.Groups, uint32(n)) {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}

// forward sends on what the dot-qmail file says, at the end, as one message.
func (u *Users) forward(ctx context.Context, j *send.Job, i int, e *errand, r report) send.Outcome {
	did := fmt.Sprintf("did %d+%d+%d", r.Files, len(r.To), r.Programs)
	if len(r.To) == 0 {
		r.Text = did
		return outcome(r)
	}
	kept := r.Files+r.Programs > 0
	id, answer := u.o.Forward(ctx, &Forward{
		From: j.Message, Recipient: i, By: e.User, Sender: r.NewSender, Recipients: r.To, Body: j.Body, Kept: kept,
		Head: []byte(strings.TrimSuffix(e.DTLine(), "\n") + "\r\n"),
	})
	if answer.Negative() {
		r.Result, r.Status = send.Deferred, cmp.Or(answer.Status(), "4.3.0")
		if answer.Permanent() {
			r.Result, r.Status = send.Bounced, cmp.Or(answer.Status(), "5.3.0")
		}
		r.Text = "Unable to forward message: " + answer.Text
		return outcome(r)
	}
	r.Text = did + "\nqp " + id
	o := outcome(r)
	if !kept {
		o.Reach = send.Handed // whoever wants to hear of success hears of what was forwarded
	}
	return o
}

// outcome is a report as the scheduler takes it.
func outcome(r report) send.Outcome {
	o := send.Outcome{Result: r.Result}
	code, status := 451, cmp.Or(r.Status, "4.3.0")
	switch r.Result {
	case send.Delivered:
		code, status = 250, "2.0.0"
	case send.Bounced:
		code, status = 550, cmp.Or(r.Status, "5.3.0")
	}
	o.Reply = message.NewReply(code, status, r.said(r.Text))
	return o
}
