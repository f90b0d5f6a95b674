package plugin

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/proto"
)

// Lesson is a message that a person judged.
type Lesson struct {
	Spam       bool // or else wanted mail
	ID         string
	Sender     string // "" is the null path
	Recipients []string
	Body       message.Body
}

// ErrNoLearner is what Learn says of a plugin whose Description does not say Learns,
// or whose settings name nothing that learns.
var ErrNoLearner = errors.New("plugin: it does not learn")

// Learn teaches the plugin. The text is what it did, "" for nothing special; an
// error says that it did not learn, or that nobody knows. It is never sent twice.
func (p *Plugin) Learn(ctx context.Context, l Lesson) (string, error) {
	if !p.desc.Learns {
		return "", ErrNoLearner
	}
	r, err := p.current(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := r.policy.Learn(ctx, grpc.WaitForReady(true))
	if err != nil {
		return "", p.blame(ctx, err)
	}
	x := &proto.Lesson{Spam: l.Spam, Size: l.Body.Size(), Id: l.ID, Sender: proto.Text(l.Sender)}
	for _, one := range l.Recipients {
		x.Recipients = append(x.Recipients, proto.Text(one))
	}
	if err := pour(s.Send, &proto.Part{Lesson: x}, l.Body); err != nil {
		return "", fmt.Errorf("plugin: %w", err)
	}
	answer, err := s.CloseAndRecv()
	if status.Code(err) == codes.FailedPrecondition {
		return "", ErrNoLearner
	}
	if err != nil {
		return "", p.blame(ctx, err)
	}
	return oneLine(answer.Text), nil
}
