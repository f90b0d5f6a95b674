package plugin

import (
	"context"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// spool adds the message to ev in the way the plugin asked for. remove is to be
// called after the call.
func (p *Plugin) spool(ev *proto.Event, at hooks.Stage, body message.Body) (remove func(), err error) {
	remove = func() {}
	if body == nil || !hasMessage(at) {
		return remove, nil
	}
	switch p.about.Access {
	case proto.Access_ACCESS_PREFIX:
		ev.Body, ev.BodyCut, err = proto.Prefix(body, p.about.PrefixBytes)
	case proto.Access_ACCESS_WHOLE:
		if body.Size() > proto.MaxInline {
			return p.spoolFile(ev, body)
		}
		ev.Body = make([]byte, body.Size())
		_, err = io.ReadFull(message.NewReader(body), ev.Body)
	case proto.Access_ACCESS_FILE:
		return p.spoolFile(ev, body)
	}
	if err != nil {
		err = fmt.Errorf("reading the message: %w", err)
	}
	return remove, err
}

// spoolFile writes the message into a read-only file of the private folder.
func (p *Plugin) spoolFile(ev *proto.Event, body message.Body) (remove func(), err error) {
	remove = func() {}
	f, err := os.CreateTemp(p.dir, "message-")
	if err != nil {
		return remove, fmt.Errorf("message file: %w", err)
	}
	remove = func() { os.Remove(f.Name()) }
	_, err = io.Copy(f, message.NewReader(body))
	if err == nil {
		err = f.Chmod(0o400)
	}
	if err == nil {
		err = p.owner.give(f.Name())
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		remove()
		return func() {}, fmt.Errorf("message file: %w", err)
	}
	ev.BodyFile = f.Name()
	return remove, nil
}

// hasMessage tells whether the message has come and is brought.
func hasMessage(at hooks.Stage) bool {
	return at == hooks.Message || at == hooks.Queue || at == hooks.Queued
}

// errBody is the message that can't be read; no fault of the plugin.
type errBody struct{ error }

// Unwrap is what reading it said.
func (e errBody) Unwrap() error { return e.error }

// stream sends the event and then the message, piece by piece, as fast as the
// plugin takes them, until it has answered. One piece is in memory here, and what
// the flow control lets under way.
func stream(ctx context.Context, policy proto.PolicyClient, ev *proto.Event, body message.Body) (*proto.Decision, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the call where the message can't be read
	s, err := policy.Stream(ctx, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	if err := pour(s.Send, &proto.Part{Event: ev}, body); err != nil {
		return nil, err
	}
	return s.CloseAndRecv()
}

// pour sends a first part, and then the message in others. An error is one of
// reading the message.
func pour(send func(*proto.Part) error, part *proto.Part, body message.Body) error {
	in, piece := message.NewReader(body), make([]byte, proto.MaxPart)
	for part != nil {
		if send(part) != nil {
			return nil // io.EOF: it has answered, or failed; what else it is, the answer tells
		}
		n, err := io.ReadFull(in, piece)
		switch {
		case n > 0:
			part = &proto.Part{Body: piece[:n]} // send has copied it when it returns
		case err == io.EOF:
			part = nil
		default:
			return errBody{fmt.Errorf("reading the message: %w", err)}
		}
	}
	return nil
}
