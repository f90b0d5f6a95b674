package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

// This file is a client of rspamd: HTTP, POST /checkv2 with the message as body
// and what is known of the transaction as header fields, and JSON in the reply.
// One connection is one question.

// Bounds of a reply. rspamd is of the house, but what it answers is made from mail
// of strangers.
const (
	maxReply   = 1 << 20 // bytes
	maxSymbols = 1000
	maxFields  = 100 // to add or remove
	maxValue   = 8 << 10
	maxPoints  = 1e6
	maxText    = 500 // bytes of a reply to the client
)

// client asks servers with a password, "" for none.
type client struct {
	*scanner.Group
	password string
}

// verdict is what rspamd says of a message.
type verdict struct {
	Action   string
	Score    float64
	Required float64
	Skipped  bool
	Subject  string
	Symbols  map[string]symbol
	Messages map[string]string
	DKIM     []string
	Milter   milter
}

type symbol struct {
	Score float64 `json:"score"`
}

// facts are the header fields that tell rspamd of the transaction.
func (s *rspamd) facts(ctx context.Context, ev *sdk.Event) http.Header {
	h := http.Header{}
	set := func(name, value string) {
		if value = scanner.OneLine(value); value != "" {
			h.Add(name, value)
		}
	}
	c := ev.Session
	if c.Client.IsValid() {
		set("IP", c.Client.Addr().Unmap().String())
	}
	set("Helo", c.Helo)
	set("Hostname", c.Host(ctx))
	set("From", "<"+ev.Sender.String()+">")
	for _, r := range ev.Recipients {
		set("Rcpt", "<"+r.Address.String()+">")
	}
	if len(ev.Recipients) == 1 {
		set("Deliver-To", ev.Recipients[0].Address.String())
	}
	if c.Authenticated {
		set("User", c.User)
	}
	set("Queue-Id", ev.ID)
	set("MTA-Name", "postern")
	set("Settings-ID", s.SettingsID)
	if c.TLS != nil {
		set("TLS-Version", c.TLS.Version)
		set("TLS-Cipher", c.TLS.Cipher)
	}
	return h
}

// post sends a message to a path of one server and hands its reply on.
func (c client) post(ctx context.Context, s scanner.Server, path string, h http.Header, size int64, body io.Reader) (status int, reply []byte, err error) {
	host, scheme := s.Address, "http"
	if s.Network == "unix" {
		host = "localhost"
	}
	if s.TLS {
		scheme = "https"
	}
	method := http.MethodPost
	if body == nil {
		method = http.MethodGet
	}
	q, err := http.NewRequestWithContext(ctx, method, scheme+"://"+host+path, body)
	if err != nil {
		return 0, nil, err
	}
	if h != nil {
		q.Header = h.Clone()
	}
	if c.password != "" {
		q.Header.Set("Password", c.password)
	}
	if body != nil {
		q.ContentLength = size
		if size == 0 {
			q.Body = http.NoBody
		}
	}
	t := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx, s) },
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	defer t.CloseIdleConnections()
	r, err := t.RoundTrip(q)
	if err != nil {
		return 0, nil, err
	}
	defer r.Body.Close()
	reply, err = io.ReadAll(io.LimitReader(r.Body, maxReply+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("its reply is cut off: %w", err)
	case len(reply) > maxReply:
		return 0, nil, errors.New("its reply is too long")
	}
	return r.StatusCode, reply, nil
}

// check shows a message of so many bytes.
func (c client) check(ctx context.Context, h http.Header, size int64, m *scanner.Message) (v *verdict, err error) {
	err = c.Ask(ctx, m, func(ctx context.Context, s scanner.Server, r io.Reader) error {
		status, reply, err := c.post(ctx, s, "/checkv2", h, size, r)
		if m.Err() != nil {
			return m.Err()
		}
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("it answers %d %.200q", status, complaint(reply))
		}
		v, err = readVerdict(reply)
		return err
	})
	return v, err
}

// learn teaches the controller.
func (c client) learn(ctx context.Context, l *sdk.Lesson) (text string, err error) {
	path := "/learnham"
	if l.Spam {
		path = "/learnspam"
	}
	h := http.Header{"Queue-Id": {scanner.OneLine(l.ID)}}
	if len(l.Recipients) == 1 {
		h.Set("Deliver-To", scanner.OneLine(l.Recipients[0].String()))
	}
	m := scanner.NewMessage(l.Message)
	err = c.Ask(ctx, m, func(ctx context.Context, s scanner.Server, r io.Reader) error {
		status, reply, err := c.post(ctx, s, path, h, l.Size, r)
		switch {
		case m.Err() != nil:
			return m.Err()
		case err != nil:
			return err
		case status == http.StatusAlreadyReported || strings.Contains(complaint(reply), "has been already learned"):
			text = "known already"
		case status == http.StatusNoContent:
			text = "rspamd does not learn it: " + complaint(reply)
		case status != http.StatusOK:
			return fmt.Errorf("it answers %d %.200q", status, complaint(reply))
		}
		return nil
	})
	return text, err
}

// ping asks whether every server is there.
func (c client) ping(ctx context.Context) error {
	return c.Each(ctx, func(ctx context.Context, s scanner.Server) error {
		status, reply, err := c.post(ctx, s, "/ping", nil, 0, nil)
		if err == nil && (status != http.StatusOK || strings.TrimSpace(string(reply)) != "pong") {
			err = fmt.Errorf("it answers %d %.100q to a ping", status, reply)
		}
		return err
	})
}

// complaint is what a reply that is none says.
func complaint(reply []byte) string {
	var x struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(reply, &x) == nil && x.Error != "" {
		return scanner.OneLine(x.Error)
	}
	return scanner.OneLine(string(reply[:min(len(reply), 200)]))
}

// readVerdict reads the JSON of a reply to /checkv2.
func readVerdict(reply []byte) (*verdict, error) {
	var x struct {
		Action   string            `json:"action"`
		Score    *float64          `json:"score"`
		Required float64           `json:"required_score"`
		Skipped  bool              `json:"is_skipped"`
		Subject  string            `json:"subject"`
		Symbols  map[string]symbol `json:"symbols"`
		Messages json.RawMessage   `json:"messages"`
		DKIM     json.RawMessage   `json:"dkim-signature"`
		Milter   json.RawMessage   `json:"milter"`
	}
	if err := json.NewDecoder(bytes.NewReader(reply)).Decode(&x); err != nil {
		return nil, fmt.Errorf("its reply makes no sense: %w", err)
	}
	v := &verdict{Action: scanner.OneLine(x.Action), Required: x.Required, Skipped: x.Skipped, Subject: x.Subject, Symbols: x.Symbols}
	switch {
	case v.Action == "" || len(v.Action) > 100 || x.Score == nil && v.Action != "no action":
		return nil, fmt.Errorf("its reply has no verdict: %.100q", reply)
	case len(x.Symbols) > maxSymbols:
		return nil, errors.New("its reply names too many symbols")
	}
	if x.Score != nil {
		v.Score = *x.Score
	}
	for _, n := range []float64{v.Score, v.Required} {
		if !(math.Abs(n) <= maxPoints) {
			return nil, fmt.Errorf("its score %g is out of range", n)
		}
	}
	for name := range v.Symbols {
		if name == "" || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("its reply names the symbol %.100q", name)
		}
	}
	v.Messages = texts(x.Messages)
	var err error
	if v.DKIM, err = signatures(x.DKIM); err != nil {
		return nil, err
	}
	v.Milter, err = readMilter(x.Milter)
	return v, err
}

// texts reads an object of texts; what is none, such as the list that rspamd sends
// where it has no messages, is empty.
func texts(raw json.RawMessage) map[string]string {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return nil
	}
	out := map[string]string{}
	for name, one := range object {
		var text string
		if json.Unmarshal(one, &text) == nil {
			out[name] = text
		}
	}
	return out
}

// signatures reads a text or a list of texts.
func signatures(raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var list []string
	var one string
	if json.Unmarshal(raw, &one) == nil {
		list = []string{one}
	} else if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errors.New("its dkim-signature is neither a text nor a list of texts")
	}
	list = slices.DeleteFunc(list, func(s string) bool { return scanner.OneLine(s) == "" })
	if len(list) > maxFields || slices.ContainsFunc(list, func(s string) bool { return len(s) > maxValue }) {
		return nil, errors.New("its dkim-signature is too long")
	}
	return list, nil
}

// message is what rspamd wants the client to hear, "" for nothing.
func (v *verdict) message() string {
	text := scanner.OneLine(v.Messages["smtp_message"])
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return text
}

// short is the symbols as the reason of a score: those with most weight first, cut
// where there are too many.
func (v *verdict) short(limit int) string {
	names := make([]string, 0, len(v.Symbols))
	for name := range v.Symbols {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := math.Abs(v.Symbols[a].Score), math.Abs(v.Symbols[b].Score)
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a, b)
	})
	var b strings.Builder
	for i, name := range names {
		one := fmt.Sprintf("%s(%.4g)", name, v.Symbols[name].Score)
		if b.Len()+len(one)+2 > limit {
			b.WriteString(" ...")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(one)
	}
	if b.Len() == 0 {
		return "no symbols"
	}
	return b.String()
}
