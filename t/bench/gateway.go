//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// strangers are how many clients there are, each in a network of its own.
const strangers = 50

// gatewayTarget is what is aimed at, in messages a second on two cores.
const gatewayTarget = 1500

// runGateway measures the profile that a gateway to the world starts from: mail of
// strangers for a domain of ours, signed with DKIM, with SPF and DMARC records, each
// client known to the greylist; name servers that take a millisecond; no scanners.
func runGateway(ctx context.Context, args []string) error {
	b := &bench{}
	f := b.flags("gateway")
	profile := f.String("profile", "etc/gateway.toml", "whose policies are measured")
	f.IntVar(&b.messages, "n", 5000, "messages of a round")
	f.IntVar(&b.rounds, "rounds", 3, "rounds")
	hold := f.Bool("hold", false, "keep the server for a minute under load, and say its process id: for a profile")
	_ = f.Parse(args) // it exits
	shut, err := b.open()
	if err != nil {
		return err
	}
	defer shut()
	g, err := newGateway(b, *profile)
	if err != nil {
		return err
	}
	answering, stop := context.WithCancel(ctx)
	defer stop()
	server, err := g.zone.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(answering) }() // it ends with the run
	g.names = server.Addr().String()
	r := b.report("gateway", fmt.Sprintf("%d messages of %d octets in a round, %d clients with kept connections, measured from when all have greeted, %d rounds; name servers that answer after %s.", b.messages, b.size, strangers, b.rounds, g.zone.Delay))
	const title = "The gateway profile"
	p := &peer{name: "gateway", about: "Postern, " + filepath.Base(*profile), prepare: g.prepare}
	rows := map[string][]relaySample{}
	for range b.rounds {
		one, err := g.round(ctx, p, *hold)
		if err != nil {
			return err
		}
		say("  gateway: accepts %.0f/s, drains %.0f/s, %.3f ms CPU, %.0f MB", one.accept, one.drain, one.cpu, one.memory)
		rows[p.name] = append(rows[p.name], one)
	}
	r.Sections = append(r.Sections, relaySection(title, []*peer{p}, rows))
	if got, ok := r.median(title, p.about, "accepted"); ok {
		r.least("the gateway profile, kept connections: accepted", "/s", gatewayTarget, got)
	}
	return b.tell(r)
}

// gateway is the world around a server with the profile's policies.
type gateway struct {
	bench  *bench
	zone   *dns.Zone
	names  string // the name server
	policy string // of the profile: all from its first policy on
	body   []byte
}

var greylistDelay = regexp.MustCompile(`(?m)^(delay\s*=\s*).*$`)

func newGateway(b *bench, profile string) (*gateway, error) {
	text, err := os.ReadFile(filepath.Join(b.root, profile))
	if err != nil {
		return nil, err
	}
	at := strings.Index(string(text), "\n[[policy]]")
	if at < 0 {
		return nil, fmt.Errorf("%s has no policy", profile)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	record, err := dkim.Record(key.Public())
	if err != nil {
		return nil, err
	}
	zone := &dns.Zone{
		Delay: time.Millisecond,
		A:     map[string][]string{"src.example": {"203.0.113.1"}},
		MX:    map[string][]string{"src.example": {"10 mail0.src.example"}},
		PTR:   map[string][]string{},
		TXT: map[string][]string{
			"src.example": {"v=spf1 ip4:203.0.0.0/8 -all"}, "_dmarc.src.example": {"v=DMARC1; p=reject"}, "s._domainkey.src.example": {record},
		},
	}
	for i := range strangers {
		ip, name := fmt.Sprintf("203.%d.113.7", i), fmt.Sprintf("mail%d.src.example", i)
		zone.PTR[ip], zone.A[name] = []string{name}, []string{ip}
	}
	body := mailOf(b.size)
	mail := message.Bytes(body[:len(body)-len(".\r\n")])
	signed, err := dkim.NewKeyring([]*dkim.SigningKey{{Domain: "src.example", Selector: "s", Private: key}}).Sign(mail, message.Address{Local: "a", Domain: "src.example"}, time.Now())
	if err == nil && len(signed) == 0 {
		err = errors.New("the message is not signed")
	}
	return &gateway{
		bench: b, zone: zone, body: append(signed, body...),
		policy: greylistDelay.ReplaceAllString(string(text[at:]), `${1}"1s"`),
	}, err
}

// prepare writes the configuration: the profile's policies in front of hop.
func (g *gateway) prepare(ctx context.Context, b *bench, s *server) ([]string, error) {
	exe, err := b.binary(ctx, "")
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`[server]
hostname = "bench.example"
data_dir = %q
control = %q
[[listen]]
address = %q
tls = "off"
xclient_from = ["127.0.0.0/8"]
[limits]
connections = 20000
connections_per_client = 20000
[dns]
servers = [%q]
[[domain]]
name = "dest.example"
[[route]]
to_domain = ["dest.example"]
next_hop = "smtp://%s"
tls = "none"
[delivery]
concurrency_remote = 200
per_destination = 50
[console]
address = ""
`, filepath.Join(s.dir, "var"), filepath.Join(s.dir, "control"), s.addr, g.names, s.hop)
	file := filepath.Join(s.dir, "postern.toml")
	return []string{exe, "serve", "-c", file}, os.WriteFile(file, []byte(text+g.policy), 0o644)
}

func (g *gateway) round(ctx context.Context, p *peer, hold bool) (one relaySample, err error) {
	b := g.bench
	hop, err := startAwaySink(ctx)
	if err != nil {
		return one, err
	}
	defer hop.stop()
	s, err := b.start(ctx, p, hop.addr, "")
	if err != nil {
		return one, err
	}
	defer s.away()
	send := func(n int, waits bool, ready func() error) (*load, time.Duration, error) {
		l := &load{
			to: s.addr, sessions: strangers, messages: n, kept: true, body: g.body, waits: waits, ready: ready,
			stranger: func(i int) string {
				return fmt.Sprintf("ADDR=203.%[1]d.113.7 NAME=mail%[1]d.src.example", i%strangers)
			},
		}
		took, err := l.run(ctx)
		return l, took, err
	}
	// Each client comes once and waits, and once more, so that the greylist knows it.
	if _, _, err := send(strangers, true, nil); err != nil {
		return one, err
	}
	select {
	case <-time.After(2500 * time.Millisecond):
	case <-ctx.Done():
		return one, ctx.Err()
	}
	warm := max(b.messages/10, 2*strangers)
	if _, _, err := send(warm, false, nil); err != nil {
		return one, err
	}
	if err := hop.wait(ctx, warm, waitAtMost); err != nil {
		return one, err
	}
	if hold {
		say("  process %d for a minute", s.cmd.Process.Pid)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); warm += b.messages {
			if _, _, err := send(b.messages, false, nil); err != nil {
				return one, err
			}
		}
		if err := hop.wait(ctx, warm, waitAtMost); err != nil {
			return one, err
		}
	}
	return s.measure(ctx, hop, b.messages, warm, func(n int, start func() error) (*load, time.Duration, error) { return send(n, false, start) })
}
