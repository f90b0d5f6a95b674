package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.nanos.Store(time.Date(2026, 7, 1, 12, 0, 0, 500, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func open(t testing.TB, dir string, o Options) *Embedded {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// each runs a test against every kind of Store.
func each(t *testing.T, test func(t *testing.T, s Store, c *clock)) {
	t.Run("disk", func(t *testing.T) {
		c := newClock()
		test(t, open(t, t.TempDir(), Options{Now: c.now}), c)
	})
	t.Run("memory", func(t *testing.T) {
		c := newClock()
		test(t, Memory(c.now), c)
	})
	t.Run("prefixed", func(t *testing.T) {
		c := newClock()
		test(t, Prefixed(Prefixed(Memory(c.now), "a"), "b"), c)
	})
	t.Run("redis", func(t *testing.T) {
		c, o := newClock(), redisServer(t)
		o.Now = c.now
		test(t, openRedis(t, o), c)
	})
}

// holds fails the test unless key has the value want, "-" standing for none.
func holds(t *testing.T, s Store, key, want string) {
	t.Helper()
	got, ok, err := s.Get(t.Context(), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		got = []byte("-")
	}
	if string(got) != want {
		t.Errorf("%s holds %q, want %q", key, got, want)
	}
}

func put(t *testing.T, s Store, key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.Put(t.Context(), []byte(key), []byte(value), ttl); err != nil {
		t.Fatal(err)
	}
}

func TestPutGetDelete(t *testing.T) {
	each(t, func(t *testing.T, s Store, c *clock) {
		holds(t, s, "a", "-")
		put(t, s, "a", "one", 0)
		put(t, s, "ab", "", time.Minute)
		holds(t, s, "a", "one")
		holds(t, s, "ab", "")
		step := time.Nanosecond
		if _, ok := s.(*Remote); ok {
			step = time.Microsecond // as exact as Redis is
		}
		c.advance(time.Minute - step)
		holds(t, s, "ab", "")
		c.advance(step)
		holds(t, s, "ab", "-")
		c.advance(100 * 365 * 24 * time.Hour)
		holds(t, s, "a", "one")
		put(t, s, "a", "two", time.Second)
		put(t, s, "a", "three", time.Hour) // the time to live begins anew
		c.advance(time.Minute)
		holds(t, s, "a", "three")
		for range 2 {
			if err := s.Delete(t.Context(), []byte("a")); err != nil {
				t.Fatal(err)
			}
			holds(t, s, "a", "-")
		}
		put(t, s, "long", "x", math.MaxInt64)
		c.advance(100 * 365 * 24 * time.Hour)
		holds(t, s, "long", "x")
	})
}

func TestSlicesAreCopied(t *testing.T) {
	each(t, func(t *testing.T, s Store, _ *clock) {
		key, value := []byte("key"), []byte("value")
		if err := s.Put(t.Context(), key, value, 0); err != nil {
			t.Fatal(err)
		}
		copy(key, "xxx")
		copy(value, "xxxxx")
		got, _, _ := s.Get(t.Context(), []byte("key"))
		copy(got, "yyyyy")
		holds(t, s, "key", "value")
	})
}

func TestIncr(t *testing.T) {
	each(t, func(t *testing.T, s Store, c *clock) {
		incr := func(by int64, ttl time.Duration, want int64) {
			t.Helper()
			if got, err := s.Incr(t.Context(), []byte("n"), by, ttl); err != nil || got != want {
				t.Errorf("Incr %d: %d, %v; want %d", by, got, err, want)
			}
		}
		incr(3, time.Minute, 3)
		c.advance(59 * time.Second)
		incr(-5, time.Hour, -2) // does not live longer for it
		holds(t, s, "n", "-2")
		c.advance(time.Second)
		holds(t, s, "n", "-")
		incr(0, 0, 0)
		incr(7, time.Second, 7)
		c.advance(time.Hour)
		incr(0, 0, 7)
		put(t, s, "n", "9223372036854775807", 0)
		if _, err := s.Incr(t.Context(), []byte("n"), 1, 0); !errors.Is(err, ErrOverflow) {
			t.Errorf("overflow: %v", err)
		}
		put(t, s, "n", "-9223372036854775808", 0)
		if _, err := s.Incr(t.Context(), []byte("n"), -1, 0); !errors.Is(err, ErrOverflow) {
			t.Errorf("underflow: %v", err)
		}
		put(t, s, "n", "many", 0)
		if _, err := s.Incr(t.Context(), []byte("n"), 1, 0); !errors.Is(err, ErrNotCounter) {
			t.Errorf("no number: %v", err)
		}
	})
}

func TestSwap(t *testing.T) {
	type step struct {
		old, value []byte
		swapped    bool
		then       string
	}
	b := func(s string) []byte { return []byte(s) }
	each(t, func(t *testing.T, s Store, c *clock) {
		for i, st := range []step{
			{b("x"), b("y"), false, "-"},
			{b(""), b("y"), false, "-"}, // an empty value is not an absent one
			{nil, nil, true, "-"},
			{nil, b("1"), true, "1"},
			{nil, b("2"), false, "1"},
			{b("0"), b("2"), false, "1"},
			{b("1"), b(""), true, ""},
			{b(""), b("3"), true, "3"},
			{b("3"), nil, true, "-"},
			{nil, b("4"), true, "4"},
		} {
			swapped, err := s.Swap(t.Context(), b("k"), st.old, st.value, time.Minute)
			if err != nil || swapped != st.swapped {
				t.Errorf("step %d: %v, %v", i, swapped, err)
			}
			holds(t, s, "k", st.then)
		}
		c.advance(time.Minute)
		if swapped, err := s.Swap(t.Context(), b("k"), b("4"), b("5"), 0); swapped || err != nil {
			t.Errorf("swapped what has expired: %v", err)
		}
		if swapped, err := s.Swap(t.Context(), b("k"), nil, b("5"), 0); !swapped || err != nil {
			t.Errorf("an expired value is in the way: %v", err)
		}
	})
}

func TestTake(t *testing.T) {
	each(t, func(t *testing.T, s Store, c *clock) {
		take := func(n float64, allowed bool, retry time.Duration) {
			t.Helper()
			got, wait, err := s.Take(t.Context(), []byte("k"), n, 10, time.Minute)
			if err != nil || got != allowed || wait != retry {
				t.Errorf("Take %v: %v, %v, %v; want %v, %v", n, got, wait, err, allowed, retry)
			}
		}
		put(t, s, "k", "a value beside the bucket", 0)
		take(10, true, 0)
		take(1, false, 6*time.Second)
		take(0, true, 0)
		take(10, false, time.Minute)
		c.advance(6 * time.Second)
		take(1, true, 0)
		take(0.5, false, 3*time.Second)
		c.advance(3 * time.Second)
		take(0.5, true, 0)
		c.advance(-time.Hour) // a clock that goes back neither fills nor drains
		take(1, false, 6*time.Second)
		c.advance(time.Hour + 30*time.Second)
		take(5, true, 0)
		take(1, false, 6*time.Second)
		c.advance(24 * time.Hour)
		take(10, true, 0)
		take(10, false, time.Minute)
		holds(t, s, "k", "a value beside the bucket")
		if err := s.Delete(t.Context(), []byte("k")); err != nil {
			t.Fatal(err)
		}
		take(10, true, 0)
		holds(t, s, "k", "-")
	})
}

// TestTakeOverTime holds a busy bucket to its rate, over many moves of its expiry.
func TestTakeOverTime(t *testing.T) {
	each(t, func(t *testing.T, s Store, c *clock) {
		taken := 0
		for range 1000 {
			allowed, retry, err := s.Take(t.Context(), []byte("k"), 1, 3, 7*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if allowed {
				taken++
				continue
			}
			c.advance(retry)
			if allowed, _, _ := s.Take(t.Context(), []byte("k"), 1, 3, 7*time.Second); !allowed {
				t.Fatal("refused after waiting as long as was said")
			}
			taken++
		}
		elapsed := c.now().Sub(newClock().now()).Seconds()
		if most := 3 + elapsed*3/7; math.Abs(float64(taken)-most) > 1.01 {
			t.Errorf("%d taken in %v s, the rate allows %.2f", taken, elapsed, most)
		}
	})
}

func TestConcurrentChangesAddUp(t *testing.T) {
	each(t, func(t *testing.T, s Store, _ *clock) {
		const workers, rounds, keys = 8, 200, 5
		var all sync.WaitGroup
		var won, taken atomic.Int64
		for range workers {
			all.Go(func() {
				for i := range rounds {
					key := []byte{'n', byte(i % keys)}
					if _, err := s.Incr(t.Context(), key, 1, time.Hour); err != nil {
						t.Error(err)
					}
					if ok, err := s.Swap(t.Context(), fmt.Appendf(nil, "s%d", i), nil, []byte("mine"), 0); err != nil {
						t.Error(err)
					} else if ok {
						won.Add(1)
					}
					if ok, _, err := s.Take(t.Context(), []byte("t"), 1, 100, time.Hour); err != nil {
						t.Error(err)
					} else if ok {
						taken.Add(1)
					}
				}
			})
		}
		all.Wait()
		for i := range keys {
			holds(t, s, string([]byte{'n', byte(i)}), fmt.Sprint(workers*rounds/keys))
		}
		if won.Load() != rounds || taken.Load() != 100 {
			t.Errorf("%d swaps won of %d, %d tokens taken of 100", won.Load(), rounds, taken.Load())
		}
	})
}

func TestBadArguments(t *testing.T) {
	each(t, func(t *testing.T, s Store, _ *clock) {
		ctx := t.Context()
		k := []byte("k")
		take := func(n, capacity float64, per time.Duration) error {
			_, _, err := s.Take(ctx, k, n, capacity, per)
			return err
		}
		_, _, getErr := s.Get(ctx, nil)
		_, incrErr := s.Incr(ctx, k, 1, -1)
		for name, tt := range map[string]struct{ got, want error }{
			"no key":        {getErr, ErrKey},
			"long key":      {s.Put(ctx, bytes.Repeat(k, MaxKey+1), nil, 0), ErrKey},
			"long value":    {s.Put(ctx, k, make([]byte, MaxValue+1), 0), ErrValue},
			"largest value": {s.Put(ctx, k, make([]byte, MaxValue), 0), nil},
			"negative ttl":  {s.Put(ctx, k, nil, -1), ErrTTL},
			"incr ttl":      {incrErr, ErrTTL},
			"too many":      {take(2, 1, time.Second), ErrBucket},
			"negative":      {take(-1, 1, time.Second), ErrBucket},
			"nan":           {take(math.NaN(), 1, time.Second), ErrBucket},
			"nan capacity":  {take(1, math.NaN(), time.Second), ErrBucket},
			"infinite":      {take(1, math.Inf(1), time.Second), ErrBucket},
			"no capacity":   {take(0, 0, time.Second), ErrBucket},
			"no period":     {take(1, 1, 0), ErrBucket},
		} {
			if !errors.Is(tt.got, tt.want) {
				t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
			}
		}
		over, cancel := context.WithCancel(ctx)
		cancel()
		if _, _, err := s.Get(over, k); !errors.Is(err, context.Canceled) {
			t.Errorf("Get after the end: %v", err)
		}
		if err := s.Delete(over, k); !errors.Is(err, context.Canceled) {
			t.Errorf("Delete after the end: %v", err)
		}
	})
}

func TestPrefixesKeepApart(t *testing.T) {
	s := Memory(nil)
	one, two := Prefixed(s, "a"), Prefixed(s, "ab")
	put(t, one, "bc", "one", 0)
	holds(t, two, "c", "-")
	put(t, two, "c", "two", 0)
	holds(t, one, "bc", "one")
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	holds(t, two, "c", "two")
	if err := one.Put(t.Context(), bytes.Repeat([]byte("k"), MaxKey), nil, 0); !errors.Is(err, ErrKey) {
		t.Errorf("prefix and key together: %v", err)
	}
}

func TestMemoryForgetsWhatExpired(t *testing.T) {
	c := newClock()
	s := Memory(c.now)
	for i := range 3 * purgeEvery {
		put(t, s, fmt.Sprint(i), "x", time.Second)
		c.advance(time.Second)
	}
	if n := len(s.table.(*mapTable).records); n > purgeEvery {
		t.Errorf("%d records for one that lives", n)
	}
}

func TestClosed(t *testing.T) {
	for name, s := range map[string]*Embedded{"memory": Memory(nil), "disk": open(t, t.TempDir(), Options{})} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, getErr := s.Get(t.Context(), []byte("k"))
		for _, err := range []error{getErr, s.Put(t.Context(), []byte("k"), nil, 0), s.Delete(t.Context(), []byte("k")), s.Close()} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestReopen(t *testing.T) {
	c := newClock()
	dir := filepath.Join(t.TempDir(), "data", "store")
	s := open(t, dir, Options{Now: c.now})
	put(t, s, "stays", "here", 0)
	put(t, s, "goes", "away", time.Hour)
	if _, _, err := s.Take(t.Context(), []byte("rate"), 3, 3, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reader := open(t, dir, Options{Now: c.now, ReadOnly: true})
	holds(t, reader, "goes", "away")
	if err := reader.Put(t.Context(), []byte("x"), nil, 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("write to a read-only store: %v", err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Hour)
	s = open(t, dir, Options{Now: c.now})
	holds(t, s, "stays", "here")
	holds(t, s, "goes", "-")
	if allowed, _, err := s.Take(t.Context(), []byte("rate"), 3, 3, time.Hour); !allowed || err != nil {
		t.Errorf("the bucket should be full after an hour: %v, %v", allowed, err)
	}
}
