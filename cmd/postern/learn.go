package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks/plugin"
)

// learnTime bounds what one policy does with one lesson.
const learnTime = time.Minute

// learn teaches the policies that learn what an operator says of a message in
// quarantine, and then does to it what the order says. Where one of them fails, the
// message stays, and those that have learned know it when they are taught again.
func (d *daemon) learn(ctx context.Context, id string, o *console.Order) error {
	if o.Class != "spam" && o.Class != "ham" {
		return fmt.Errorf("%q is neither spam nor ham", o.Class)
	}
	m, err := d.queue.Load(id)
	if err == nil {
		err = inQuarantine(m)
	}
	if err != nil {
		return err
	}
	taught, err := d.teach(ctx, m, o)
	if len(taught) > 0 {
		d.record.Operated(id, "learned", operator, fmt.Sprintf("as %s by %s", o.Class, strings.Join(taught, ", ")))
	}
	switch {
	case err != nil:
		return err
	case o.Then == "release":
		return d.releaseQuarantined(ctx, id)
	case o.Then == "delete":
		return d.deleteQuarantined(ctx, id)
	}
	return nil
}

// teach hands the message to one policy after the other, and returns those that
// learned.
func (d *daemon) teach(ctx context.Context, m *queue.Message, o *console.Order) (taught []string, err error) {
	body, closer, err := d.queue.Body(m.ID)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	l := plugin.Lesson{Spam: o.Class == "spam", ID: m.ID, Sender: m.Sender.String(), Body: body}
	for i := range m.Recipients {
		l.Recipients = append(l.Recipients, m.Recipients[i].Address.String())
	}
	chain := d.acquire()
	defer chain.Release()
	var failed []error
	for _, h := range chain.Handlers() {
		p, ok := h.(*plugin.Plugin)
		if !ok || !p.Description().Learns || o.Policy != "" && p.Name() != o.Policy {
			continue
		}
		text, err := teachOne(ctx, p, l)
		switch {
		case errors.Is(err, plugin.ErrNoLearner):
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %s", p.Name(), strings.TrimPrefix(err.Error(), "plugin: it failed: ")))
		default:
			taught = append(taught, p.Name()+inBrackets(text))
		}
	}
	if len(failed) == 0 && len(taught) == 0 {
		failed = append(failed, errors.New("no policy learns; there are rspamd, spamassassin and scanner"))
	}
	return taught, errors.Join(failed...)
}

func teachOne(ctx context.Context, p *plugin.Plugin, l plugin.Lesson) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, learnTime)
	defer cancel()
	return p.Learn(ctx, l)
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}
