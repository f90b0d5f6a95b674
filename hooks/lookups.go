package hooks

import (
	"context"
	"sync"
)

// Lookup is a question that a handler asked the outside during a call, and what
// came back: kept with the story, so that a replay can answer it again.
type Lookup struct {
	Kind     string // "dns.a", "dns.mx", "host", "http", "tcp"…
	Question string
	Answer   string // in the form of its kind; empty where there was none
	Error    string // "temporary: …", "none: …", "bad: …", or empty
}

// maxLookups bounds what is kept of one call.
const maxLookups = 64

// asked gathers the look-ups of one call. It is a context: the call's own.
type asked struct {
	patience
	found sync.Mutex // guards list
	list  []Lookup
}

type askedKey struct{}

// Value implements context.Context.
func (a *asked) Value(key any) any {
	if key == (askedKey{}) {
		return a
	}
	return a.patience.Value(key)
}

// Looked tells of a look-up of the call that ctx belongs to. Beyond 64 of one call
// they are left out; outside of a call nothing happens.
func Looked(ctx context.Context, l Lookup) {
	a, ok := ctx.Value(askedKey{}).(*asked)
	if !ok {
		return
	}
	a.found.Lock()
	defer a.found.Unlock()
	if len(a.list) < maxLookups {
		a.list = append(a.list, l)
	}
}

func (a *asked) lookups() []Lookup {
	a.found.Lock()
	defer a.found.Unlock()
	return a.list
}
