package qmail

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/postern-mta/postern/core/message"
)

// Hand gives a message to a queue program, such as $QMAILQUEUE names, and returns a
// refusal, or the zero Reply where it was queued. program is its path, or a name to be
// looked for in $PATH; it gets our environment. An error of body takes the message
// back.
func Hand(ctx context.Context, program, sender string, recipients []string, body io.Reader) message.Reply {
	text, err := hand(ctx, program, sender, recipients, body)
	switch {
	case err == nil:
		return message.Reply{}
	case errors.Is(err, errBody):
		return message.ReplyOf(err)
	}
	status := NoProgram
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = Status(exit.ExitCode())
	}
	if status == Custom {
		if r, ok := Said(text); ok {
			return r
		}
	}
	return status.Reply()
}

// errBody marks an error of the message that is handed over.
var errBody = errors.New("the message can't be read")

// hand returns what the program wrote to descriptor 6, and its end.
func hand(ctx context.Context, program, sender string, recipients []string, body io.Reader) (text string, err error) {
	c := exec.CommandContext(ctx, program)
	var ends [6]*os.File
	defer func() {
		for _, f := range ends {
			if f != nil {
				_ = f.Close() // some are closed already
			}
		}
	}()
	for i := 0; i < len(ends); i += 2 {
		if ends[i], ends[i+1], err = os.Pipe(); err != nil {
			return "", err
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer null.Close()
	c.Stdin, c.Stdout, c.Stderr = ends[0], ends[2], os.Stderr
	c.ExtraFiles = []*os.File{null, null, null, ends[5]} // 3, 4 and 5 must be there for 6 to be
	if err := c.Start(); err != nil {
		return "", err
	}
	for _, f := range []*os.File{ends[0], ends[2], ends[5]} {
		_ = f.Close() // the program has them
	}
	var said []byte
	var reading sync.WaitGroup
	reading.Go(func() { said, _ = io.ReadAll(io.LimitReader(ends[4], maxText)) })
	_, bad := io.Copy(ends[1], source{body})
	_ = ends[1].Close()
	if !errors.Is(bad, errBody) {
		// A program that has ended by now says why with its status.
		_ = WriteEnvelope(ends[3], sender, recipients)
		bad = nil
	}
	_ = ends[3].Close() // without its last NUL, the message is taken back
	reading.Wait()
	err = c.Wait()
	if bad != nil {
		return "", bad
	}
	return strings.TrimSpace(string(said)), err
}

// source tells errors of the message from those of the pipe.
type source struct{ r io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errors.Join(errBody, err)
	}
	return n, err
}
