package qmqp

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/send"
)

// Deliver implements send.Deliverer for next hops qmqp://SERVER,SERVER…. The protocol
// has one answer for all recipients: where it refuses several, each is tried alone, so
// that one that is refused does not take the others with it.
func (c *Client) Deliver(ctx context.Context, j *send.Job) []send.Outcome {
	if !j.Message.Sender.IsVERP() {
		list := c.try(ctx, j, j.Recipients)
		if len(list) < 2 || list[0].Result != send.Bounced {
			return list
		}
	}
	var list []send.Outcome
	for i := range j.Recipients {
		list = append(list, c.try(ctx, j, j.Recipients[i:i+1])...)
	}
	return list
}

// try makes one request.
func (c *Client) try(ctx context.Context, j *send.Job, recipients []int) []send.Outcome {
	start := time.Now()
	sender := j.Message.Sender
	var m Message
	for _, i := range recipients {
		to := j.Message.Recipients[i].Address
		m.Recipients = append(m.Recipients, qmail.Text(to))
		sender = j.Message.Sender.For(to) // of more than one only where all have the same
	}
	m.Sender = qmail.Text(sender)
	if j.Message.Double {
		m.Sender = qmail.DoubleBounce
	}
	var peer string
	reply, err := message.Reply{}, error(nil)
	if m.Size, err = unixSize(j.Body); err == nil {
		m.Body = &unixBody{r: io.NewSectionReader(j.Body, 0, j.Body.Size())}
		reply, peer, err = c.Send(ctx, strings.Split(j.NextHop.Path, ","), m)
	}
	o := send.Outcome{Reply: reply, Peer: peer, Duration: time.Since(start), Reach: send.Relayed}
	_, o.Unreached = errors.AsType[*Unreached](err)
	switch {
	case o.Unreached:
		o.Reply = message.NewReply(451, "4.4.1", "%v", err)
	case err != nil:
		o.Reply = message.NewReply(451, "4.4.2", "%v", err)
	case reply.Positive():
		o.Result = send.Delivered
	case reply.Permanent():
		o.Result = send.Bounced
	}
	list := make([]send.Outcome, 0, len(recipients))
	for _, i := range recipients {
		o.Recipient = i
		list = append(list, o)
	}
	return list
}

// unixSize is how long a body is with LF line ends.
func unixSize(b message.Body) (n int64, err error) {
	return io.Copy(io.Discard, &unixBody{r: io.NewSectionReader(b, 0, b.Size())})
}

// unixBody is a body with LF line ends.
type unixBody struct {
	r    io.Reader
	cr   bool // one was read that may stand before LF
	done bool
}

func (u *unixBody) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	if u.done {
		return 0, io.EOF
	}
	n, err := u.r.Read(p[1:]) // what was left over goes in front
	out := 0
	for _, b := range p[1 : 1+n] {
		if u.cr && b != '\n' {
			p[out] = '\r'
			out++
		}
		if u.cr = b == '\r'; !u.cr {
			p[out] = b
			out++
		}
	}
	if errors.Is(err, io.EOF) {
		if u.done = true; u.cr {
			p[out] = '\r'
			out++
		}
		if err = nil; out == 0 {
			err = io.EOF
		}
	}
	return out, err
}
