package plugin_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/plugin"
)

// A plugin that has the method is taught, whatever its access is.
func TestLearn(t *testing.T) {
	p := load(t, "probe", plugin.Options{TempDir: t.TempDir()})
	if !p.Description().Learns {
		t.Fatal("it does not say that it learns")
	}
	l := plugin.Lesson{Spam: true, ID: "M1", Sender: "a@example.org", Recipients: []string{"b@example.net", "c@example.net"}, Body: message.Bytes(strings.Repeat("x", 200000))}
	if text, err := p.Learn(t.Context(), l); err != nil || text != "true M1 a@example.org [b@example.net c@example.net] 200000 200000" {
		t.Errorf("%q, %v", text, err)
	}
	l.Spam, l.Sender, l.Recipients, l.Body = false, "", nil, message.Bytes(nil)
	if text, err := p.Learn(t.Context(), l); err != nil || text != "false M1  [] 0 0" {
		t.Errorf("%q, %v", text, err)
	}
	l.Sender = "no@example.org"
	if _, err := p.Learn(t.Context(), l); err == nil || !strings.Contains(err.Error(), "the classifier is away") {
		t.Errorf("a refusal: %v", err)
	}
	l.Sender = "nobody@example.org"
	if _, err := p.Learn(t.Context(), l); !errors.Is(err, plugin.ErrNoLearner) {
		t.Errorf("nothing is set up: %v", err)
	}
	l.Sender, l.Body = "", &pattern{size: 1 << 20, bad: 300000}
	if _, err := p.Learn(t.Context(), l); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("a body that can't be read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Learn(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
}
