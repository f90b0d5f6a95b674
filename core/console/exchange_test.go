package console

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// full is a message with every field set that an export keeps.
func full(now time.Time) *queue.Message {
	return &queue.Message{
		ID: "0MESSAGE0000001", Sender: message.Address{Local: "a b", Domain: "xn--bcher-kva.example"}, Arrived: now.Add(-time.Hour), Place: queue.Held,
		Reason: "held by an operator", Unicode: "bücher.example", EightBit: true, Binary: true, SMTPUTF8: true, Ret: "FULL", EnvID: "QQ+2B1",
		Notified: true, Signed: queue.Span{From: 40, To: 400}, Size: 1000, Facts: []byte(`{"helo":"h"}`),
		Recipients: []queue.Recipient{
			{
				Address: message.Address{Local: "b", Domain: "y.example"}, Original: "rfc822;c@y.example", Notify: "SUCCESS,DELAY", Route: "lmtp:///run/l",
				Held: true, State: queue.Deferred, Attempts: 3, Next: now.Add(time.Minute), Tried: now.Add(-time.Minute),
				Last: message.NewReply(450, "4.2.1", "Busy now"), Peer: "mx.y.example",
			},
			{Address: message.Address{Local: "d", Domain: "y.example"}, State: queue.Delivered, Attempts: 1, Last: message.NewReply(250, "", "Ok"), Relayed: true, Next: now},
			{Address: message.Address{Local: "e", Domain: "z.example"}, Next: now.Add(time.Hour), Unicode: "z.example"},
		},
	}
}

func TestExportAndImportKeepEverything(t *testing.T) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	for _, change := range []func(*queue.Message){
		func(*queue.Message) {},
		func(m *queue.Message) { m.Sender, m.Double = message.Address{}, true },
		func(m *queue.Message) { m.Sender, m.Place, m.Reason = message.Address{}, queue.Active, "" },
	} {
		m := full(now)
		change(m)
		if m.Place != queue.Active {
			m.Recipients[2].Next = now // of what is not active no time is shown
		}
		m.Recipients[0].Next = now // nor of who is held
		text, err := json.Marshal(DetailOf(m))
		if err != nil {
			t.Fatal(err)
		}
		var d Detail
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		got, err := MessageOf(&d, now)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("got  %+v\nwant %+v", got, m)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	now := time.Now()
	for want, change := range map[string]func(*Detail){
		"is not the id":             func(d *Detail) { d.ID = "../../../etc/x" },
		`sender "a@"`:               func(d *Detail) { d.Sender = "a@" },
		"no time in the past":       func(d *Detail) { d.Arrived = now.Add(48 * time.Hour) },
		`place "lost"`:              func(d *Detail) { d.Place = "lost" },
		"0 recipients":              func(d *Detail) { d.Recipients = nil },
		"recipient 1: address":      func(d *Detail) { d.Recipients[0].Address = "" },
		"-1 attempts":               func(d *Detail) { d.Recipients[0].Attempts = -1 },
		`state "gone"`:              func(d *Detail) { d.Recipients[0].State = "gone" },
		"nothing to be tried":       func(d *Detail) { d.Recipients[0].State, d.Recipients[2].State = "failed", "failed" },
		"control characters in ret": func(d *Detail) { d.EnvID = "x\r\nRCPT TO:<y@z>" },
		"signed: 900 to 1001":       func(d *Detail) { d.Signed = &DetailSpan{900, 1001} },
		"signed: -1 to 3":           func(d *Detail) { d.Signed = &DetailSpan{-1, 3} },
		"control characters in ori": func(d *Detail) { d.Recipients[0].Original = "rfc822;x\n" },
	} {
		d := DetailOf(full(now))
		change(&d)
		if _, err := MessageOf(&d, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// An envelope that anybody wrote is refused, or makes a message that can be
// exported and imported again.
func FuzzImportedEnvelope(f *testing.F) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	text, err := json.Marshal(DetailOf(full(now)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"id":"0MESSAGE0000001","recipients":[{"address":"a@b"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d Detail
		if json.Unmarshal(text, &d) != nil {
			return
		}
		m, err := MessageOf(&d, now)
		if err != nil {
			return
		}
		again := DetailOf(m)
		if _, err := MessageOf(&again, now); err != nil {
			t.Errorf("%v\nof %+v", err, m)
		}
	})
}
