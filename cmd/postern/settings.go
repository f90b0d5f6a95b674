package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/local"
	"github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmqp"
	"github.com/postern-mta/postern/core/remote"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/core/smtpd"
	"github.com/postern-mta/postern/hooks"
)

// This file turns the configuration's plain values into what each package
// wants: one function a package.

func dnsOptions(c *config.Config) dns.Options {
	o := dns.Options{Timeout: c.DNS.Timeout}
	for _, s := range c.DNS.Servers {
		o.Servers = append(o.Servers, s.String())
	}
	return o
}

func gateLimits(c *config.Config) gate.Limits {
	return gate.Limits{Connections: c.Limits.Connections, PerClient: c.Limits.ConnectionsPerClient}
}

// intakeSettings needs the maps that recipients stand in; nil: they can't be asked.
func intakeSettings(c *config.Config, maps lookup.Getter) intake.Settings {
	domains := ourDomains(c, maps)
	routes := sendRoutes(c)
	rules, _ := scoreRules(c) // checked with the policies
	s := intake.Settings{
		Hostname: c.Server.Hostname, EnvNoAtHost: c.Server.EnvNoAtHost, PercentHack: c.Server.PercentHack, Domains: domains,
		Mixed: intake.ParseMixed(c.Server.MixedRecipients), LiteralHost: c.Server.LiteralHost, MessageSize: c.Limits.MessageSize, HeaderSize: c.Limits.HeaderSize, Hops: c.Limits.Hops,
		Score: intake.Score{Tag: c.Score.Tag, Quarantine: c.Score.Quarantine, Reject: c.Score.Reject, Rules: rules},
		Routed: func(tx *hooks.Transaction, rcpt message.Address) bool {
			_, ok := routes.Find(tx.Sender, rcpt, routeFacts(tx))
			return ok
		},
		Asked: func(tx *hooks.Transaction, rcpt message.Address) (intake.Way, bool) {
			w, _, err := routes.Way(tx.Sender, rcpt, "", routeFacts(tx))
			return w, err == nil && w.Server()
		},
	}
	own := returnPaths(c, domains)
	s.Returns = own.returns
	if own.path != nil {
		s.ReturnPath = func(w intake.Way, sender message.Address, now time.Time) (message.Address, error) {
			if way, ok := w.(send.Way); ok {
				return own.path(way, sender, now)
			}
			return sender, nil
		}
	}
	if slices.ContainsFunc(routes, func(r send.Route) bool { return r.Proxy }) {
		s.Proxied = func(tx *hooks.Transaction, r *hooks.Recipient) (intake.Way, bool) {
			set := r.Route
			if set == "" {
				set = tx.Route
			}
			w, proxy, err := routes.Way(tx.Sender, r.Address, set, routeFacts(tx))
			w.Tagged = own.tagged != nil && (tx.Session.Relaying || tx.Session.Authenticated) && own.tagged(tx.Sender.Owner(), r.Address)
			return w, proxy && err == nil
		}
	}
	return s
}

// routeFacts is what routes may ask about a transaction.
func routeFacts(tx *hooks.Transaction) func() (netip.Addr, []string) {
	return func() (netip.Addr, []string) { return tx.Session.Client.Addr(), tx.Tags }
}

// ourDomains are the domains of [[domain]] and who exists there.
func ourDomains(c *config.Config, maps lookup.Getter) *intake.Domains {
	var list []intake.Domain
	for i := range c.Domains {
		d := &c.Domains[i]
		known := knownAt(c, d, maps)
		for _, name := range d.Names {
			list = append(list, intake.Domain{Name: name, Known: known, Callout: d.Recipients.Callout})
		}
	}
	return intake.NewDomains(list)
}

// knownAt tells who exists at a domain; nil: everybody, or its next hop tells.
func knownAt(c *config.Config, d *config.Domain, maps lookup.Getter) func(context.Context, message.Address) (bool, error) {
	r := &d.Recipients
	switch {
	case r.Any || r.Callout:
		return nil
	case r.Local:
		users := sync.OnceValues(func() (*local.Settings, error) {
			s, _, problems := loadLocal(c)
			return s, problems.Err()
		})
		return func(_ context.Context, a message.Address) (bool, error) {
			s, err := users()
			if err != nil {
				return false, err
			}
			return s.Knows(a)
		}
	case r.Lookup == "":
		return func(_ context.Context, a message.Address) (bool, error) {
			if r.Valid(a.Local, a.Domain) {
				return true, nil
			}
			user, _, ok := strings.Cut(a.Local, d.Subaddress)
			return d.Subaddress != "" && ok && user != "" && r.Valid(user, a.Domain), nil
		}
	}
	return func(ctx context.Context, a message.Address) (bool, error) {
		if maps == nil {
			return false, lookup.ErrNoMap
		}
		return lookup.Recipient(ctx, maps, r.Lookup, a, d.Subaddress)
	}
}

// sendRoutes are the configured routes.
func sendRoutes(c *config.Config) send.Routes {
	routes := make(send.Routes, 0, len(c.Routes))
	for _, r := range c.Routes {
		hop := send.NextHop{Scheme: r.NextHop.Scheme, Host: r.NextHop.Host, Path: r.NextHop.Path}
		if r.NextHop.Port != 0 {
			hop.Port = strconv.Itoa(int(r.NextHop.Port))
		}
		routes = append(routes, send.Route{
			ToDomain: r.ToDomain, ToAddress: r.ToAddress, FromDomain: r.FromDomain, FromAddress: r.FromAddress,
			Client: r.Client, Tag: r.Tag, NextHop: hop, TLS: r.TLS, Auth: send.Login(r.Auth), Source: r.Source, Proxy: r.Mode == "proxy", SRS: r.SRS,
		})
	}
	return routes
}

func sendConfig(c *config.Config) send.Config {
	s := send.Config{
		Hostname: c.Server.Hostname, Routes: sendRoutes(c), Lifetime: c.Queue.Lifetime, DelayNotice: c.Queue.DelayNotice,
		ConcurrencyLocal: c.Delivery.ConcurrencyLocal, ConcurrencyRemote: c.Delivery.ConcurrencyRemote, PerDestination: c.Delivery.PerDestination,
		LocalApart: len(c.Local.Users) > 0,
	}
	switch r := c.Queue.Retry; {
	case r.Quadratic():
	case r.Delays != nil:
		s.RetryRemote = send.Delays(r.Delays)
	default:
		s.RetryRemote = send.Growing(send.Growth(r.Growth))
	}
	s.RetryLocal = s.RetryRemote
	for _, r := range c.Delivery.Rules {
		s.Rules = append(s.Rules, send.DestinationRule{Destination: r.Destination, Concurrency: r.Concurrency, Count: r.Rate.Count, Per: r.Rate.Per})
	}
	s.DoubleBounceTo = doubleBounceTo(c)
	own := returnPaths(c, ourDomains(c, nil))
	s.Tagged, s.ReturnPath = own.tagged, own.path
	return s
}

// doubleBounceTo is who hears of bounces that fail: the configured address, else
// postmaster at our host name where that is one of our domains, else nobody.
func doubleBounceTo(c *config.Config) message.Address {
	if a, err := message.ParseAddress(c.Queue.DoubleBounceTo); err == nil && !a.IsNull() {
		return a
	}
	if ourDomains(c, nil).Ours(c.Server.Hostname) {
		return message.Address{Local: "postmaster", Domain: c.Server.Hostname}
	}
	return message.Address{}
}

// remoteSettings reads the authorities for next hops; none leaves it to the system.
func remoteSettings(c *config.Config) (remote.Settings, error) {
	s := remote.Settings{Hostname: c.Server.Hostname, Helo: c.Delivery.Helo}
	for i, file := range c.TLS.CA {
		pem, err := os.ReadFile(file)
		if err != nil {
			return s, config.Problems{c.Problem(fmt.Sprintf("tls.ca[%d]", i), fmt.Sprintf("%v; write the path of a readable file", err))}
		}
		if s.Roots == nil {
			s.Roots = x509.NewCertPool()
		}
		s.Roots.AppendCertsFromPEM(pem)
	}
	return s, nil
}

func calloutSettings(c *config.Config) remote.CalloutSettings {
	return remote.CalloutSettings{
		Positive: c.Callout.Positive, Negative: c.Callout.Negative, Entries: c.Callout.Entries,
		Concurrency: c.Callout.Concurrency, Timeout: c.Callout.Timeout,
	}
}

func smtpdLimits(c *config.Config) smtpd.Limits {
	l := c.Limits
	return smtpd.Limits{
		Recipients: l.Recipients, Errors: l.Errors, CommandTimeout: l.CommandTimeout, DataTimeout: l.DataTimeout,
		MinDataRate: l.MinDataRate, NormaliseLF: l.BareLF == "normalise",
	}
}

func qmqpLimits(c *config.Config) qmqp.Limits {
	l := c.Limits
	return qmqp.Limits{IdleTimeout: l.CommandTimeout, DataTimeout: l.DataTimeout, MinDataRate: l.MinDataRate}
}

func findListen(c *config.Config, name string) *config.Listen {
	for i := range c.Listen {
		if c.Listen[i].Name == name {
			return &c.Listen[i]
		}
	}
	return nil
}

// loadRules reads a listener's connection rules; their errors stand at the lines
// of the rules file.
func loadRules(l *config.Listen) (*gate.Rules, config.Problems) {
	if l.Rules == "" {
		return nil, nil
	}
	f, err := os.Open(l.Rules)
	if err != nil {
		return nil, config.Problems{l.Problem("rules", fmt.Sprintf("%v; write the path of a readable file", err))}
	}
	defer f.Close()
	rules, errs := gate.ParseRules(f)
	var problems config.Problems
	for _, e := range errs {
		problems = append(problems, config.Problem{File: l.Rules, Line: e.Line, Key: "rules", Text: e.Text})
	}
	if rules != nil {
		problems = append(problems, checkVariables(l.Rules, rules)...)
	}
	return rules, problems
}

// checkVariables looks at the values of variables that mean something to the gateway.
func checkVariables(file string, rules *gate.Rules) (problems config.Problems) {
	for rule := range rules.All() {
		if v, ok := rule.Env["DATABYTES"]; ok {
			if _, err := intake.ParseDatabytes(v); err != nil {
				problems = append(problems, config.Problem{File: file, Line: rule.Line, Key: "DATABYTES", Text: fmt.Sprintf("%q is no number of bytes", v)})
			}
		}
		if v := rule.Env["RELAYCLIENT"]; v != "" {
			if _, err := intake.WithSuffix(message.Address{Local: "user", Domain: "example.net"}, v); err != nil {
				problems = append(problems, config.Problem{File: file, Line: rule.Line, Key: "RELAYCLIENT", Text: fmt.Sprintf("user@example.net%s is no address: %v; write \"\", \".suffix\" or \"@host\"", v, err)})
			}
		}
	}
	return problems
}

// blocked is the entry that stands before all policies where connection rules set
// RBLSMTPD; none where they don't. What is wrong with rules is told elsewhere.
func blocked(c *config.Config) []hooks.Entry {
	for i := range c.Listen {
		if rules, _ := loadRules(&c.Listen[i]); rules != nil && rules.Blocks() {
			return []hooks.Entry{{Name: gate.Blocked{}.Name(), Handler: gate.Blocked{}, DenyAt: hooks.Rcpt}}
		}
	}
	return nil
}

// passwordFiles are the paths of [[auth]].
func passwordFiles(c *config.Config) []string {
	var list []string
	for i := range c.Auth {
		list = append(list, c.Auth[i].Path)
	}
	return list
}

// loadSenders reads a listener's file of who may send as what; nil where it has
// none.
func loadSenders(l *config.Listen) (auth.SenderRule, config.Problems) {
	file := l.SenderCheck.File
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, config.Problems{l.Problem("sender_check", fmt.Sprintf("%v; write the path of a readable file", err))}
	}
	defer f.Close()
	rule, errs := auth.ParseSenders(file, f)
	return rule, lineProblems("sender_check", errs)
}

// checkPasswords reads the password files for `postern check`.
func checkPasswords(c *config.Config) (problems config.Problems) {
	for i := range c.Auth {
		a := &c.Auth[i]
		f, err := os.Open(a.Path)
		if err != nil {
			continue // config.Load told of it
		}
		_, errs := auth.ParsePasswords(a.Path, f)
		_ = f.Close()
		problems = append(problems, lineProblems("path", errs)...)
	}
	return problems
}

// lineProblems are findings in a file that the configuration names, at their
// lines.
func lineProblems(key string, errs []error) (problems config.Problems) {
	for _, err := range errs {
		p := config.Problem{Line: 1, Key: key, Text: err.Error()}
		if e, ok := errors.AsType[*auth.LineError](err); ok {
			p.File, p.Line, p.Text = e.File, e.Line, e.Text
		}
		problems = append(problems, p)
	}
	return problems
}
