// Package top is the live view of a running daemon on a terminal, and the same
// as plain text and JSON, for `postern top`.
//
//   - Model (model.go) takes in console.Top answers and knows what came between two
//     of them; keys (keys.go) change what is shown of it.
//   - A pane is a table (panes.go, table.go). Draw (view.go) puts head, panes and foot
//     into a Frame (text.go) of fixed size: cells, so that nothing wraps, wide
//     characters take two of them, and no control character gets through.
//   - Show (here) is the loop: it asks, draws, and hears keys. The terminal itself is
//     in screen.go, with tcell; Print (print.go) is for everything that is none.
package top

import (
	"context"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/console"
)

// LookTime bounds one look at a daemon that takes connections and does not answer.
const LookTime = 5 * time.Second

// Look asks the daemon. One that is down is an error, and is asked again.
type Look func(ctx context.Context) (console.Top, error)

// Terminal is what a Model is shown on.
type Terminal interface {
	// Size is the present one.
	Size() (w, h int)
	// Draw shows a frame.
	Draw(f *Frame)
	// Keys gives keys, and "" where the size may have changed. It is closed when the
	// terminal is gone.
	Keys() <-chan string
}

// result is what a look found.
type result struct {
	top console.Top
	err error
}

// Show shows the daemon on the terminal until a key says that it is enough, the
// terminal is gone, ctx ends, or count looks were shown (0: any number).
func Show(ctx context.Context, t Terminal, m *Model, look Look, count int) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	results := make(chan result, 1)
	ask := func() {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, LookTime)
			defer cancel()
			top, err := look(ctx)
			results <- result{top, err}
		})
	}
	draw := func() {
		w, h := t.Size()
		t.Draw(m.Draw(w, h))
	}
	waiting := true // for an answer
	ask()
	next := time.NewTimer(m.Interval())
	defer next.Stop()
	m.Tick(time.Now())
	draw()
	for shown := 0; count == 0 || shown < count; {
		select {
		case <-ctx.Done():
			return
		case r := <-results:
			waiting = false
			if r.err != nil {
				m.Lose(r.err, time.Now())
			} else {
				m.Take(r.top, time.Now())
			}
			shown++
		case key, there := <-t.Keys():
			before := m.Interval()
			if !there || m.Key(key) {
				return
			}
			if m.Interval() != before {
				next.Reset(m.Interval())
			}
		case <-next.C:
			next.Reset(m.Interval())
			m.Tick(time.Now())
			if !waiting && !m.Paused() {
				waiting = true
				ask()
			}
		}
		draw()
	}
}
