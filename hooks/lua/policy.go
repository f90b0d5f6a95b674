package lua

import (
	"context"
	"fmt"

	"github.com/postern-mta/postern/hooks"
)

// Policy is a script with its settings: a hooks.Handler and an io.Closer. It is
// safe for concurrent use.
type Policy struct {
	script *Script
	values map[string]any
	pool   *Pool
	stages []hooks.Stage
	asked  [stageCount]bool
	pooled
}

// Name is the script's name without its folder and ".lua".
func (p *Policy) Name() string { return p.script.short }

// Stages lists the stages that the script has functions for.
func (p *Policy) Stages() []hooks.Stage { return p.stages }

// Handle runs the script's function for the stage. The error of a script names
// its file and line.
func (p *Policy) Handle(ctx context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	if int(at) >= stageCount || !p.asked[at] {
		return hooks.Decision{}, nil
	}
	st, err := p.pool.acquire(ctx, p)
	if err != nil {
		return hooks.Decision{}, fmt.Errorf("%s: %w", p.script.name, err)
	}
	returned := false
	defer func() {
		if !returned { // a panic: what the state is like is not known
			st.hangUp()
			p.pool.release(p, nil)
		}
	}()
	d, err := st.run(ctx, at, tx)
	returned = true
	st.hangUp()
	if err != nil {
		st.L.Close()
		p.pool.release(p, nil)
		return hooks.Decision{}, err
	}
	p.pool.release(p, st)
	return d, nil
}

// Close ends the policy; calls under way end as they are.
func (p *Policy) Close() error {
	p.pool.leave(p)
	return nil
}
