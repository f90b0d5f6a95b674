// Package plugin makes a hooks.Handler of a process: a program that speaks the
// plugin protocol (package hooks/proto), one process for each [[policy]] entry.
//
//   - Load (this file) starts it, learns what it is, checks the entry's settings
//     against what it declared, and hands them over. Check does so much and ends
//     it again.
//   - Plugin.Handle (call.go) makes an event of the transaction (event.go,
//     spool.go), asks, and reads the decision (decision.go). A call that fails is
//     an error for the Chain to treat as on_failure says.
//   - The process may call back: for the memory that policies share, and metrics
//     (host.go).
//   - The supervisor (supervisor.go) starts a process anew when it ended, when it
//     answers nonsense, or when it hangs, with growing pauses.
//   - A process (process.go, launch.go) has a process group and a bounded
//     environment of its own, ends with this process, and has its output in the
//     log (output.go).
//
// What is guaranteed: a plugin's end, hang or nonsense fails the calls that were
// under way and nothing else; Close leaves no process and no file behind, in
// bounded time, whatever the plugin does.
package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// Options of Load and Check. The zero value works.
type Options struct {
	Name     string         // of the [[policy]] entry; "": that of the file
	Settings map[string]any // as the TOML decoder gives them
	Dir      string         // relative paths in settings stand under it
	Env      []string       // "NAME=value", beside PATH, LANG and TMPDIR
	User     string         // account to run under; only root can choose; "": ours
	SHA256   string         // checksum that the file must have, in hex; "": any

	InFlight     int              // calls at once; more wait; 0: 64
	StartTimeout time.Duration    // from the start to the last answer before the first call; 0: 10s
	TempDir      string           // where a private folder for sockets and messages is made; "": the system's
	Log          *slog.Logger     // nil: none
	Now          func() time.Time // what events tell the plugin; nil: time.Now

	// What the plugin may reach of the server, by service Host (host.go).
	Store   store.Store // nil: a memory of its own, which ends with it
	Metrics Metrics     // nil: nobody counts
}

// Problem is what is wrong with the entry's settings.
type Problem struct {
	Key  string // the setting, such as "words" or "words[2]"; "" for the policy as a whole
	Text string // what is wrong; what to write
}

// Plugin is a policy in a process that is kept running. It is safe for
// concurrent use and must be closed.
type Plugin struct {
	o        Options
	path     string
	dir      string // private folder
	owner    *owner // whom the process runs as; nil: us
	log      *slog.Logger
	out      *output
	bare     bool // Check without settings
	about    *proto.Description
	desc     Description
	settings map[string]*proto.Value

	host    *grpc.Server   // what the process may call
	serving sync.WaitGroup // of host

	slots    chan struct{} // one for each call under way
	suspect  chan suspicion
	late     atomic.Int32 // calls in a row that ran out of time
	nonsense atomic.Int32 // calls in a row whose answer was none

	ctx    context.Context // over when the process is to end for good
	cancel context.CancelFunc
	done   chan struct{} // closed when the supervisor has returned
	closed sync.Once

	mu       sync.Mutex
	closing  chan struct{} // closed when no new calls are taken
	now      *running      // nil while none runs
	changed  chan struct{} // closed, and replaced, at each change of now and next
	next     time.Time     // when the next start is due, while none runs
	restarts int
	started  time.Time
	lastErr  error
}

const (
	defaultInFlight     = 64
	defaultStartTimeout = 10 * time.Second
)

// Load starts the program at path and keeps it running until Close. Problems are
// what is wrong with o.Settings; with them, as with an error, no Plugin is
// returned and no process is left. Load returns within o.StartTimeout and a few
// seconds.
func Load(path string, o Options) (*Plugin, []Problem, error) {
	p, err := prepare(path, o)
	if err != nil {
		return nil, nil, err
	}
	first, problems, err := p.start()
	if err != nil || len(problems) > 0 {
		p.abandon(first, err)
		return nil, problems, err
	}
	p.set(first)
	go p.supervise(first)
	return p, nil, nil
}

// Check starts the program at path, asks what it is and, where o.Settings is not
// nil, whether it takes the settings, and ends it. The Description is set as far
// as it was learned.
func Check(path string, o Options) (Description, []Problem, error) {
	p, err := prepare(path, o)
	if err != nil {
		return Description{}, nil, err
	}
	p.bare = o.Settings == nil
	r, problems, err := p.start()
	p.abandon(r, err)
	return p.desc, problems, err
}

// prepare makes a Plugin without a process.
func prepare(path string, o Options) (*Plugin, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("plugin: %s: %w", path, err)
	}
	if o.Name == "" {
		o.Name = filepath.Base(abs)
	}
	if o.InFlight <= 0 {
		o.InFlight = defaultInFlight
	}
	if o.StartTimeout <= 0 {
		o.StartTimeout = defaultStartTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Store == nil {
		o.Store = store.Memory(time.Now)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Plugin{
		o: o, path: abs, log: o.Log.With("plugin", o.Name),
		slots: make(chan struct{}, o.InFlight), suspect: make(chan suspicion, 1), done: make(chan struct{}),
		closing: make(chan struct{}), changed: make(chan struct{}),
	}
	p.out = &output{log: p.log}
	if p.owner, err = findOwner(o.User); err != nil {
		return nil, fmt.Errorf("plugin: %s: %w", abs, err)
	}
	if p.dir, err = makeFolder(o.TempDir); err != nil {
		return nil, fmt.Errorf("plugin: %s: private folder: %w", abs, err)
	}
	if err := p.owner.give(p.dir); err != nil {
		os.Remove(p.dir)
		return nil, fmt.Errorf("plugin: %s: private folder: %w", abs, err)
	}
	if err := p.openHost(); err != nil {
		os.RemoveAll(p.dir)
		return nil, fmt.Errorf("plugin: %s: socket for what it may call: %w", abs, err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// maxFolder is the longest path under which a socket's name fits into the 107
// bytes that the kernel allows.
const maxFolder = 107 - len("/plugin-dir0123456789/plugin0123456789")

func makeFolder(under string) (string, error) {
	if under == "" {
		under = os.TempDir()
	}
	under, err := filepath.Abs(under)
	if err != nil {
		return "", err
	}
	if n := len(under) + len("/postern-plugin-0123456789"); n > maxFolder {
		return "", fmt.Errorf("%s: a socket's path would be over 107 bytes long; choose a folder that is %d shorter", under, n-maxFolder)
	}
	return os.MkdirTemp(under, "postern-plugin-")
}

// abandon gives back what a Plugin that never was has got. A process that failed
// is not asked to end.
func (p *Plugin) abandon(r *running, err error) {
	p.cancel()
	if r != nil && err != nil {
		r.stop(0)
	} else if r != nil {
		r.stop(stopGrace)
	}
	p.closeHost()
	os.RemoveAll(p.dir)
}

// Name is that of the [[policy]] entry.
func (p *Plugin) Name() string { return p.o.Name }

// Stages lists the stages that the plugin asked for.
func (p *Plugin) Stages() []hooks.Stage { return p.desc.Stages }

// Description is what the plugin said about itself at the first start.
func (p *Plugin) Description() Description { return p.desc }

const (
	drainTime = 3 * time.Second // for calls under way at Close
	stopGrace = 3 * time.Second // for a process to end when it is asked to
)

// Close takes no new calls, gives those under way three seconds, asks the process
// to end, ends it and its process group where it does not, and removes the
// private folder. It is idempotent and returns within about six seconds.
func (p *Plugin) Close() error {
	p.closed.Do(func() {
		p.mu.Lock()
		close(p.closing)
		p.mu.Unlock()
		p.drain()
		p.cancel()
	})
	<-p.done
	p.closeHost()
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("plugin: %s: private folder: %w", p.path, err)
	}
	return nil
}

// drain waits until no call is under way: until it holds every slot.
func (p *Plugin) drain() {
	limit := time.NewTimer(drainTime)
	defer limit.Stop()
	for range cap(p.slots) {
		select {
		case p.slots <- struct{}{}:
		case <-limit.C:
			return
		}
	}
}

// State says how a plugin is.
type State string

// The states.
const (
	Running State = "running"
	Down    State = "down" // between two starts
	Closed  State = "closed"
)

// Status is what `postern plugin list` shows.
type Status struct {
	Name      string    // of the [[policy]] entry
	Plugin    string    // what the plugin calls itself
	Version   string    // of the plugin
	Path      string    // absolute
	PID       int       // 0 while none runs
	State     State     //
	Started   time.Time // of the present process
	Restarts  int       // since Load
	InFlight  int       // calls under way
	Most      int       // calls that there may be at once
	Stages    []hooks.Stage
	LastError string // why the last process ended or did not start; "" where none did
}

// Status tells how the plugin is now, without asking it.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Name: p.o.Name, Plugin: p.desc.Name, Version: p.desc.Version, Path: p.path, Stages: p.desc.Stages,
		State: Down, Restarts: p.restarts, InFlight: len(p.slots), Most: cap(p.slots),
	}
	if p.lastErr != nil {
		s.LastError = p.lastErr.Error()
	}
	select {
	case <-p.closing:
		s.State, s.InFlight = Closed, 0
	default:
		if p.now != nil {
			s.State, s.PID, s.Started = Running, p.now.process.pid, p.started
		}
	}
	return s
}

// Health asks the plugin how it is; an error is what it said, or why it could
// not be asked.
func (p *Plugin) Health(ctx context.Context) error {
	r, err := p.current(ctx)
	if err != nil {
		return err
	}
	return r.health(ctx)
}
