package lua

import (
	"context"
	"fmt"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/archive"
	"github.com/postern-mta/postern/core/message"
)

// Bounds of the options of part:archive.
const (
	maxArchiveDepth   = 20
	maxArchiveEntries = 10_000
	maxArchiveSize    = 1 << 30
)

// archiveLimits reads the options of part:archive.
func archiveLimits(L *lua.LState, n int) archive.Limits {
	var l archive.Limits
	t, ok := L.Get(n).(*lua.LTable)
	if !ok {
		if L.Get(n) != lua.LNil {
			L.ArgError(n, "options are a table such as { depth = 3 }")
		}
		return l
	}
	bound := func(name string, most int64) int64 {
		v := t.RawGetString(name)
		if v == lua.LNil {
			return 0
		}
		x, ok := v.(lua.LNumber)
		if !ok || x < 1 || float64(x) > float64(most) {
			L.ArgError(n, fmt.Sprintf("%s is a number from 1 to %d", name, most))
		}
		return int64(x)
	}
	l.Depth, l.Entries = int(bound("depth", maxArchiveDepth)), int(bound("entries", maxArchiveEntries))
	l.Size, l.Ratio = bound("size", maxArchiveSize), int(bound("ratio", 1<<20))
	t.ForEach(func(k, _ lua.LValue) {
		switch k.String() {
		case "depth", "entries", "size", "ratio":
		default:
			L.ArgError(n, "there is no option "+quote(k.String())+"; options are depth, entries, size and ratio")
		}
	})
	return l
}

// partArchive is :archive(options): what is in a part that is an archive, found
// without unpacking it.
func (st *state) partArchive(L *lua.LState) int {
	p, limits := st.checkPart(L), archiveLimits(L, 2)
	var found *archive.Listing
	var err error
	st.wait(L, func(ctx context.Context) { found, err = archive.List(ctx, p.Reader(), p.Name(), limits) })
	st.pay(L, p.of)
	switch {
	case err != nil:
		return fail(L, "temporary", err.Error())
	case found == nil:
		return fail(L, "none", "this is no archive")
	}
	entries := make([]any, len(found.Entries))
	for i, e := range found.Entries {
		st.b.make(L, 2*len(e.Name)+160)
		one := map[string]any{"name": e.Name, "size": float64(e.Size), "depth": float64(e.Depth), "encrypted": e.Encrypted}
		if ext := message.Extension(e.Name); ext != "" {
			one["extension"] = ext
		}
		if e.Format != "" {
			one["format"] = e.Format
		}
		entries[i] = one
	}
	unread := make([]any, len(found.Unread))
	for i, format := range found.Unread {
		unread[i] = format
	}
	t := map[string]any{"format": found.Format, "entries": entries, "encrypted": found.Encrypted, "unread": unread}
	if found.Truncated != "" {
		t["truncated"] = found.Truncated
	}
	if found.Fault != "" {
		t["fault"] = found.Fault
	}
	L.Push(fromPlain(t, st.readonly))
	return 1
}
