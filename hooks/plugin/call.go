package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// What a call can fail with, beside what the plugin itself said and ctx's error.
var (
	ErrClosed = errors.New("plugin: closed")
	ErrDown   = errors.New("plugin: not running")
	ErrEnded  = errors.New("plugin: the process ended during the call")
	ErrAnswer = errors.New("plugin: the answer breaks the protocol")
)

const (
	waitForStart = 2 * time.Second // of a call, for a process that is being started
	callTries    = 3               // of a call that provably was not sent
	maxLate      = 3               // calls in a row out of time before the plugin is asked for its health
	maxNonsense  = 5               // answers in a row that are none before it is started anew
)

// Handle asks the plugin. Before it returns, everything of tx that is needed was
// read; afterwards nothing of it is.
func (p *Plugin) Handle(ctx context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return hooks.Decision{}, fmt.Errorf("plugin: %d calls are under way: %w", cap(p.slots), ctx.Err())
	case <-p.closing:
		return hooks.Decision{}, ErrClosed
	}
	defer func() { <-p.slots }()
	select {
	case <-p.closing:
		return hooks.Decision{}, ErrClosed
	default:
	}
	ev := p.newEvent(ctx, at, tx)
	remove, err := p.spool(ev, at, tx.Body)
	if err != nil {
		return hooks.Decision{}, fmt.Errorf("plugin: %w", err)
	}
	defer remove()
	var body message.Body
	if p.about.Access == proto.Access_ACCESS_STREAM && hasMessage(at) {
		body = tx.Body
	}
	answer, err := p.ask(ctx, ev, body)
	if err != nil {
		return hooks.Decision{}, p.blame(ctx, err)
	}
	d, err := readDecision(answer)
	if err != nil {
		return hooks.Decision{}, p.blame(ctx, fmt.Errorf("%w: %w", ErrAnswer, err))
	}
	p.late.Store(0)
	p.nonsense.Store(0)
	return d, nil
}

// ask sends the event to the present process. What was not sent because the
// process had ended just before is sent to the next one; what may have been sent
// is never sent twice. A body that is not nil is streamed behind the event.
func (p *Plugin) ask(ctx context.Context, ev *proto.Event, body message.Body) (answer *proto.Decision, err error) {
	for range callTries {
		r, down := p.current(ctx)
		if down != nil {
			return nil, down
		}
		var sent atomic.Bool
		marked := context.WithValue(ctx, sentKey{}, &sent)
		if body != nil {
			answer, err = stream(marked, r.policy, ev, body)
		} else {
			answer, err = r.policy.Handle(marked, ev, grpc.WaitForReady(true))
		}
		if err == nil || sent.Load() || ctx.Err() != nil {
			break
		}
	}
	return answer, err
}

// sentKey finds in a call's context the mark that it has left this process, as far
// as anybody can tell. Its error does not say so: a connection that is closed
// fails the calls that were sent and those that wait for it alike.
type sentKey struct{}

// sentMarker sets the marks; it is a stats.Handler of gRPC.
type sentMarker struct{}

// HandleRPC implements stats.Handler.
func (sentMarker) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); !ok {
		return
	}
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
}

// TagRPC implements stats.Handler.
func (sentMarker) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (sentMarker) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (sentMarker) HandleConn(context.Context, stats.ConnStats) {}

// current is the running process. While none runs it waits, if the next start is
// not far.
func (p *Plugin) current(ctx context.Context) (*running, error) {
	var limit <-chan time.Time
	for {
		p.mu.Lock()
		r, changed, next, last := p.now, p.changed, p.next, p.lastErr
		p.mu.Unlock()
		if r != nil {
			return r, nil
		}
		if until := time.Until(next); until > waitForStart {
			return nil, fmt.Errorf("%w; the next start is in %s: %w", ErrDown, until.Round(time.Second), last)
		}
		if limit == nil {
			timer := time.NewTimer(waitForStart)
			defer timer.Stop()
			limit = timer.C
		}
		select {
		case <-changed:
		case <-limit:
			return nil, fmt.Errorf("%w, and no start within %s: %w", ErrDown, waitForStart, last)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrDown, ctx.Err())
		case <-p.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// suspicion is why the supervisor is to look at a process.
type suspicion string

const (
	hanging  suspicion = "calls ran out of time"
	nonsense suspicion = "it answered nonsense"
)

// blame makes an error of this package out of a call's, and counts those that
// call for a new process.
func (p *Plugin) blame(ctx context.Context, err error) error {
	s, grpcError := status.FromError(err)
	switch {
	case errors.Is(err, ErrDown) || errors.Is(err, ErrClosed):
		return err
	case isBodyError(err):
		return fmt.Errorf("plugin: %w", err)
	case ctx.Err() != nil || grpcError && s.Code() == codes.DeadlineExceeded:
		if cause := ctx.Err(); cause == nil || cause == context.DeadlineExceeded {
			p.count(&p.late, maxLate, hanging)
			return fmt.Errorf("plugin: no answer in time: %w", context.DeadlineExceeded)
		}
		return fmt.Errorf("plugin: %w", ctx.Err())
	case !grpcError:
		p.count(&p.nonsense, maxNonsense, nonsense)
		return err
	}
	switch s.Code() {
	case codes.Unavailable, codes.Canceled:
		return ErrEnded
	case codes.Unknown:
		p.late.Store(0)
		return errors.New("plugin: it failed: " + oneLine(s.Message())) // its own error: it works as it should
	case codes.ResourceExhausted:
		err = fmt.Errorf("%w: over the size that a call may have: %s", ErrAnswer, oneLine(s.Message()))
	default:
		err = fmt.Errorf("%w: %s: %s", ErrAnswer, s.Code(), oneLine(s.Message()))
	}
	p.count(&p.nonsense, maxNonsense, nonsense)
	return err
}

func isBodyError(err error) bool {
	_, ok := errors.AsType[errBody](err)
	return ok
}
