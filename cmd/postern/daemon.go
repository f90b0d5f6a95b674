package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/auth/feedback"
	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/local"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmqp"
	"github.com/postern-mta/postern/core/quarantine"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/core/remote"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/core/smtpd"
	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
)

// grace is how long sessions and attempts may go on after a stop was asked for.
const grace = 5 * time.Second

// daemon is the parts list of `postern serve`: everything is built here, from
// the configuration, and handed to what needs it.
type daemon struct {
	g       *global
	log     *slog.Logger
	started time.Time

	config     atomic.Pointer[config.Config]
	booted     *config.Config                  // that the daemon was built of
	findings   atomic.Pointer[config.Problems] // warnings that the last reload had
	chain      atomic.Pointer[hooks.Chain]
	named      atomic.Pointer[named]
	listeners  []*listener
	reloading  sync.Mutex
	dropping   sync.Mutex
	placing    sync.Mutex // of acts upon where a queued message stands
	generation int

	qmailLog *record.QmailLog // nil but for [log] format = "qmail"
	queue    *queue.Queue
	record   *record.Recorder
	memory   memory
	store    store.Store // what policies see of it
	dns      *dns.Client
	policies *policyLoader
	intake   *intake.Intake
	sender   *send.Sender
	remote   *remote.Client
	users    *local.Users
	pipes    *local.Pipes
	callouts *remote.Callouts
	gate     *gate.Gate
	smtpd    *smtpd.Server
	qmqpd    *qmqp.Server
	certs    *gate.Certificates
	auth     *auth.Authenticator
	console  *console.Server
	web      net.Listener    // nil: no console
	pages    net.Listener    // nil: recipients release nothing
	links    *quarantine.Key // of pages
	letting  sync.Mutex      // held while a recipient's mail is released
	control  net.Listener
	// injection takes mail of programs that deliveries run; nil: there are no users.
	injection net.Listener
	stopping  atomic.Bool

	closers []func() error // in the order of opening
}

// listener is one [[listen]]: its socket, and what the gate is to know about it.
type listener struct {
	net.Listener
	name     string
	protocol string
	facts    atomic.Pointer[gate.Listener]
}

// openDaemon builds the parts. On an error everything opened is closed again.
func openDaemon(g *global, c *config.Config, log *slog.Logger, lines *record.QmailLog) (*daemon, error) {
	d := &daemon{g: g, log: log, qmailLog: lines, started: time.Now(), booted: c}
	d.config.Store(c)
	for _, step := range []func(*config.Config) error{d.bind, d.drop, d.bindUnix, d.openData, d.openPolicies, d.build, d.openControl} {
		if err := step(c); err != nil {
			_ = d.close() // the first error is the one to tell
			return nil, err
		}
	}
	return d, nil
}

// bind opens every socket, so that all that are in use are told at once.
func (d *daemon) bind(c *config.Config) error {
	var all error
	for i := range c.Listen {
		l := &c.Listen[i]
		if unixSocket(l) && c.Server.User != "" {
			continue // made by the account that owns it, after the drop
		}
		ln, err := gate.Listen(l.Address, l.SocketMode)
		if err != nil {
			all = errors.Join(all, errors.New(l.Problem("address", bindError(err)).String()))
			continue
		}
		d.listen(l, ln)
	}
	return errors.Join(all, d.openConsole(c))
}

// bindUnix opens the unix sockets that bind left for the account dropped to.
func (d *daemon) bindUnix(c *config.Config) error {
	var all error
	for i := range c.Listen {
		l := &c.Listen[i]
		if !unixSocket(l) || c.Server.User == "" {
			continue
		}
		ln, err := gate.Listen(l.Address, l.SocketMode)
		if err != nil {
			all = errors.Join(all, errors.New(l.Problem("address", bindError(err)).String()))
			continue
		}
		d.listen(l, ln)
	}
	return all
}

func unixSocket(l *config.Listen) bool { return strings.HasPrefix(l.Address, "unix:") }

func (d *daemon) listen(l *config.Listen, ln net.Listener) {
	d.listeners = append(d.listeners, &listener{Listener: ln, name: l.Name, protocol: l.Protocol})
	d.closers = append(d.closers, func() error { return ignoreClosed(ln.Close()) })
}

func bindError(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Sprintf("can't listen on %v: %v; stop what uses it or choose another address", e.Addr, e.Err)
	}
	return err.Error()
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// openData opens what is on disk.
func (d *daemon) openData(c *config.Config) (err error) {
	dir := c.Server.DataDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if err := d.measured(); err != nil {
		return err
	}
	d.queue, err = queue.Open(filepath.Join(dir, "queue"), pebble.Open, queue.Options{Log: d.log, NoSync: !durable})
	if err != nil {
		return err
	}
	d.closers = append(d.closers, d.queue.Close)
	d.record, err = record.Open(filepath.Join(dir, "record"), record.Options{Qmail: d.qmailLog, Off: !c.Recorder.Enabled, Keep: c.Recorder.Keep, MaxSize: c.Recorder.MaxSize, Bodies: c.Recorder.Bodies, Log: d.log})
	if err != nil {
		return err
	}
	d.closers = append(d.closers, d.record.Close)
	d.measure()
	if d.store, d.memory, err = openStore(c, d.log); err != nil {
		return err
	}
	d.closers = append(d.closers, d.store.Close)
	d.measureFailures()
	d.dns, err = dns.New(dnsOptions(c))
	if err != nil {
		return err
	}
	d.closers = append(d.closers, d.dns.Close)
	return nil
}

// measured keeps a build that does not wait for the disk, which is for
// measuring what the waiting costs, from mail that anybody cares for.
func (d *daemon) measured() error {
	if durable {
		return nil
	}
	for _, l := range d.listeners {
		if at, ok := l.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
			return fmt.Errorf("this build (tag nosync) loses mail when power goes: it is for measuring, and listens on loopback alone, not on %s", l.Addr())
		}
	}
	d.log.Warn("this build (tag nosync) loses mail when power goes: it is for measuring")
	return nil
}

// measure adds the queue's numbers to the metrics.
func (d *daemon) measure() {
	for name, f := range map[string]func(queue.Totals) int{
		"messages":    func(t queue.Totals) int { return t.Messages },
		"recipients":  func(t queue.Totals) int { return t.Recipients },
		"held":        func(t queue.Totals) int { return t.Held },
		"quarantined": func(t queue.Totals) int { return t.Quarantined },
		"damaged":     func(t queue.Totals) int { return t.Damaged },
	} {
		d.record.Gauge("postern_queue_"+name, "What the queue holds now: "+name+".", func() float64 { return float64(f(d.queue.Totals())) })
	}
}

// measureFailures adds what failed on disk to the metrics.
func (d *daemon) measureFailures() {
	for name, one := range map[string]struct {
		what     string
		failures func() int
		failed   func() bool
	}{
		"queue":    {"the queue's store", d.queue.Failures, func() bool { return d.queue.Failed() != nil }},
		"recorder": {"the flight recorder's store", d.record.Failures, func() bool { _, ok := d.record.Trouble(); return ok }},
		"store":    {"the memory of policies", d.memory.failures, func() bool { _, failed := d.memory.failing(); return failed }},
	} {
		d.record.Gauge("postern_"+name+"_failures", "How often "+one.what+" failed since the start.", func() float64 { return float64(one.failures()) })
		d.record.Gauge("postern_"+name+"_failed", "1 while "+one.what+" has failed and takes nothing.", func() float64 {
			if one.failed() {
				return 1
			}
			return 0
		})
	}
}

// measureCallouts adds what next hops were asked about recipients to the metrics.
func (d *daemon) measureCallouts() {
	for name, f := range map[string]func(remote.CalloutCounts) int{
		"entries":    func(n remote.CalloutCounts) int { return n.Entries },
		"asked":      func(n remote.CalloutCounts) int { return n.Asked },
		"remembered": func(n remote.CalloutCounts) int { return n.Remembered },
		"late":       func(n remote.CalloutCounts) int { return n.Late },
	} {
		d.record.Gauge("postern_callout_"+name, "Recipient callouts: "+name+".", func() float64 { return float64(f(d.callouts.Counts())) })
	}
}

// openPolicies makes the loader of policies; what it loaded is closed at the end.
func (d *daemon) openPolicies(c *config.Config) error {
	d.policies = newPolicyLoader(d.g, d.log, d.dns, d.store, func(domain string) bool { return d.intake.Ours(domain) })
	d.policies.library.Metrics = d.record
	d.policies.ledger = feedback.NewLedger(d.store, nil)
	d.closers = append(d.closers, func() error {
		if chain := d.chain.Load(); chain != nil {
			chain.Retire()
		}
		return nil
	})
	return nil
}

// build makes the mail path.
func (d *daemon) build(c *config.Config) (err error) {
	d.certs, err = gate.NewCertificates(c.Server.Hostname, c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		return err
	}
	if err := d.certs.SetClientCA(c.TLS.ClientCA); err != nil {
		return err
	}
	if d.auth, err = auth.New(auth.Options{Files: passwordFiles(c), Log: d.log}); err != nil {
		return err
	}
	signing, problems := readSigning(c)
	if err := problems.Err(); err != nil {
		return err
	}
	d.warn(problems)
	remoteSet, err := remoteSettings(c)
	if err != nil {
		return err
	}
	remoteSet.Again = signing.again
	d.remote = remote.New(remote.Options{Resolver: d.dns, Own: d.own, Log: d.log}, remoteSet)
	d.closers = append(d.closers, d.remote.Close)
	d.callouts = remote.NewCallouts(d.remote, calloutSettings(c))
	d.measureCallouts()
	d.intake = intake.New(intake.Options{
		Queue: d.queue, Record: d.record, Log: d.log, NextHop: d.remote, Verifier: d.callouts,
		Accepted: func(m *queue.Message, body message.Body) { d.sender.Accepted(m, body) },
	}, signing.settings(c, d.dns, nil))
	d.gate = gate.New(gate.Options{Hostname: c.Server.Hostname, Limits: gateLimits(c), Chain: d.acquire, DNS: d.dns, Record: d.record, Log: d.log})
	if err := d.openLocal(c); err != nil {
		return err
	}
	d.sender = send.New(send.Options{
		Queue: d.queue, Record: d.record, Chain: d.acquire, Log: d.log, Grace: grace,
		Deliver: map[string]send.Deliverer{
			send.SchemeSMTP: d.remote, send.SchemeSMTPS: d.remote, send.SchemeLMTP: d.remote, send.SchemeMX: d.remote,
			send.SchemeQMQP: d.qmqpClient(), send.SchemeLocal: d.users, send.SchemePipe: d.pipes, send.SchemeDiscard: local.Discard{},
		},
		Bounce: d.bounce,
	}, signing.sending(c))
	d.smtpd = smtpd.New(smtpd.Options{
		Hostname: c.Server.Hostname, Limits: smtpdLimits(c), Grace: grace, Intake: d.intake, Record: d.record, TLS: d.certs.Config, Auth: d.auth, Log: d.log,
	})
	d.qmqpd = qmqp.New(qmqp.Options{
		Hostname: c.Server.Hostname, Limits: qmqpLimits(c), Grace: grace, Intake: d.intake, Record: d.record, TLS: d.certs.Config, Spool: d.dropDir(), Log: d.log,
	})
	chain, problems := d.policies.chain(c, d.chainOptions(), d.intake.RecipientRule())
	if err := problems.Err(); err != nil {
		return err
	}
	d.warn(problems)
	d.intake.Reconfigure(signing.settings(c, d.dns, d.policies.maps))
	d.chain.Store(chain)
	return d.setListeners(c)
}

// warn logs the findings that a start ignores.
func (d *daemon) warn(problems config.Problems) {
	for _, p := range problems.Warnings() {
		d.log.Warn("configuration", "finding", p.String())
	}
}

func (d *daemon) chainOptions() hooks.Options {
	d.generation++
	return hooks.Options{Generation: d.generation, Observer: d.record, Log: d.log}
}

// setListeners gives each socket what its [[listen]] says now.
func (d *daemon) setListeners(c *config.Config) error {
	facts := make([]*gate.Listener, len(d.listeners))
	for i, l := range d.listeners {
		entry := findListen(c, l.name)
		if entry == nil {
			continue
		}
		rules, problems := loadRules(entry)
		if err := problems.Err(); err != nil {
			return err
		}
		sender, problems := d.senderRule(entry)
		if err := problems.Err(); err != nil {
			return err
		}
		facts[i] = &gate.Listener{
			Name: entry.Name, Protocol: entry.Protocol, Greeting: entry.Greeting, Auth: entry.Auth, Sender: sender,
			StartTLS: entry.TLS == "starttls" || entry.TLS == "required", RequireTLS: entry.TLS == "required", ImplicitTLS: entry.TLS == "implicit",
			RelayFrom: entry.RelayFrom, XclientFrom: entry.XclientFrom, ProxyFrom: entry.ProxyFrom, Rules: rules,
		}
	}
	for i, l := range d.listeners {
		if facts[i] != nil {
			l.facts.Store(facts[i])
		}
	}
	return nil
}

// senderRule is who may send as what at a listener; nil: anybody as anything.
func (d *daemon) senderRule(l *config.Listen) (auth.SenderRule, config.Problems) {
	if l.SenderCheck.User {
		return auth.OwnAddress(d.intake.Ours), nil
	}
	return loadSenders(l)
}

// own tells whether one of our listeners is there, so that mail exchangers that
// lead back to us are found.
func (d *daemon) own(at netip.AddrPort) bool {
	for _, l := range d.listeners {
		ours, ok := l.Addr().(*net.TCPAddr)
		if !ok || ours.Port != int(at.Port()) {
			continue
		}
		if ip := ours.AddrPort().Addr().Unmap(); ip == at.Addr().Unmap() || ip.IsUnspecified() && at.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// acquire is the newest generation, kept open until it is released.
func (d *daemon) acquire() *hooks.Chain {
	for {
		if c := d.chain.Load(); c.Acquire() {
			return c
		}
	}
}

// bounce queues a notice of our own. Policies are not asked about it.
func (d *daemon) bounce(ctx context.Context, n *send.Notice) message.Reply {
	protocol := "bounce"
	if n.Kind == send.Double {
		protocol = intake.DoubleBounce
	}
	tx := intake.NewLocal(protocol, message.Address{}, []message.Address{n.To})
	n.ID = tx.ID
	return d.intake.Inject(ctx, hooks.NewChain(nil, hooks.Options{Observer: d.record}), tx, bytes.NewReader(n.Body))
}

// run serves until ctx is done, then stops cleanly.
func (d *daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	fatal := make(chan error, len(d.listeners)+3)
	part := func(f func() error) {
		parts.Go(func() {
			if err := f(); err != nil {
				fatal <- err
				cancel()
			}
		})
	}
	stopped := context.AfterFunc(ctx, func() { d.stopping.Store(true) })
	defer stopped()
	d.chain.Load().Start(ctx)
	part(func() error { return d.sender.Run(ctx) })
	for _, l := range d.listeners {
		serve := d.smtpd.Serve
		if l.protocol == qmqp.QMQP || l.protocol == qmqp.QMTP {
			serve = d.qmqpd.Serve
		}
		part(func() error { return d.gate.Serve(ctx, l, l.facts.Load, serve) })
	}
	d.serveConsole(ctx, part)
	part(func() error { d.watchCertificates(ctx); return nil })
	parts.Go(func() { d.takeDropsAgain(ctx) })
	parts.Go(func() { d.sweepQuarantine(ctx) })
	parts.Go(func() { d.sendDigests(ctx) })
	parts.Go(func() { d.reporter().Run(ctx) })
	parts.Wait()
	close(fatal)
	var all error
	for err := range fatal {
		all = errors.Join(all, err)
	}
	return errors.Join(all, d.close())
}

// watchCertificates loads certificate files that changed, once a minute.
func (d *daemon) watchCertificates(ctx context.Context) {
	files := func() []string {
		t := d.config.Load().TLS
		return append(append([]string(nil), t.Certificate...), t.Key...)
	}
	seen := gate.Changed(files()...)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := gate.Changed(files()...)
		if now.Equal(seen) {
			continue
		}
		seen = now
		t := d.config.Load().TLS
		if err := d.certs.Load(t.Certificate, t.Key); err != nil {
			d.log.Error("certificate not reloaded, the one before stays", "error", err)
			continue
		}
		d.log.Info("certificate reloaded")
	}
}

// takeDropsAgain takes drops in at the start, and whenever the queue is open again
// after a failure, which refuses them for a time.
func (d *daemon) takeDropsAgain(ctx context.Context) {
	for ctx.Err() == nil {
		changed, failed := d.queue.Watch()
		if failed == nil {
			d.takeDrops(ctx)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// takeDrops brings mail in that was injected while no daemon ran.
func (d *daemon) takeDrops(ctx context.Context) {
	d.dropping.Lock()
	defer d.dropping.Unlock()
	err := queue.TakeDrops(d.dropDir(), d.log, func(drop queue.Drop, body io.Reader) error {
		tx := d.begin(drop)
		if message.ValidID(drop.ID) {
			switch _, err := d.queue.Load(drop.ID); {
			case err == nil:
				return nil // committed before a crash, only its file was left
			case errors.Is(err, queue.ErrFailed):
				return err // it may be there
			}
			tx.Received = strings.Replace(tx.Received, tx.ID, drop.ID, 1)
			tx.ID = drop.ID
		}
		chain := d.acquire()
		defer chain.Release()
		r := d.intake.Inject(ctx, chain, tx, body)
		if r.Temporary() {
			return r
		}
		if r.Negative() && !drop.Sender.IsNull() {
			// Who injected it is gone: a refusal can only be mailed back.
			d.refuseDrop(ctx, drop, r)
		}
		return nil
	})
	if err != nil {
		d.log.Error("drop directory", "error", err)
	}
}

// refuseDrop mails a refusal to the sender of a message that was injected while
// no daemon ran.
func (d *daemon) refuseDrop(ctx context.Context, drop queue.Drop, r message.Reply) {
	m := &queue.Message{ID: drop.ID, Sender: drop.Sender, Arrived: drop.Arrived}
	for _, a := range drop.Recipients {
		m.Recipients = append(m.Recipients, queue.Recipient{Address: a, State: queue.Failed, Last: r})
	}
	n := send.RefusalNotice(d.config.Load().Server.Hostname, m)
	if answer := d.bounce(ctx, n); answer.Negative() {
		d.log.Error("refusal of an injected message not told", "id", drop.ID, "sender", drop.Sender.String(), "refusal", r, "error", answer)
	}
}

func (d *daemon) dropDir() string { return filepath.Join(d.config.Load().Server.DataDir, "drop") }

// close closes what was opened, the last first.
func (d *daemon) close() error {
	var all error
	for i := len(d.closers) - 1; i >= 0; i-- {
		all = errors.Join(all, d.closers[i]())
	}
	d.closers = nil
	return all
}
