package plugin

import (
	"fmt"
	"io"
	"os"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// spool adds the message to ev in the way the plugin asked for. remove is to be
// called after the call.
func (p *Plugin) spool(ev *proto.Event, at hooks.Stage, body message.Body) (remove func(), err error) {
	remove = func() {}
	if body == nil || at != hooks.Message && at != hooks.Queue && at != hooks.Queued {
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
