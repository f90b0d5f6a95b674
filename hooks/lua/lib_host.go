package lua

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// maxPause is the longest time that one call of pause waits.
const maxPause = time.Minute

func (st *state) openHost(g *lua.LTable) {
	g.RawSetString("host", st.library(map[string]lua.LGFunction{"load": st.hostLoad}))
}

// hostLoad is host.load(): how many processes want to run, as a mean of the last
// minute, and how many processors there are for them.
func (st *state) hostLoad(L *lua.LState) int {
	ask := st.script.options.Library.Load
	if ask == nil {
		ask = loadAverage
	}
	load, err := ask()
	if err != nil {
		return fail(L, "temporary", err.Error())
	}
	L.Push(lua.LNumber(load))
	L.Push(lua.LNumber(runtime.NumCPU()))
	return 2
}

// loadAverage is the kernel's.
func loadAverage() (load float64, err error) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(b), &load)
	return load, err
}

// pause is pause(wait): the client waits.
func (st *state) pause(L *lua.LState) int {
	seconds, err := spanOf(L.Get(1))
	if err != nil {
		L.ArgError(1, err.Error())
	}
	wait := min(toDuration(seconds), maxPause)
	hold := st.script.options.Library.Pause
	if hold == nil {
		hold = holdOn
	}
	if wait > 0 {
		st.wait(L, func(ctx context.Context) { hold(ctx, wait) })
	}
	return 0
}

func holdOn(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
