package lookup

import (
	"container/list"
	"sync"
	"time"
)

// Bounds of what is remembered of one map.
const (
	maxRemembered = 32 << 20 // bytes of keys and values, about
	maxOne        = 64 << 10 // of one of them
)

// answer is what a service said of a key.
type answer struct {
	key   string
	value any
	found bool
	until time.Time // until then it counts
	size  int
}

// cache remembers answers; the one not used for the longest time goes first. It is
// safe for concurrent use.
type cache struct {
	most int // answers

	mu    sync.Mutex
	order *list.List // of *answer, the last used in front
	by    map[string]*list.Element
	size  int
}

func newCache(most int) *cache {
	return &cache{most: most, order: list.New(), by: map[string]*list.Element{}}
}

// recall is the answer for a key, whether it still counts or not.
func (c *cache) recall(key string) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[key]
	if e == nil {
		return answer{}, false
	}
	c.order.MoveToFront(e)
	return *e.Value.(*answer), true
}

// keep remembers an answer, and forgets others where it must.
func (c *cache) keep(a answer) {
	a.size = 200 + len(a.key) + sizeOf(a.value)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.by[a.key]; e != nil {
		c.drop(e)
	}
	if a.size > maxOne || c.most == 0 {
		return
	}
	c.by[a.key] = c.order.PushFront(&a)
	c.size += a.size
	for c.order.Len() > c.most || c.size > maxRemembered {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	a := c.order.Remove(e).(*answer)
	delete(c.by, a.key)
	c.size -= a.size
}

// sizeOf is about the memory that a value takes.
func sizeOf(v any) int {
	const each = 32
	switch v := v.(type) {
	case string:
		return each + len(v)
	case []any:
		n := each
		for _, one := range v {
			n += sizeOf(one)
		}
		return n
	case map[string]any:
		n := each
		for k, one := range v {
			n += each + len(k) + sizeOf(one)
		}
		return n
	}
	return each
}
