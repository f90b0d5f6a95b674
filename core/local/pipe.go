package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/dotqmail"
	"github.com/postern-mta/postern/core/send"
)

// Pipes is the Deliverer of next hop pipe: a program for each recipient, with what
// programs of dot-qmail files are told, and their exit statuses. It is safe for
// concurrent use.
type Pipes struct {
	spool string
	set   atomic.Pointer[PipeSettings]
}

// PipeSettings are what a reload may change.
type PipeSettings struct {
	User    string        // the account of programs where the server runs as root; "": there is none
	Timeout time.Duration // of one program
	Environ []string      // of programs
}

// NewPipes makes Pipes that keep copies of messages in a folder.
func NewPipes(spool string, s PipeSettings) *Pipes {
	p := &Pipes{spool: spool}
	p.Reconfigure(s)
	return p
}

// Reconfigure replaces the settings; programs that run keep theirs.
func (p *Pipes) Reconfigure(s PipeSettings) { p.set.Store(&s) }

// Deliver implements send.Deliverer.
func (p *Pipes) Deliver(ctx context.Context, j *send.Job) []send.Outcome {
	s := p.set.Load()
	list := make([]send.Outcome, 0, len(j.Recipients))
	for _, i := range j.Recipients {
		started := time.Now()
		o := outcome(p.deliver(ctx, s, j, i))
		o.Recipient, o.Duration = i, time.Since(started)
		list = append(list, o)
	}
	return list
}

func (p *Pipes) deliver(ctx context.Context, s *PipeSettings, j *send.Job, i int) report {
	args, err := SplitCommand(j.NextHop.Path)
	if err != nil {
		return report{Status: "4.3.5", Text: err.Error()}
	}
	account, as, err := s.account()
	if err != nil {
		return report{Status: "4.3.5", Text: err.Error()}
	}
	d := deliveryOf(j.Message, j.Message.Recipients[i].Address)
	account.Dash, account.Ext = "-", d.Local
	d.Account = account
	l := &spooled{stored: stored{j.Body}, dir: p.spool}
	defer l.close()
	h := &house{errand: &errand{Delivery: d, Timeout: s.Timeout, Environ: s.Environ}, letter: l}
	h.report.NewSender = d.Sender
	_, err = h.start(ctx, append([]string{"/bin/sh", "-c", `umask 077; exec "$@"`, "sh"}, args...), as)
	r := report{Result: send.Delivered, Text: "did 0+0+1", Output: h.output.String()}
	if t, ok := errors.AsType[trouble](err); ok {
		r.Result, r.Status, r.Text = t.result, t.status, t.text
	} else if err != nil {
		r.Result, r.Status, r.Text = send.Deferred, diskStatus(err), err.Error()
	}
	return r
}

// account is whose the program is, and as whom it is to be started; nil: as we are.
func (s *PipeSettings) account() (dotqmail.Account, *syscall.Credential, error) {
	id := strconv.Itoa(os.Geteuid())
	if os.Geteuid() != 0 {
		one, err := user.LookupId(id)
		if err != nil {
			return dotqmail.Account{User: id, UID: os.Geteuid(), Home: "/"}, nil, nil
		}
		return accountOf(one), nil, nil
	}
	if s.User == "" {
		return dotqmail.Account{}, nil, errors.New("programs are never run as root: write [local] pipe_user, or [server] user")
	}
	one, err := user.Lookup(s.User)
	if err != nil {
		return dotqmail.Account{}, nil, fmt.Errorf("account %s: %w", s.User, err)
	}
	a := accountOf(one)
	if a.UID == 0 {
		return a, nil, fmt.Errorf("programs are never run as root, and account %s is", s.User)
	}
	as, err := credential(&a)
	return a, as, err
}

// accountOf is an account of the system; its home is the root folder where it has none.
func accountOf(one *user.User) dotqmail.Account {
	a := dotqmail.Account{User: one.Username, Home: one.HomeDir}
	a.UID, _ = strconv.Atoi(one.Uid) // they are numbers on systems with /bin/sh
	a.GID, _ = strconv.Atoi(one.Gid)
	if st, err := os.Stat(a.Home); err != nil || !st.IsDir() {
		a.Home = "/"
	}
	return a
}

// SplitCommand takes a program and its arguments apart: at spaces, but for those within
// single or double quotes.
func SplitCommand(s string) (args []string, err error) {
	var word strings.Builder
	var quote rune
	inside := false
	for _, c := range s {
		switch {
		case c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, inside = c, true
		case c == ' ':
			if inside {
				args = append(args, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	if inside {
		args = append(args, word.String())
	}
	if len(args) == 0 {
		return nil, errors.New("there is no program")
	}
	return args, nil
}
