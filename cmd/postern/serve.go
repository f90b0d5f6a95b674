package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/record"
)

func serveCommand(g *global) *cobra.Command {
	watch := false
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Runs the gateway until it is told to stop. On a terminal it prints one line for
each decision; elsewhere it logs as [log] says.

Signals: SIGTERM and SIGINT stop cleanly (no new mail, sessions and attempts end
or are put back), SIGHUP reloads the configuration and the policies, SIGALRM
tries everything in the queue now.

With --watch it reloads whenever the configuration, a script or a plugin is saved,
and says what came of it; where there is a mistake, everything stays as it was.

Exit status: 0 after a clean stop, 1 where it could not start or run.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return serve(g, watch) },
	}
	c.Flags().BoolVar(&watch, "watch", false, "reload when a file is saved")
	return c
}

// heapGrowth is how many percent the heap grows between two runs of the garbage
// collector, where GOGC says nothing: what is alive is little against what passes, and
// collecting half as often is worth more than the memory.
const heapGrowth = 200

func serve(g *global, watch bool) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	c, problems, err := g.load()
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return fmt.Errorf("not started, the configuration has errors:\n%w", err)
	}
	tty := isTerminal(g.std.out)
	log, lines := newLog(c, g.std.err, tty)
	for _, p := range problems {
		log.Warn("configuration", "finding", p.String())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	d, err := openDaemon(g, c, log, lines)
	if err != nil {
		return fmt.Errorf("not started: %w", err)
	}
	if tty {
		d.record.Live(g.std.out, os.Getenv("NO_COLOR") == "")
	}
	var watching sync.WaitGroup
	if watch {
		w, err := newWatcher(d, tty)
		if err != nil {
			return errors.Join(err, d.close())
		}
		watching.Go(func() { w.run(ctx) })
	}
	d.announce(tty)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGALRM)
	defer signal.Stop(signals)
	go d.obey(ctx, signals)
	err = d.run(ctx)
	stop()
	watching.Wait()
	log.Info("stopped")
	return err
}

// obey acts on signals until ctx is done.
func (d *daemon) obey(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == syscall.SIGALRM {
				d.log.Info("retrying everything")
				d.sender.RetryAll()
				d.remote.Forget()
				d.callouts.Forget()
				d.takeDrops(ctx)
				continue
			}
			if err := d.reload(); err != nil {
				d.log.Error("reload failed, everything stays as it was", "error", err)
			}
		}
	}
}

// announce says that the daemon is up, and where.
func (d *daemon) announce(tty bool) {
	c := d.config.Load()
	attrs := []any{"version", version, "pid", os.Getpid(), "config", name(c), "hostname", c.Server.Hostname}
	for _, l := range d.listeners {
		attrs = append(attrs, "listen", l.name+"="+l.Addr().String())
	}
	if addr := d.consoleAddr(); addr != "" {
		attrs = append(attrs, "console", addr)
	}
	d.log.Info("started", attrs...)
	if !tty {
		return
	}
	var at []string
	for _, l := range d.listeners {
		at = append(at, l.Addr().String())
	}
	fmt.Fprintf(d.g.std.out, "Postern %s takes mail on %s (configuration: %s).\n", version, strings.Join(at, ", "), name(c))
	if addr := d.consoleAddr(); addr != "" {
		fmt.Fprintf(d.g.std.out, "State: http://%s/   Stop: Ctrl-C\n", addr)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// newLog makes the logger of [log]. On a terminal the decisions have lines of
// their own, so that only warnings are logged beside them.
// Where it is qmail-send's, mail has lines of its own, too.
func newLog(c *config.Config, w io.Writer, tty bool) (*slog.Logger, *record.QmailLog) {
	level := c.Log.Level
	format := c.Log.Format
	if format == "auto" {
		format = "text"
		if tty {
			level = max(level, slog.LevelWarn)
		}
	}
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case "qmail":
		lines := record.NewQmailLog(w)
		return slog.New(lines.Handler(level)), lines
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// reload reads configuration, scripts, rules and certificates again. With an
// error among them nothing changes. What needs a restart is named in the log.
func (d *daemon) reload() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	c, problems, err := d.g.load()
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return err
	}
	chain, found := d.policies.chain(c, d.chainOptions(), d.intake.RecipientRule())
	problems = append(problems, found...)
	for i := range c.Listen {
		_, found := loadRules(&c.Listen[i])
		problems = append(problems, found...)
		_, found = loadSenders(&c.Listen[i])
		problems = append(problems, found...)
	}
	signing, found := readSigning(c)
	problems = append(problems, found...)
	users, pipes, found := loadLocal(c)
	problems = append(problems, found...)
	if err := problems.Err(); err != nil {
		if chain != nil {
			chain.Retire()
		}
		return problems.Sorted().Errors()
	}
	if err := d.certs.Load(c.TLS.Certificate, c.TLS.Key); err != nil {
		chain.Retire()
		return err
	}
	if err := errors.Join(d.certs.SetClientCA(c.TLS.ClientCA), d.auth.SetFiles(passwordFiles(c))); err != nil {
		chain.Retire()
		return err
	}
	if err := d.setListeners(c); err != nil {
		chain.Retire()
		return err
	}
	remoteSet, err := remoteSettings(c)
	if err != nil {
		chain.Retire()
		return err
	}
	remoteSet.Again = signing.again
	d.intake.Reconfigure(signing.settings(c, d.dns, d.policies.maps))
	d.gate.SetLimits(gateLimits(c))
	d.smtpd.SetLimits(smtpdLimits(c))
	d.qmqpd.SetLimits(qmqpLimits(c))
	d.sender.Reconfigure(signing.sending(c))
	d.remote.Reconfigure(remoteSet)
	d.users.Reconfigure(users)
	d.pipes.Reconfigure(pipes)
	d.callouts.Reconfigure(calloutSettings(c))
	chain.Start(context.Background())
	old := d.chain.Swap(chain)
	old.Retire()
	for _, key := range needRestart(d.booted, c) {
		d.log.Warn("needs a restart to take effect", "key", key)
	}
	d.config.Store(c)
	for _, p := range problems {
		d.log.Warn("configuration", "finding", p.String())
	}
	d.findings.Store(&problems)
	d.log.Info("reloaded", "generation", chain.Generation, "config", name(c))
	return nil
}

// needRestart names the keys that changed and can't be changed while running.
func needRestart(old, now *config.Config) []string {
	var keys []string
	add := func(key string, changed bool) {
		if changed {
			keys = append(keys, key)
		}
	}
	add("server.hostname", old.Server.Hostname != now.Server.Hostname)
	add("server.data_dir", old.Server.DataDir != now.Server.DataDir)
	add("server.user", old.Server.User != now.Server.User)
	add("server.control", old.Server.Control != now.Server.Control)
	add("local.users (from none to some)", len(old.Local.Users) == 0 && len(now.Local.Users) > 0)
	add("console.address", old.Console.Address != now.Console.Address)
	add("digest.address", old.Digest.Address != now.Digest.Address)
	add("digest.key_file", old.Digest.Address != "" && old.Digest.KeyFile != now.Digest.KeyFile)
	add("log", old.Log != now.Log)
	add("recorder", old.Recorder != now.Recorder)
	add("store", old.Store != now.Store)
	add("dns", fmt.Sprint(old.DNS) != fmt.Sprint(now.DNS))
	same := len(old.Listen) == len(now.Listen)
	for i := 0; same && i < len(old.Listen); i++ {
		same = old.Listen[i].Name == now.Listen[i].Name && old.Listen[i].Address == now.Listen[i].Address
	}
	add("listen", !same)
	return keys
}

var errNotRoot = errors.New("only root can change its account; start as root or leave user empty")
