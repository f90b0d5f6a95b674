// Command policyservice is a plugin that asks a policy server of Postfix's kind
// (check_policy_service), such as postgrey, policyd or a program of the site's, and
// does what it says.
//
//	[[policy]]
//	use     = "policyservice"
//	address = "127.0.0.1:10023"
//
// The policy is in this file, the protocol in protocol.go, and what actions mean in
// actions.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

const askTime = 60 * time.Second

type service struct {
	Address string        `postern:"address,required" doc:"of the policy server: host and port, or the path of its unix socket, also as inet:host:port and unix:path; several with commas: the next one is asked where one fails"`
	At      []string      `postern:"at" enum:"rcpt, data, message" doc:"when it is asked: for each recipient, before the message, after it (Postfix's RCPT, DATA and END-OF-MESSAGE)" default:"rcpt"`
	OK      string        `postern:"on_ok" enum:"pass, accept" doc:"what OK means: the other policies are asked all the same, or a recipient of ours is taken" default:"pass"`
	Connect time.Duration `postern:"connect_timeout" doc:"for a connection to one server" default:"5s"`
	Scan    time.Duration `postern:"scan_timeout" doc:"for the answer of one server" default:"25s"`
	Context string        `postern:"context" doc:"the attribute policy_context; empty: none"`

	servers *scanner.Group
	idle    chan *link
}

// Prepare checks the settings.
func (s *service) Prepare(context.Context) error {
	var all []error
	list, err := scanner.ParseList(s.Address)
	if err != nil {
		all = append(all, sdk.Problem{Key: "address", Text: err.Error()})
	}
	for _, one := range list {
		if one.TLS {
			all = append(all, sdk.Problem{Key: "address", Text: fmt.Sprintf("%q: the policy protocol is plain; write a host and port", one)})
		}
	}
	if len(s.At) == 0 {
		all = append(all, sdk.Problem{Key: "at", Text: `names no stage; write some of "rcpt", "data" and "message"`})
	}
	if strings.ContainsFunc(s.Context, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		all = append(all, sdk.Problem{Key: "context", Text: "holds control characters; write one line"})
	}
	s.servers = &scanner.Group{Name: "policy server", Servers: list, Connect: s.Connect, Scan: s.Scan}
	s.idle = make(chan *link, maxIdle)
	return errors.Join(all...)
}

// Healthy tells whether every server takes connections.
func (s *service) Healthy(ctx context.Context) error {
	return s.servers.Each(ctx, func(ctx context.Context, one scanner.Server) error {
		c, err := s.servers.Dial(ctx, one)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// Close ends the connections that wait for work.
func (s *service) Close() error {
	for {
		select {
		case l := <-s.idle:
			l.conn.Close()
		default:
			return nil
		}
	}
}

// Rcpt asks about a recipient.
func (s *service) Rcpt(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return s.ask(ctx, ev, "RCPT")
}

// Data asks before the message.
func (s *service) Data(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return s.ask(ctx, ev, "DATA")
}

// Message asks when it has come, after what was kept for then.
func (s *service) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	s.prependKept(ev)
	return s.ask(ctx, ev, "END-OF-MESSAGE")
}

// Queue does what was asked for before a message was there.
func (s *service) Queue(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return late(ev)
}

func (s *service) ask(ctx context.Context, ev *sdk.Event, state string) (sdk.Decision, error) {
	if !slices.Contains(s.At, ev.Stage.String()) {
		return sdk.Pass(), nil
	}
	action, err := s.exchange(ctx, s.attributes(ctx, ev, state))
	if err != nil {
		return sdk.Pass(), err
	}
	return s.decide(ev, action)
}

// attributes is what the server is told (Postfix's SMTPD_POLICY_README).
func (s *service) attributes(ctx context.Context, ev *sdk.Event, state string) []byte {
	c, b := ev.Session, []byte("request=smtpd_access_policy\nprotocol_state="+state+"\n")
	set := func(name, value string) {
		b = append(append(append(append(b, name...), '='), scanner.OneLine(value)...), '\n')
	}
	protocol := "SMTP"
	switch {
	case c.Protocol == "lmtp":
		protocol = "LMTP"
	case c.Extended:
		protocol = "ESMTP"
	}
	set("protocol_name", protocol)
	name := c.Host(ctx)
	if name == "" {
		name = "unknown"
	}
	if c.Client.IsValid() {
		set("client_address", c.Client.Addr().Unmap().String())
		set("client_port", fmt.Sprint(c.Client.Port()))
	}
	set("client_name", name)
	set("reverse_client_name", name)
	if c.Local.IsValid() {
		set("server_address", c.Local.Addr().Unmap().String())
		set("server_port", fmt.Sprint(c.Local.Port()))
	}
	set("helo_name", c.Helo)
	set("sender", ev.Sender.String())
	to, n := message.Address{}, len(ev.Recipients)
	switch {
	case ev.Current != nil:
		to, n = ev.Current.Address, 0 // Postfix counts them at DATA alone
	case n == 1:
		to = ev.Recipients[0].Address
	}
	set("recipient", to.String())
	set("recipient_count", fmt.Sprint(n))
	set("queue_id", ev.ID)
	set("instance", c.ID+"."+ev.ID)
	set("size", fmt.Sprint(ev.Size))
	set("etrn_domain", "")
	set("stress", "")
	set("sasl_method", "")
	set("sasl_username", c.User)
	set("sasl_sender", "")
	version, cipher, subject := "", "", ""
	if c.TLS != nil {
		version, cipher, subject = c.TLS.Version, c.TLS.Cipher, c.TLS.Client
	}
	set("ccert_subject", subject)
	set("encryption_protocol", version)
	set("encryption_cipher", cipher)
	if s.Context != "" {
		set("policy_context", s.Context)
	}
	return append(b, '\n')
}

func policy() sdk.Policy {
	return sdk.Policy{
		Name: "policyservice", Version: "1.0", About: "Asks a policy server of Postfix's kind, and does what it says.",
		Handler: &service{}, Access: sdk.Headers(), Host: true, OnFailure: "defer", Immune: []string{"relaying", "authenticated"}, Timeout: askTime,
	}
}

func main() { sdk.Serve(policy()) }
