package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/postern-mta/postern/core/send"
)

// A server that runs as root makes each delivery in a process that has become the
// user: it reads the user's files, writes the user's mailboxes and runs the user's
// programs with no more rights than the user has, and tells what came of it. The
// message is its descriptor 0, the errand descriptor 3, the report descriptor 1.

// Bounds of what the two processes tell each other.
const (
	maxErrand = 1 << 20
	maxReport = 64 << 20 // the addresses of maxInstructions
)

// asUser has an errand done by a process of its account.
func (u *Users) asUser(ctx context.Context, e *errand, l letter) report {
	r, err := u.child(ctx, e, l)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("the mail system is stopping")
		}
		return report{Status: "4.3.0", Text: fmt.Sprintf("The delivery as account %s failed: %v", e.User, err)}
	}
	return r
}

func (u *Users) child(ctx context.Context, e *errand, l letter) (r report, err error) {
	as, err := credential(&e.Account)
	if err != nil {
		return r, err
	}
	in, err := l.file(ctx)
	if err != nil {
		return r, err
	}
	job, err := json.Marshal(e)
	if err != nil {
		return r, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return r, err
	}
	defer ours.Close()
	var said output
	var answer bytes.Buffer
	c := exec.CommandContext(ctx, u.o.Self[0], u.o.Self[1:]...)
	c.Env, c.Dir = []string{}, "/"
	c.Stdin, c.Stdout, c.Stderr, c.ExtraFiles = in, &limited{&answer, maxReport}, &said, []*os.File{theirs}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 2 * killAfter
	err = c.Start()
	_ = theirs.Close() // the process has it
	if err != nil {
		return r, bare(err)
	}
	_, err = ours.Write(job)
	err = errors.Join(err, ours.Close(), c.Wait())
	if err != nil {
		return r, fmt.Errorf("%w: %.200s", err, said.String())
	}
	if err := json.Unmarshal(answer.Bytes(), &r); err != nil {
		return report{}, fmt.Errorf("its report: %w", err)
	}
	return r, nil
}

// limited fails rather than to take more than n bytes.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, errors.New("it is too long")
	}
	return l.w.Write(p)
}

// Child is the process of a user: it does the errand that it reads from job on the
// message in letter, and writes its report. ctx ends programs that run.
func Child(ctx context.Context, letter, job *os.File, answer io.Writer) error {
	if os.Geteuid() == 0 {
		return errors.New("mail is never delivered as root")
	}
	syscall.Umask(0o077)
	text, err := io.ReadAll(io.LimitReader(job, maxErrand))
	_ = job.Close() // it was read to its end
	if err != nil {
		return err
	}
	var e errand
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	if e.UID != os.Geteuid() {
		return errors.New("the errand is another account's")
	}
	r := deliverHome(ctx, &e, opened{letter}, &writer{host: hostPart(e.Hostname)})
	if r.Result > send.Bounced {
		r.Result = send.Deferred
	}
	return json.NewEncoder(answer).Encode(r)
}
