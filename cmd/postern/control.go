package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/quarantine"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// This file is the daemon's side of the console and the control socket: what
// they show, and what they may order.

// openConsole binds the console's address and the control socket.
func (d *daemon) openConsole(c *config.Config) (err error) {
	if c.Console.Address != "" {
		d.web, err = net.Listen("tcp", c.Console.Address)
		if err != nil {
			return errors.New(c.Problem("console.address", bindError(err)).String())
		}
		d.closers = append(d.closers, func() error { return ignoreClosed(d.web.Close()) })
	}
	if c.Digest.Address != "" {
		d.pages, err = net.Listen("tcp", c.Digest.Address)
		if err != nil {
			return errors.New(c.Problem("digest.address", bindError(err)).String())
		}
		d.closers = append(d.closers, func() error { return ignoreClosed(d.pages.Close()) })
	}
	return nil
}

func (d *daemon) openControl(c *config.Config) (err error) {
	if d.pages != nil {
		if d.links, err = quarantine.LoadKey(c.Digest.KeyFile); err != nil {
			return errors.New(c.Problem("digest.key_file", err.Error()).String())
		}
	}
	d.control, err = console.ListenControl(c.Server.Control)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, func() error { return ignoreClosed(d.control.Close()) })
	d.console = console.New(console.Options{
		Log: d.log, Record: d.record, Queue: d.queue,
		Status: d.status, Open: d.open, Ways: d.sender.Look,
		Ready: func() error {
			if d.stopping.Load() {
				return errStopping
			}
			return nil
		},
		Destination: d.destination,
		Reload:      func(context.Context) error { return d.reload() },
		Acts: map[string]console.Act{
			"retry":              func(_ context.Context, id string, _ *console.Order) error { return d.retry(id) },
			"hold":               plain(d.hold),
			"release":            plain(d.release),
			"delete":             plain(d.remove),
			"bounce":             d.giveUp,
			"reroute":            d.reroute,
			"quarantine-release": plain(d.releaseQuarantined),
			"quarantine-delete":  plain(d.deleteQuarantined),
			"quarantine-learn":   d.learn,
		},
		NextHop:   func(s string) error { _, err := send.ParseNextHop(s); return err },
		Import:    d.importMessage,
		Inject:    d.inject,
		TakeDrops: d.takeDrops,
		Downs: func() (list []console.Unreached) {
			for _, one := range d.remote.Downs() {
				list = append(list, console.Unreached(one))
			}
			return list
		},
		Forget:  d.remote.Forget,
		Plugins: d.plugins,
	})
	return d.openInjection(c)
}

// plain is an act that no order has more to say of.
func plain(do func(context.Context, string) error) console.Act {
	return func(ctx context.Context, id string, _ *console.Order) error { return do(ctx, id) }
}

var errStopping = errors.New("the daemon is stopping")

func (d *daemon) serveConsole(ctx context.Context, part func(func() error)) {
	part(func() error { return d.console.ServeControl(ctx, d.control) })
	if d.injection != nil {
		part(func() error { return d.console.ServeInjection(ctx, d.injection, intake.QueueIn) })
	}
	if d.web != nil {
		part(func() error { return d.console.ServeWeb(ctx, d.web) })
	}
	if d.pages != nil {
		part(func() error { return d.console.ServePages(ctx, d.pages, d.releasePage()) })
	}
}

func (d *daemon) consoleAddr() string {
	if d.web == nil {
		return ""
	}
	return d.web.Addr().String()
}

func (d *daemon) status() console.Status {
	chain := d.chain.Load()
	s := console.Status{Version: version, Started: d.started, Generation: chain.Generation, Policies: console.Policies(chain.Counts())}
	if why, failing := d.memory.failing(); failing {
		s.Warnings = append(s.Warnings, console.Warning{What: "the memory of policies", Failure: why})
	}
	s.Restart = needRestart(d.booted, d.config.Load())
	if found := d.findings.Load(); found != nil {
		for _, p := range found.Sorted() {
			s.Findings = append(s.Findings, p.String())
		}
	}
	for _, l := range d.listeners {
		s.Listeners = append(s.Listeners, console.Listener{Name: l.name, Protocol: l.protocol, Address: l.Addr().String()})
	}
	return s
}

// open counts the connections for those who look.
func (d *daemon) open() []console.Open {
	list := []console.Open{}
	for _, l := range d.gate.Open() {
		one := console.Open{Listener: l.Listener, TLS: l.TLS, Stages: map[string]int{}}
		for at, n := range l.Stages {
			one.Stages[at.String()] = n
		}
		list = append(list, one)
	}
	return list
}

// healthTime bounds the health checks of `plugin list`, which run side by side.
const healthTime = 3 * time.Second

// plugins lists the plugin processes of the present generation.
func (d *daemon) plugins(ctx context.Context) []console.Plugin {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	chain := d.acquire()
	defer chain.Release()
	var list []*console.Plugin
	var asked sync.WaitGroup
	for _, h := range chain.Handlers() {
		p, ok := h.(*plugin.Plugin)
		if !ok {
			continue
		}
		s := p.Status()
		row := &console.Plugin{
			Name: s.Name, Path: s.Path, Version: s.Version, State: string(s.State), PID: s.PID, Restarts: s.Restarts,
			Calls: s.InFlight, MaxCalls: s.Most, Error: s.LastError,
		}
		for _, at := range s.Stages {
			row.Stages = append(row.Stages, at.String())
		}
		if s.State == plugin.Running {
			asked.Go(func() { row.Health = health(ctx, p) })
		}
		list = append(list, row)
	}
	asked.Wait()
	rows := make([]console.Plugin, len(list))
	for i, row := range list {
		rows[i] = *row
	}
	return rows
}

// health is what a plugin says of itself, on one line.
func health(ctx context.Context, p *plugin.Plugin) string {
	if err := p.Health(ctx); err != nil {
		return strings.TrimPrefix(err.Error(), "plugin: health: ")
	}
	return "ok"
}

// inject takes mail from the inject command; it relays, as mail made on this
// host does.
func (d *daemon) inject(ctx context.Context, drop queue.Drop, body io.Reader) message.Reply {
	chain := d.acquire()
	defer chain.Release()
	return d.intake.Inject(ctx, chain, d.begin(drop), body)
}

// begin begins the transaction of mail that was handed over on this host.
func (d *daemon) begin(drop queue.Drop) *hooks.Transaction {
	protocol := cmp.Or(drop.Via, "local")
	if drop.Double {
		protocol = intake.DoubleBounce
	}
	tx := intake.NewLocal(protocol, drop.Sender, drop.Recipients)
	tx.Session.Client = drop.Client
	if drop.Trace != "" {
		tx.Session.Account = account(drop.Trace)
		tx.Received = fmt.Sprintf("%s by %s with %s id %s", drop.Trace, d.config.Load().Server.Hostname, protocol, tx.ID)
	}
	if drop.EightBit {
		tx.Params = append(tx.Params, hooks.Param{Key: "BODY", Value: "8BITMIME"})
	}
	wide := func(a message.Address) bool { return !a.IsASCII() }
	if wide(drop.Sender) || slices.ContainsFunc(drop.Recipients, wide) {
		tx.Params = append(tx.Params, hooks.Param{Key: "SMTPUTF8"})
	}
	return tx
}

// account is the number in a trace such as "(qmail 12 invoked by uid 1000)", "" where there
// is none.
func account(trace string) string {
	var pid, uid uint
	if _, err := fmt.Sscanf(trace, "(qmail %d invoked by uid %d)", &pid, &uid); err != nil {
		return ""
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// destinations names where a recipient of a queued message goes, as `queue
// summary` groups them and the scheduler tells them apart: the next hop, or the domain
// where that is mx.
func destinations(c *config.Config) func(m *queue.Message, recipient int) string {
	routes := sendRoutes(c)
	return func(m *queue.Message, recipient int) string {
		r := &m.Recipients[recipient]
		hop := r.Route
		if hop == "" {
			route, ok := routes.Find(m.Sender, r.Address, func() (netip.Addr, []string) { return factsOf(m) })
			if !ok {
				return r.Address.Domain
			}
			hop = route.NextHop.String()
		}
		if hop == send.SchemeMX {
			return r.Address.Domain
		}
		return hop
	}
}

// named is destinations of a configuration.
type named struct {
	config      *config.Config
	destination func(m *queue.Message, recipient int) string
}

// destination is destinations of the present configuration.
func (d *daemon) destination(m *queue.Message, recipient int) string {
	c, n := d.config.Load(), d.named.Load()
	if n == nil || n.config != c {
		n = &named{c, destinations(c)}
		d.named.Store(n)
	}
	return n.destination(m, recipient)
}
