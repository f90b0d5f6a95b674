package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	wire "github.com/postern-mta/postern/hooks/proto"
)

// Pauses between the starts of a plugin that does not stay up.
const (
	firstPause    = 100 * time.Millisecond
	longestPause  = 30 * time.Second
	stableAfter   = time.Minute
	healthTimeout = 2 * time.Second
)

// pauses counts the starts in a row that did not last.
type pauses struct{ failed int }

// next is the pause before the next start of a process that was up so long: none
// for the first, then 100 ms, doubled each time up to 30 s, and from the start
// again after a stable minute.
func (p *pauses) next(up time.Duration) time.Duration {
	if up >= stableAfter {
		p.failed = 0
	}
	p.failed++
	if p.failed == 1 {
		return 0
	}
	return min(firstPause<<min(p.failed-2, 20), longestPause)
}

// supervise keeps a process running until the plugin is closed.
func (p *Plugin) supervise(r *running) {
	defer close(p.done)
	var pauses pauses
	for {
		started := time.Now()
		why := p.watch(r)
		if p.ctx.Err() != nil {
			p.set(nil)
			r.stop(stopGrace)
			return
		}
		pause := pauses.next(time.Since(started))
		p.setDown(pause, why)
		r.stop(0)
		p.log.Error("plugin ended", "path", p.path, "error", why, "restart_in", pause)
		for r = nil; r == nil; {
			if !p.sleep(pause) {
				return
			}
			var err error
			if r, err = p.restart(); err != nil {
				if p.ctx.Err() != nil {
					return
				}
				pause = pauses.next(0)
				p.setDown(pause, err)
				p.log.Error("plugin does not start", "path", p.path, "error", err, "restart_in", pause)
			}
		}
		p.set(r)
		p.log.Info("plugin started anew", "path", p.path, "pid", r.process.pid)
	}
}

// restart is start, where problems with settings are an error.
func (p *Plugin) restart() (*running, error) {
	r, problems, err := p.start()
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("plugin: %s: it does not take its settings any more: %s: %s", p.path, problems[0].Key, problems[0].Text)
	}
	if err != nil && r != nil {
		r.stop(0)
		return nil, err
	}
	return r, err
}

// sleep waits for d; false: the plugin is closed.
func (p *Plugin) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return p.ctx.Err() == nil
	case <-p.ctx.Done():
		return false
	}
}

// watch returns when the process ended or is to end, and says why.
func (p *Plugin) watch(r *running) error {
	for {
		select {
		case <-r.process.gone:
			return r.process.obituary()
		case <-p.ctx.Done():
			return p.ctx.Err()
		case what := <-p.suspect:
			if what != hanging {
				return errors.New("plugin: " + string(what))
			}
			ctx, cancel := context.WithTimeout(p.ctx, healthTimeout)
			_, err := r.policy.Health(ctx, &wire.HealthRequest{})
			cancel()
			if err != nil {
				return fmt.Errorf("plugin: %s, and it does not answer a health check within %s", what, healthTimeout)
			}
			p.late.Store(0)
		}
	}
}

// count adds one failure; at the limit it tells the supervisor.
func (p *Plugin) count(n *atomic.Int32, limit int32, what suspicion) {
	if n.Add(1) < limit {
		return
	}
	n.Store(0)
	select {
	case p.suspect <- what:
	default: // it is told already
	}
}

// set makes r the process that calls go to.
func (p *Plugin) set(r *running) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r != nil {
		if !p.started.IsZero() {
			p.restarts++
		}
		p.started = time.Now()
		p.late.Store(0)
		p.nonsense.Store(0)
		select {
		case <-p.suspect: // of the process before
		default:
		}
	}
	p.now, p.next = r, time.Time{}
	close(p.changed)
	p.changed = make(chan struct{})
}

// setDown says that no process runs, why, and when the next one starts.
func (p *Plugin) setDown(pause time.Duration, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.next, p.lastErr = nil, time.Now().Add(pause), why
	close(p.changed)
	p.changed = make(chan struct{})
}

// start launches a process and brings it to where it takes calls: described, the
// same as before where there was one before, and configured. The process that it
// returns is to be stopped, also with an error or problems.
func (p *Plugin) start() (*running, []Problem, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.o.StartTimeout)
	defer cancel()
	r, err := p.launch(ctx)
	if err != nil {
		return nil, nil, err
	}
	fail := func(doing string, err error) (*running, []Problem, error) {
		if ended := r.process.endedSoon(err); ended != nil {
			err = ended
		} else if ctx.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("no answer within %s of its start", p.o.StartTimeout)
		}
		return r, nil, fmt.Errorf("plugin: %s: %s: %w", p.path, doing, err)
	}
	about, err := r.policy.Describe(ctx, &wire.DescribeRequest{Revision: wire.Revision})
	if err != nil {
		return fail("asking what it is", err)
	}
	desc, err := describe(about)
	if err != nil {
		return fail("what it is", err)
	}
	if p.about == nil {
		p.about, p.desc = about, desc
	} else if !sameShape(p.about, about) {
		return fail("what it is", errors.New("its stages, settings or ways changed since it was loaded; reload the configuration"))
	}
	problems, err := p.configure(ctx, r)
	if err != nil {
		return fail("its settings", err)
	}
	return r, problems, nil
}

// configure checks the settings, the first time, and hands them over.
func (p *Plugin) configure(ctx context.Context, r *running) ([]Problem, error) {
	if p.bare {
		return nil, nil
	}
	if p.settings == nil {
		var found []*wire.Problem
		if p.settings, found = p.about.CheckSettings(p.o.Settings, p.o.Dir); len(found) > 0 {
			return readProblems(found), nil
		}
	}
	reply, err := r.policy.Configure(ctx, &wire.ConfigureRequest{Policy: p.o.Name, Settings: p.settings})
	if err != nil {
		return nil, err
	}
	return readProblems(reply.Problems), nil
}

func readProblems(list []*wire.Problem) []Problem {
	var out []Problem
	for _, x := range list[:min(len(list), maxDeclared)] {
		out = append(out, Problem{Key: oneLine(x.GetKey()), Text: oneLine(x.GetText())})
	}
	return out
}

// sameShape tells whether a chain that was built for a may run with b.
func sameShape(a, b *wire.Description) bool {
	a, b = proto.CloneOf(a), proto.CloneOf(b)
	a.Version, a.About, b.Version, b.About = "", "", "", ""
	return proto.Equal(a, b)
}
