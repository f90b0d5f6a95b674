package gate

import (
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// Who counts the connections finds each at the place that it came to, and none
// that is gone.
func TestCensus(t *testing.T) {
	w := open(t, Limits{Connections: 10, PerClient: 10}, &Listener{Name: "mx", Protocol: "smtp"}, nil)
	a, _ := w.dial(t)
	b, _ := w.dial(t)
	first := <-w.met
	second := <-w.met
	if got := w.gate.Open(); len(got) != 1 || got[0].Listener != "mx" || got[0].Stages[hooks.Connect] != 2 || got[0].TLS != 0 {
		t.Fatalf("two at the door: %+v", got)
	}
	first.Stands(hooks.Mail)
	first.Stands(hooks.Mail)
	second.Secured()
	second.Secured()
	second.Stands(hooks.Data)
	if got := w.gate.Open()[0]; len(got.Stages) != 2 || got.Stages[hooks.Mail] != 1 || got.Stages[hooks.Data] != 1 || got.TLS != 1 {
		t.Errorf("one at mail, one at data over TLS: %+v", got)
	}
	_, _ = a.Write([]byte("QUIT\r\n"))
	_, _ = b.Write([]byte("QUIT\r\n"))
	_, _ = a.Read(make([]byte, 1)) // until the gate has closed them
	_, _ = b.Read(make([]byte, 1))
	if got := w.gate.Open()[0]; len(got.Stages) != 0 || got.TLS != 0 {
		t.Errorf("both are gone: %+v", got)
	}
}

// A Conn that no gate made is counted nowhere.
func TestCensusOfNobody(*testing.T) {
	c := &Conn{}
	c.Stands(hooks.Mail)
	c.Secured()
	c.gone()
}
