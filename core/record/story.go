package record

import (
	"encoding/json"
	"time"
)

// Story is what happened to one message, or to one connection that was refused:
// the JSON of `postern why --json`. Texts that came from outside stand as they
// came; encoding/json and Print make them harmless.
type Story struct {
	ID         string    `json:"id"`
	Session    string    `json:"session"`
	Client     string    `json:"client"` // IP address, "" for mail made on this host
	Sender     string    `json:"sender"` // "" is the null path
	Recipients []string  `json:"recipients"`
	Verdict    string    `json:"verdict"` // a Verdict's name; "" where only later events are left
	Stages     []Step    `json:"stages"`
	Attempts   []Try     `json:"attempts"`
	Refusals   []Refusal `json:"refusals,omitempty"` // negative replies before the verdict

	Time     time.Time  `json:"time,omitzero"` // of the first stage
	Ended    time.Time  `json:"ended,omitzero"`
	Left     *time.Time `json:"left,omitempty"` // when the message left the queue
	Port     int        `json:"port,omitempty"` // the client's
	Listener string     `json:"listener,omitempty"`
	Protocol string     `json:"protocol,omitempty"`
	Helo     string     `json:"helo,omitempty"`
	TLS      string     `json:"tls,omitempty"`
	User     string     `json:"user,omitempty"`
	Size     int64      `json:"size,omitempty"`
	Subject  string     `json:"subject,omitempty"`
	Reply    string     `json:"reply,omitempty"`  // what the client was told at last
	Policy   string     `json:"policy,omitempty"` // who decided, where the message did not just pass
	Reason   string     `json:"reason,omitempty"`
	Scores   []Symbol   `json:"scores,omitempty"`
	Total    float64    `json:"total,omitempty"` // of the scores
	Tags     []string   `json:"tags,omitempty"`
	Route    string     `json:"route,omitempty"`

	LeftOut           int    `json:"left_out,omitempty"`            // stage runs and refusals beyond the bounds
	RecipientsLeftOut int    `json:"recipients_left_out,omitempty"` // beyond the bound
	Message           string `json:"message,omitempty"`             // its first 64 KiB, where the recorder keeps bodies

	// What a replay needs beside all that.
	Header   string      `json:"-"` // the header section as it came, at most 32 KiB, where Message is not kept
	Local    string      `json:"-"` // address and port that the client came to
	Extended bool        `json:"-"` // EHLO
	Relaying bool        `json:"relaying,omitempty"`
	Params   [][2]string `json:"-"` // of MAIL
}

// Whole is a Story whose JSON has all that a replay needs, bytes as they are.
type Whole Story

// whole is its JSON.
type whole struct {
	Story
	Header   []byte      `json:"header_bytes,omitempty"`
	Message  []byte      `json:"message_bytes,omitempty"`
	Local    string      `json:"local,omitempty"`
	Extended bool        `json:"extended,omitempty"`
	Params   [][2]string `json:"params,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (s Whole) MarshalJSON() ([]byte, error) {
	w := whole{Story(s), []byte(s.Header), []byte(s.Message), s.Local, s.Extended, s.Params}
	w.Story.Message = ""
	return json.Marshal(w)
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Whole) UnmarshalJSON(b []byte) error {
	var w whole
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*s = Whole(w.Story)
	s.Header, s.Message, s.Local, s.Extended, s.Params = string(w.Header), string(w.Message), w.Local, w.Extended, w.Params
	return nil
}

// Step is one stage that asked somebody.
type Step struct {
	Stage     string    `json:"stage"`
	Time      time.Time `json:"time"`
	Recipient string    `json:"recipient,omitempty"`
	Handlers  []Answer  `json:"handlers"`
}

// Answer is one handler's part in a Step.
type Answer struct {
	Policy   string   `json:"policy"`
	Decision string   `json:"decision"`
	Reply    string   `json:"reply,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Duration float64  `json:"duration_ms"`
	Edits    []string `json:"edits"`
	Shadow   bool     `json:"shadow"`
	Error    string   `json:"error,omitempty"` // the handler's failure; Decision is then what on_failure made of it
	Lookups  []Lookup `json:"lookups,omitempty"`
}

// Lookup is a question that a policy asked the outside, and what came back.
type Lookup struct {
	Kind     string `json:"kind"`
	Question string `json:"question"`
	Answer   string `json:"answer,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Try is one delivery attempt for one recipient.
type Try struct {
	Time      time.Time `json:"time"`
	Recipient string    `json:"recipient"`
	NextHop   string    `json:"next_hop"`
	Peer      string    `json:"peer"`
	TLS       string    `json:"tls,omitempty"`
	Reply     string    `json:"reply"`
	Outcome   string    `json:"outcome"` // delivered, deferred, bounced
	Duration  float64   `json:"duration_ms"`
	Attempt   int       `json:"attempt,omitempty"`
}

// Refusal is one negative reply.
type Refusal struct {
	Stage     string    `json:"stage"`
	Time      time.Time `json:"time"`
	Recipient string    `json:"recipient,omitempty"`
	Policy    string    `json:"policy,omitempty"` // "" for the protocol engine
	Reply     string    `json:"reply"`
}

// Symbol is one entry of the score.
type Symbol struct {
	Name   string  `json:"name"`
	Points float64 `json:"points"`
	Why    string  `json:"why,omitempty"`
}

// millis is a duration in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
