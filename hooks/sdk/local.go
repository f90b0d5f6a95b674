package sdk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// hostName is a confirmed client name that came with an event.
type hostName string

func (h hostName) reverse(context.Context) string { return string(h) }

// Local makes a handler of the policy that runs in this process, for tests: the
// settings are checked and set as the server would, an event holds what the
// policy's Access asked for, and the answer comes back as it is. The handler can
// stand in a hooks.Chain. What is wrong with settings is in the error, one
// Problem each. A Policy's Handler takes one set of settings: make a new one for
// each call.
func (p Policy) Local(settings map[string]any) (hooks.Handler, error) {
	return p.LocalUnder(context.Background(), settings)
}

// LocalUnder is Local, where the policy finds in HostOf the server that WithHost
// put into ctx.
func (p Policy) LocalUnder(ctx context.Context, settings map[string]any) (hooks.Handler, error) {
	read, err := p.read()
	if err != nil {
		return nil, err
	}
	values, problems := read.about.CheckSettings(settings, "")
	if len(problems) == 0 {
		problems = read.configure(ctx, values)
	}
	var errs []error
	for _, x := range problems {
		errs = append(errs, Problem{x.Key, x.Text})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &local{read, HostOf(ctx)}, nil
}

// local is a policy as a handler of this process.
type local struct {
	policy *policy
	host   *Host
}

// Name implements hooks.Handler.
func (l *local) Name() string { return l.policy.Name }

// Stages implements hooks.Handler.
func (l *local) Stages() []hooks.Stage {
	var list []hooks.Stage
	for _, row := range hooks.Stages() {
		if l.policy.stages[row.Stage] != nil {
			list = append(list, row.Stage)
		}
	}
	return list
}

// Handle implements hooks.Handler.
func (l *local) Handle(ctx context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	copied := *tx
	ev := &Event{Transaction: &copied, Stage: at, Now: time.Now(), Stream: strings.NewReader("")}
	copied.Body = nil
	if at == hooks.Rcpt {
		ev.Accepted, copied.Recipients = len(tx.Recipients), nil
	}
	body := tx.Body
	if !hasMessage(at) {
		body = nil
	} else if body == nil {
		body = message.Bytes(nil)
	}
	if body != nil {
		ev.BodySize = body.Size()
	}
	switch l.policy.Access.kind {
	case proto.Access_ACCESS_NONE:
		copied.Header = nil
	case proto.Access_ACCESS_PREFIX:
		if body != nil {
			var err error
			if ev.Prefix, ev.PrefixCut, err = proto.Prefix(body, l.policy.Access.prefix); err != nil {
				return Decision{}, fmt.Errorf("sdk: reading the body: %w", err)
			}
		}
	case proto.Access_ACCESS_WHOLE, proto.Access_ACCESS_FILE:
		copied.Body = body
	case proto.Access_ACCESS_STREAM:
		if body != nil {
			ev.Stream = message.NewReader(body)
		}
	}
	return l.policy.handle(context.WithValue(ctx, hostKey{}, l.host), ev)
}
