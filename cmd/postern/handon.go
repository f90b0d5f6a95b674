package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/queue"
)

// This file is what our injectors do where $QMAILQUEUE names another queue program.

// handOn gives a message to it. What ours would complete when it takes mail in is
// completed here.
func handOn(ctx context.Context, g *global, c *config.Config, program string, drop queue.Drop) error {
	var to []string
	for _, r := range drop.Recipients {
		to = append(to, qmail.Text(r))
	}
	body, err := completed(g.std.in, drop, c.Server.Hostname)
	if err != nil {
		return exitError{exitUsage, fmt.Errorf("not handed over: %w", err)}
	}
	if r := qmail.Hand(ctx, program, qmail.Text(drop.Sender), to, &unixLines{r: bufio.NewReader(body)}); !r.IsZero() {
		return exitError{exitNo, r}
	}
	fmt.Fprintf(g.std.out, "handed over to %s\n", program)
	return nil
}

// maxHead bounds the header section of a message whose header is completed.
const maxHead = 1 << 20

// completed is a message with the Date, Message-ID and From that it lacks.
func completed(r io.Reader, drop queue.Drop, host string) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	var head []byte
	for {
		line, err := b.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(head)+len(line) > maxHead {
			return nil, errors.New("the header section is larger than 1 MiB")
		}
		blank := len(bytes.TrimRight(line, "\r\n")) == 0 && bytes.HasSuffix(append(head, '\n')[:len(head)+1], []byte("\n"))
		if blank || errors.Is(err, io.EOF) && len(head)+len(line) == 0 {
			rest := io.MultiReader(bytes.NewReader(bytes.Clone(line)), b)
			return io.MultiReader(bytes.NewReader(complete(head, drop, host)), rest), nil
		}
		if head = append(head, line...); errors.Is(err, io.EOF) {
			return io.MultiReader(bytes.NewReader(complete(head, drop, host)), b), nil
		}
	}
}

// complete completes a header section. Text that begins with no field is none.
func complete(head []byte, drop queue.Drop, host string) []byte {
	behind := []byte(nil)
	if !message.StartsHeader(head) {
		head, behind = nil, append([]byte("\r\n"), head...)
	}
	section := bytes.ReplaceAll(bytes.ReplaceAll(head, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if len(section) > 0 && !bytes.HasSuffix(section, []byte("\r\n")) {
		section = append(section, "\r\n"...)
	}
	h := message.ParseHeader(section).Clone()
	for _, f := range []struct{ name, value string }{
		{"Message-ID", "<" + message.NewID(drop.Arrived) + "@" + host + ">"},
		{"Date", drop.Arrived.Format(message.DateLayout)},
		{"From", drop.Sender.Path()},
	} {
		if h.Count(f.name) == 0 && (f.name != "From" || !drop.Sender.IsNull()) {
			_ = h.Append(f.name, f.value) // they are made of nothing that a field can't have
		}
	}
	return append(h.Bytes(), behind...)
}

// unixLines is text with LF line ends, as qmail has it.
type unixLines struct {
	r *bufio.Reader
}

func (u *unixLines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c, err := u.r.ReadByte()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if c == '\r' {
			if next, err := u.r.Peek(1); err == nil && next[0] == '\n' {
				continue
			}
		}
		p[n] = c
		n++
	}
	return n, nil
}
