package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/proto"
)

// Lesson is a message that a person judged, by `postern quarantine learn`: spam, or
// wanted mail. It belongs to the call.
type Lesson struct {
	Spam       bool
	ID         string          // of the message
	Sender     message.Address // the null path for a bounce
	Recipients []message.Address
	Size       int64     // bytes of the message
	Message    io.Reader // the message, of so many bytes
}

// ErrNoLearner is what Learn returns where the settings name nothing that learns.
var ErrNoLearner = errors.New("the settings name nothing that learns")

// learner is a handler that learns. The text tells the operator what it did, such
// as "known already"; "" is "learned". An error says that it learned nothing.
type learner interface {
	Learn(ctx context.Context, l *Lesson) (string, error)
}

// learn hands a lesson to the policy. Its panic is an error.
func (p *policy) learn(ctx context.Context, l *Lesson) (text string, err error) {
	h, ok := p.Handler.(learner)
	if !ok {
		return "", fmt.Errorf("policy %s does not learn", p.Name)
	}
	defer func() {
		if fault := recover(); fault != nil {
			text, err = "", fmt.Errorf("panic: %v", fault)
		}
	}()
	return h.Learn(ctx, l)
}

// Learn implements proto.PolicyServer.
func (s *served) Learn(stream grpc.ClientStreamingServer[proto.Part, proto.LearnReply]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	l, err := newLesson(first.GetLesson())
	if err != nil {
		return status.Error(codes.InvalidArgument, proto.Text(err.Error()))
	}
	l.Message = &parts{receive: stream.Recv}
	text, err := s.policy.learn(s.under(stream.Context()), l)
	if errors.Is(err, ErrNoLearner) {
		return status.Error(codes.FailedPrecondition, proto.Text(err.Error()))
	}
	if err != nil {
		return status.Error(codes.Unknown, proto.Text(err.Error()))
	}
	return stream.SendAndClose(&proto.LearnReply{Text: proto.Text(text)})
}

func newLesson(x *proto.Lesson) (*Lesson, error) {
	if x == nil {
		return nil, errors.New("there is no lesson")
	}
	r := reader{}
	l := &Lesson{Spam: x.Spam, ID: x.Id, Sender: r.sender(x.Sender), Size: x.Size}
	for _, one := range x.Recipients {
		l.Recipients = append(l.Recipients, r.address(one))
	}
	return l, r.err
}

// Learn hands the policy a lesson in this process; see Policy.Local.
func (l *local) Learn(ctx context.Context, x *Lesson) (string, error) {
	return l.policy.learn(context.WithValue(ctx, hostKey{}, l.host), x)
}
