package lua

import (
	"context"
	"errors"
	"fmt"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Bounds of one call, beside its Lua time.
const (
	slice     = 1024                  // units of work between two looks at the clock
	sliceTime = 25 * time.Millisecond // what one slice counts for at most, so that a busy machine fails no policy
	maxUnits  = 40_000_000            // ends a call where the clock stands still, as in tests
	maxResult = 4 << 20               // bytes of one string made by a library call
	maxMade   = 64 << 20              // bytes made by library calls in one call
)

// budget bounds one call. It is the context of its Lua state, which asks Done
// before each instruction: that is where instructions are counted and the clock
// is looked at. Once a limit is reached, every further instruction fails, so
// that pcall can't go on. It belongs to one goroutine.
type budget struct {
	context.Context // of the call, with its deadline

	limit   time.Duration
	left    int
	units   int
	made    int
	spent   time.Duration
	last    time.Time // zero: the clock was not looked at yet
	over    error
	stopped chan struct{} // always closed
}

var errLuaTime = errors.New("the time for computing in one call is used up")

func newBudget(limit time.Duration) *budget {
	b := &budget{limit: limit, stopped: make(chan struct{})}
	close(b.stopped)
	b.start(context.Background())
	return b
}

// start begins a call.
func (b *budget) start(ctx context.Context) {
	b.Context = ctx
	b.left, b.units, b.made, b.spent = slice, 0, 0, 0
	b.last, b.over = time.Time{}, nil
}

// Done is asked by the Lua state before each instruction.
func (b *budget) Done() <-chan struct{} {
	if b.left--; b.left > 0 {
		return nil
	}
	if b.look(); b.over != nil {
		return b.stopped
	}
	return nil
}

// Err is the text that the Lua state raises when Done is closed.
func (b *budget) Err() error { return b.over }

// look is taken at the end of a slice.
func (b *budget) look() {
	if b.over != nil {
		b.left = 0
		return
	}
	used := slice - b.left
	b.units += used
	b.left = slice
	now := time.Now()
	if !b.last.IsZero() {
		b.spent += min(now.Sub(b.last), max(1, time.Duration(used/slice))*sliceTime)
	}
	b.last = now
	switch {
	case b.spent > b.limit || b.units > maxUnits:
		b.fail(fmt.Errorf("%w (%s)", errLuaTime, formatSeconds(b.limit.Seconds())))
	case b.Context.Err() != nil:
		b.fail(b.Context.Err())
	}
}

// fail makes the call end at its next step.
func (b *budget) fail(err error) {
	if b.over == nil {
		b.over = err
	}
	b.left = 0
}

// spend counts n units of work done by a library function, and ends the call
// where that was too much.
func (b *budget) spend(L *lua.LState, n int) {
	if b.left -= n; b.left > 0 {
		return
	}
	if b.look(); b.over != nil {
		L.RaiseError("%s", b.over.Error())
	}
}

// make counts n bytes about to be made by a library function.
func (b *budget) make(L *lua.LState, n int) {
	if n > maxResult {
		b.exceed(L, "a text of more than %d MiB", maxResult>>20)
	}
	if b.made += n; b.made > maxMade {
		b.exceed(L, "more than %d MiB of text in one call", maxMade>>20)
	}
	b.spend(L, n>>6)
}

// exceed ends the call.
func (b *budget) exceed(L *lua.LState, format string, args ...any) {
	b.fail(fmt.Errorf("limit: "+format, args...))
	L.RaiseError("%s", b.over.Error())
}

// pause stops the clock, for the time of a look-up.
func (b *budget) pause() {
	if !b.last.IsZero() {
		b.spent += min(time.Since(b.last), sliceTime)
	}
}

// resume starts it again.
func (b *budget) resume() {
	if !b.last.IsZero() {
		b.last = time.Now()
	}
}
