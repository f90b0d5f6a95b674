package plugin_test

import (
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	gproto "google.golang.org/protobuf/proto"

	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
	"github.com/postern-mta/postern/hooks/proto"
)

// counts keeps what plugins measured.
type counts struct {
	mu   sync.Mutex
	seen map[string]float64
}

func (c *counts) add(kind, policy, name string, labels map[string]string, n float64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]float64{}
	}
	c.seen[fmt.Sprintln(kind, policy, name, labels)] += n
	return nil
}

func (c *counts) Count(policy, name string, labels map[string]string, n float64) error {
	return c.add("counter", policy, name, labels, n)
}

func (c *counts) Observe(policy, name string, labels map[string]string, value float64) error {
	return c.add("histogram", policy, name, labels, value)
}

func (c *counts) get(key string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[key]
}

// The store of the server is that of scripts: what one writes another reads.
func TestStoreOfTheServer(t *testing.T) {
	for _, user := range []string{"", "nobody"} {
		if user != "" && os.Geteuid() != 0 {
			continue
		}
		ctx, s := t.Context(), store.Memory(time.Now)
		said, err := store.Encode(map[string]any{"k": "v"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, store.Key("lua", "said"), said, 0); err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "host-test-") // another account gets at it
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		p := load(t, "probe", plugin.Options{Store: s, User: user, TempDir: dir})
		d, err := ask(t, p, hooks.Mail, mail("store"))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]any{
			"said": []any{map[string]any{"k": "v"}, true}, "sum": 5.0, "took": []any{true, false, true}, "swapped": []any{true, false}, "misuse": true,
		} {
			if got := noteOf(d, name); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %#v, want %#v", name, got, want)
			}
		}
		b, ok, err := s.Get(ctx, store.Key("probe", "list"))
		if v, _ := store.Decode(b); err != nil || !ok || !reflect.DeepEqual(v, []any{"a", 1.0, true}) {
			t.Errorf("list: %s %v %v", b, ok, err)
		}
		if n, err := s.Incr(ctx, store.Key("probe", "n"), 1, 0); err != nil || n != 6 {
			t.Errorf("counter: %d, %v", n, err)
		}
		if _, ok, _ := s.Get(ctx, store.Key("lua", "said")); ok {
			t.Error("not deleted")
		}
	}
}

func TestMetricsOfPlugins(t *testing.T) {
	var c counts
	var log logged
	p := load(t, "probe", plugin.Options{Name: "site", Metrics: &c, Log: log.logger()})
	if _, err := ask(t, p, hooks.Mail, mail("measure")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the counter", func() bool { return c.get("counter site seen map[how:well]\n") == 2 })
	eventually(t, "the histogram", func() bool { return c.get("histogram site length map[]\n") == 3.5 })
	eventually(t, "the wrong name in the log", func() bool { return strings.Contains(log.String(), "no name") })
}

// Whatever a plugin sends to the server's socket, it is told what is wrong.
func TestHostRefuses(t *testing.T) {
	h, ctx := plugin.NewHost("p", store.Memory(time.Now), &counts{}), t.Context()
	key := &proto.StoreKey{Parts: []string{"a"}}
	deep := proto.NewValue("x")
	for range 40 {
		deep = &proto.Value{Kind: &proto.Value_List{List: &proto.List{Values: []*proto.Value{deep}}}}
	}
	call := map[string]func() error{
		"no key":    func() error { _, err := h.Get(ctx, nil); return err },
		"empty key": func() error { _, err := h.Get(ctx, &proto.StoreKey{Parts: []string{""}}); return err },
		"null":      func() error { _, err := h.Put(ctx, &proto.PutRequest{Key: key}); return err },
		"negative time": func() error {
			_, err := h.Put(ctx, &proto.PutRequest{Key: key, Value: proto.NewValue(1), TtlMs: -1})
			return err
		},
		"endless time": func() error { _, err := h.Incr(ctx, &proto.IncrRequest{Key: key, TtlMs: math.MaxInt64}); return err },
		"no bucket":    func() error { _, err := h.Take(ctx, &proto.TakeRequest{Key: key, Tokens: 1}); return err },
		"deep value":   func() error { _, err := h.Put(ctx, &proto.PutRequest{Key: key, Value: deep}); return err },
		"large value": func() error {
			_, err := h.Put(ctx, &proto.PutRequest{Key: key, Value: proto.NewValue(strings.Repeat("x", 2<<20))})
			return err
		},
		"many": func() error {
			_, err := h.Measure(ctx, &proto.Measures{List: make([]*proto.Measure, 1001)})
			return err
		},
	}
	for name, x := range map[string]*proto.Measure{
		"no name": nil, "falls": {Name: "a", Value: -1}, "infinite": {Name: "a", Value: math.Inf(1)}, "policy": {Name: "a", Labels: map[string]string{"policy": "x"}},
		"labels": {Name: "a", Labels: map[string]string{"a": "", "b": "", "c": "", "d": "", "e": "", "f": ""}}, "newline": {Name: "a\nb 1"},
	} {
		call[name] = func() error { _, err := h.Measure(ctx, &proto.Measures{List: []*proto.Measure{x}}); return err }
	}
	for name, f := range call {
		if err := f(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	none := plugin.NewHost("p", nil, nil)
	if _, err := none.Get(ctx, key); status.Code(err) != codes.Unavailable {
		t.Errorf("without a store: %v", err)
	}
	if _, err := none.Measure(ctx, &proto.Measures{List: []*proto.Measure{{Name: "a", Value: 1}}}); err != nil {
		t.Errorf("without metrics: %v", err)
	}
}

// Whatever the bytes of a call are, it is answered, or refused as the protocol says.
func FuzzHost(f *testing.F) {
	for _, x := range []gproto.Message{
		&proto.PutRequest{Key: &proto.StoreKey{Parts: []string{"a", "b\x00"}}, Value: proto.NewValue([]any{"a", 1.5, nil}), TtlMs: 5},
		&proto.SwapRequest{Key: &proto.StoreKey{Parts: []string{"a"}}, Old: proto.NewValue("x"), New: proto.NewValue(7)},
		&proto.TakeRequest{Key: &proto.StoreKey{Parts: []string{"a"}}, Tokens: 1, Capacity: 2, PerMs: 1000},
		&proto.Measures{List: []*proto.Measure{{Name: "a", Labels: map[string]string{"b": "c"}, Value: 1}}},
	} {
		b, err := gproto.Marshal(x)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ctx := plugin.NewHost("p", store.Memory(time.Now), &counts{}), t.Context()
		var put proto.PutRequest
		var swap proto.SwapRequest
		var take proto.TakeRequest
		var incr proto.IncrRequest
		var measures proto.Measures
		errs := map[string]error{}
		if gproto.Unmarshal(b, &put) == nil {
			if _, errs["put"] = h.Put(ctx, &put); errs["put"] == nil && put.TtlMs == 0 {
				x, err := h.Get(ctx, put.Key)
				if err != nil || !x.Found {
					t.Errorf("put, and not there: %v, %v", x, err)
				}
			}
		}
		if gproto.Unmarshal(b, &swap) == nil {
			_, errs["swap"] = h.Swap(ctx, &swap)
		}
		if gproto.Unmarshal(b, &take) == nil {
			_, errs["take"] = h.Take(ctx, &take)
		}
		if gproto.Unmarshal(b, &incr) == nil {
			_, errs["incr"] = h.Incr(ctx, &incr)
		}
		if gproto.Unmarshal(b, &measures) == nil {
			_, errs["measure"] = h.Measure(ctx, &measures)
		}
		for name, err := range errs {
			if err != nil && status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
