package lua

import (
	"context"
	"log/slog"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// maxLogged bounds the log lines of one call.
const maxLogged = 100

func (st *state) openLog(g *lua.LTable) {
	functions := map[string]lua.LGFunction{}
	for name, level := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		functions[name] = func(L *lua.LState) int {
			st.log(level, st.line(L, 1))
			return 0
		}
	}
	g.RawSetString("log", st.library(functions))
}

// print is log.info of its arguments.
func (st *state) print(L *lua.LState) int {
	var parts []string
	for i := 1; i <= L.GetTop(); i++ {
		parts = append(parts, L.ToStringMeta(L.Get(i)).String())
	}
	st.log(slog.LevelInfo, oneLine(strings.Join(parts, " ")))
	return 0
}

// log writes a line with the policy's name and the id of what is at hand.
func (st *state) log(level slog.Level, text string) {
	c := &st.call
	if c.logged++; c.logged > maxLogged {
		return
	}
	if c.logged == maxLogged {
		text = "further lines of this call are left out"
	}
	if st.loading && level == slog.LevelWarn {
		st.warned = append(st.warned, text) // a finding about the settings, not a line of the log
		return
	}
	args := []any{"policy", st.script.short}
	if c.event != nil {
		args = append(args, "stage", c.row.Name, "id", c.event.Subject())
	}
	st.script.options.Library.Log.Log(context.Background(), level, text, args...)
}
