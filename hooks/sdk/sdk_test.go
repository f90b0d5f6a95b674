package sdk

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

type all struct {
	Text    string            `postern:"text" doc:"a text" default:"x"`
	N       int               `postern:"n" default:"5"`
	Big     int64             `postern:"big"`
	X       float64           `postern:"x" default:"0.5"`
	Yes     bool              `postern:"yes" default:"true"`
	Wait    time.Duration     `postern:"wait" default:"1h30m"`
	Max     Size              `postern:"max" default:"4KiB"`
	To      message.Address   `postern:"to"`
	Nets    []netip.Prefix    `postern:"nets" default:"192.0.2.0/24, 2001:db8::1"`
	Doms    []string          `postern:"doms,domains" default:"Example.net"`
	Re      *regexp.Regexp    `postern:"re"`
	How     string            `postern:"how" enum:"one, two" default:"two"`
	Hows    []string          `postern:"hows" enum:"one, two"`
	Path    string            `postern:"path,file"`
	Key     string            `postern:"key,secret"`
	Words   []string          `postern:"words" default:"a, b"`
	Numbers []int             `postern:"numbers" default:"1, 2"`
	Caps    map[string]int    `postern:"caps"`
	Waits   []time.Duration   `postern:"waits" default:"1s, 2m"`
	Table   map[string]string `postern:"table"`
	Must    string            `postern:"must,required"`
	own     int
}

func (a *all) Connect(context.Context, *Event) (Decision, error) { return Pass(), nil }

func TestSettings(t *testing.T) {
	got := &all{own: 1}
	if _, err := (Policy{Name: "all", Handler: got}).Local(map[string]any{
		"must": "m", "re": "^a", "to": "a@example.net", "caps": map[string]any{"a": int64(1)}, "hows": []any{"one"}, "big": int64(1) << 40,
	}); err != nil {
		t.Fatal(err)
	}
	want := &all{
		Text: "x", N: 5, Big: 1 << 40, X: 0.5, Yes: true, Wait: 90 * time.Minute, Max: 4096, To: message.Address{Local: "a", Domain: "example.net"},
		Nets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::1/128")}, Doms: []string{"example.net"},
		Re: got.Re, How: "two", Hows: []string{"one"}, Words: []string{"a", "b"}, Numbers: []int{1, 2}, Caps: map[string]int{"a": 1},
		Waits: []time.Duration{time.Second, 2 * time.Minute}, Table: map[string]string{}, Must: "m", own: 1,
	}
	if !reflect.DeepEqual(got, want) || got.Re.String() != "^a" {
		t.Errorf("\n%+v\n%+v", got, want)
	}
	_, err := Policy{Name: "all", Handler: &all{}}.Local(map[string]any{"n": "x", "wrods": 1})
	if err == nil || err.Error() != "n: \"x\" does not fit; write a whole number, such as 5\nmust: missing; write a text, such as \"word\"\nwrods: unknown setting; did you mean \"words\"?" {
		t.Errorf("%v", err)
	}
}

type (
	noStage  struct{}
	badStage struct{ badMethod }
	badName  struct{ wrongName }
	badTag   struct {
		fine
		N int `postern:"n" default:"many"`
	}
	badType struct {
		fine
		C chan int `postern:"c"`
	}
	hidden struct {
		fine
		n int `postern:"n"`
	}
	badEnum struct {
		fine
		How string `postern:"how" enum:"a, b"`
	}
	fine      struct{}
	badMethod struct{}
	wrongName struct{}
)

func (fine) Data(context.Context, *Event) (Decision, error)        { return Pass(), nil }
func (badMethod) Rcpt(*Event) Decision                             { return Pass() }
func (wrongName) Recipt(context.Context, *Event) (Decision, error) { return Pass(), nil }

func TestUnfit(t *testing.T) {
	for _, c := range []struct {
		handler any
		want    string
	}{
		{nil, "pointer to a struct"},
		{fine{}, "pointer to a struct"},
		{(*fine)(nil), "pointer to a struct"},
		{&noStage{}, "no method that is named after a stage"},
		{&badStage{}, "method Rcpt is named after stage rcpt but has not the form"},
		{&badName{}, "method Recipt is no stage"},
		{&badTag{}, `field N: default of setting "n"`},
		{&badType{}, "field C: a setting can't have the type chan int"},
		{&hidden{n: 1}, "field n has a tag postern, but is not exported"},
		{&badEnum{}, `default of setting "how"`},
	} {
		if _, err := (Policy{Name: "x", Handler: c.handler}).Local(nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T: %v, want %q", c.handler, err, c.want)
		}
	}
}

type judge struct {
	Word string `postern:"word" default:"casino"`
	seen *Event
}

func (j *judge) Prepare(context.Context) error {
	if j.Word == "" {
		return Problem{"word", "is empty; write a word"}
	}
	return nil
}

func (j *judge) Rcpt(_ context.Context, ev *Event) (Decision, error) {
	j.seen = ev
	if ev.Accepted > 0 {
		return Decision{}, errors.New("only one")
	}
	ev.Tag(j.Word)
	return Reject("5.7.1", "No %s", ev.Current.Address), nil
}

func (j *judge) Message(_ context.Context, ev *Event) (Decision, error) {
	j.seen = ev
	ev.Prepend("X-Word", j.Word)
	return Pass(), nil
}

func (j *judge) Data(context.Context, *Event) (Decision, error) { panic("at data") }

func TestLocal(t *testing.T) {
	j := &judge{}
	h, err := Policy{Name: "judge", Handler: j, Access: Prefix(3)}.Local(map[string]any{"word": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if h.Name() != "judge" || !reflect.DeepEqual(h.Stages(), []hooks.Stage{hooks.Rcpt, hooks.Data, hooks.Message}) {
		t.Errorf("%s %v", h.Name(), h.Stages())
	}
	tx := hooks.NewTransaction(&hooks.Session{ID: "S"}, "M")
	tx.Current = &hooks.Recipient{Address: message.Address{Local: "a", Domain: "example.net"}}
	d, err := h.Handle(t.Context(), hooks.Rcpt, tx)
	if err != nil || d.Verb != hooks.Reject || d.Reply.Text != "No a@example.net" || len(d.Edits) != 1 || d.Edits[0].Value != "x" {
		t.Errorf("%+v, %v", d, err)
	}
	tx.Recipients = []*hooks.Recipient{tx.Current}
	if _, err := h.Handle(t.Context(), hooks.Rcpt, tx); err == nil || j.seen.Recipients != nil {
		t.Errorf("%v, %v", err, j.seen.Recipients)
	}
	if _, err := h.Handle(t.Context(), hooks.Data, tx); err == nil || err.Error() != "panic: at data" {
		t.Errorf("%v", err)
	}
	tx.Header, tx.Body = message.ParseHeader([]byte("A: b\r\n")), message.Bytes("A: b\r\n\r\nbody")
	d, err = h.Handle(t.Context(), hooks.Message, tx)
	if err != nil || string(j.seen.Prefix) != "bod" || !j.seen.PrefixCut || j.seen.Body != nil || d.Edits[0].Name != "X-Word" {
		t.Errorf("%+v, %v", j.seen, err)
	}
	if _, err := h.Handle(t.Context(), hooks.Mail, tx); err == nil {
		t.Error("a stage that was not asked for")
	}
	_, err = Policy{Name: "judge", Handler: &judge{}}.Local(map[string]any{"word": ""})
	if p, ok := errors.AsType[Problem](err); !ok || p != (Problem{"word", "is empty; write a word"}) {
		t.Errorf("%v", err)
	}
}

// What the wire brings is what the server had.
func TestNewEvent(t *testing.T) {
	ev, err := newEvent(&proto.Event{
		Stage: "bounced", Id: "M", Sender: "a@example.net", Size: 5, Header: []byte("A: b\r\n"), Priority: -1, NowMs: 7000,
		Session: &proto.Session{Id: "S", ClientIp: "192.0.2.1", ClientPort: 25, StartedMs: 1000, Host: "h.example", Tls: &proto.Tls{Version: "TLSv1.3"}},
		Current: &proto.Recipient{Address: "b@example.org", Ours: true, Notes: proto.NewMap(map[string]any{"a": 1})},
		Marks:   &proto.Marks{Tags: []string{"t"}, Scores: []*proto.Score{{Name: "s", Points: 2}}, Results: map[string]*proto.Map{"r": {Values: proto.NewMap(map[string]any{"k": "v"})}}},
		Try:     &proto.Try{Attempt: 3, Reply: &proto.Reply{Code: 550, Enhanced: "5.1.1", Text: "no"}, AgeMs: 1500},
	})
	if err != nil {
		t.Fatal(err)
	}
	if ev.Stage != hooks.Bounced || ev.Sender.String() != "a@example.net" || ev.Session.Client.String() != "192.0.2.1:25" || ev.Session.Host(t.Context()) != "h.example" ||
		ev.Session.TLS.Version != "TLSv1.3" || !ev.Session.Started.Equal(time.UnixMilli(1000)) || !ev.Now.Equal(time.UnixMilli(7000)) || ev.Total() != 2 || !ev.Tagged("t") || ev.Results["r"]["k"] != "v" ||
		!ev.Current.Ours || ev.Current.Notes["a"] != 1.0 || ev.Try.Age != 1500*time.Millisecond || ev.Try.Reply.String() != "550 5.1.1 no" || ev.Priority != -1 {
		t.Errorf("%+v %+v", ev.Transaction, ev.Session)
	}
	for _, bad := range []*proto.Event{{Stage: "never"}, {Stage: "mail", Sender: "@"}} {
		if _, err := newEvent(bad); err == nil {
			t.Errorf("%v was read", bad)
		}
	}
	if ev, err := newEvent(&proto.Event{Stage: "connect"}); err != nil || ev.Session == nil || ev.Session.Client.IsValid() {
		t.Errorf("%+v, %v", ev, err)
	}
}

func TestUsage(t *testing.T) {
	read, err := Policy{Name: "all", Version: "1.2", About: "Has all.", Handler: &all{}}.read()
	if err != nil {
		t.Fatal(err)
	}
	text := usage(read)
	for _, want := range []string{"all 1.2: Has all.", "stages: connect", "text: a text, string; default x", "must: , string; required", "how: , enum (one, two); default two"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
