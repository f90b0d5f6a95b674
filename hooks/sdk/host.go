package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/postern-mta/postern/hooks/proto"
)

// ErrNoHost is the error of a Host without a server behind it: in a test that gave
// none, and under a server that is older than this package.
var ErrNoHost = errors.New("sdk: there is no store here")

// Host is the server's side of a plugin: the memory that policies share, scripts
// included, and metrics. HostOf finds it. Its methods are safe for concurrent use,
// and may be called after the call of the policy whose context it came from.
//
// A key is one or more texts, which are kept apart. Values are plain: string,
// bool, any number, and slices and maps with string keys of them; they come back
// as string, bool, float64, []any and map[string]any. Of an error it can be told
// by Misuse whether the call was wrong or the store can't do it now.
type Host struct {
	client proto.HostClient

	mu      sync.Mutex
	pending []*proto.Measure
	lost    int
	wake    chan struct{}
}

// Key names an entry of the store.
type Key []string

const (
	maxPending  = 10 * proto.MaxNews // measures that wait for the server
	measureTime = 5 * time.Second
)

type hostKey struct{}

// HostOf is the server that a policy runs under: of the context that a method of
// the policy (Prepare too) was given. It is never nil.
func HostOf(ctx context.Context) *Host {
	if h, ok := ctx.Value(hostKey{}).(*Host); ok {
		return h
	}
	return &Host{}
}

// WithHost puts another server behind the policies that get ctx; package sdktest
// does so.
func WithHost(ctx context.Context, client proto.HostClient) context.Context {
	return context.WithValue(ctx, hostKey{}, &Host{client: client})
}

// dialHost connects, at the first call, to the socket at path; "": nowhere.
func dialHost(path string) (*Host, error) {
	if path == "" {
		return &Host{}, nil
	}
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(proto.MaxEvent), grpc.MaxCallSendMsgSize(proto.MaxEvent)), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, fmt.Errorf("sdk: the server's socket: %w", err)
	}
	return &Host{client: proto.NewHostClient(conn), wake: make(chan struct{}, 1)}, nil
}

// Misuse tells whether an error of a Host says that the call was wrong: a key that
// is too long, a number that is none. Others may be over at the next try.
func Misuse(err error) bool { return status.Code(err) == codes.InvalidArgument }

// Get reads an entry; ok is false where there is none.
func (h *Host) Get(ctx context.Context, key Key) (value any, ok bool, err error) {
	if h.client == nil {
		return nil, false, ErrNoHost
	}
	x, err := h.client.Get(ctx, key.onWire())
	if err != nil || !x.Found {
		return nil, false, err
	}
	value, err = x.Value.Plain()
	return value, err == nil, err
}

// Put sets an entry, and its time to live anew; 0: for ever.
func (h *Host) Put(ctx context.Context, key Key, value any, ttl time.Duration) error {
	if h.client == nil {
		return ErrNoHost
	}
	_, err := h.client.Put(ctx, &proto.PutRequest{Key: key.onWire(), Value: proto.NewValue(value), TtlMs: ttl.Milliseconds()})
	return err
}

// Delete removes an entry, and the bucket of that key.
func (h *Host) Delete(ctx context.Context, key Key) error {
	if h.client == nil {
		return ErrNoHost
	}
	_, err := h.client.Delete(ctx, key.onWire())
	return err
}

// Incr adds by to a whole number, 0 where there is none, and returns the sum. ttl
// counts from the Incr that creates it; 0: for ever.
func (h *Host) Incr(ctx context.Context, key Key, by int64, ttl time.Duration) (int64, error) {
	if h.client == nil {
		return 0, ErrNoHost
	}
	x, err := h.client.Incr(ctx, &proto.IncrRequest{Key: key.onWire(), By: by, TtlMs: ttl.Milliseconds()})
	return x.GetSum(), err
}

// Take takes n tokens from a bucket that holds at most capacity, and is refilled
// from empty to full in per. Where there are fewer, nothing is taken, and retry is
// how long until there are enough.
func (h *Host) Take(ctx context.Context, key Key, n, capacity float64, per time.Duration) (allowed bool, retry time.Duration, err error) {
	if h.client == nil {
		return false, 0, ErrNoHost
	}
	x, err := h.client.Take(ctx, &proto.TakeRequest{Key: key.onWire(), Tokens: n, Capacity: capacity, PerMs: per.Milliseconds()})
	return x.GetAllowed(), time.Duration(x.GetRetryMs()) * time.Millisecond, err
}

// Swap sets an entry to value if it is old now, and tells whether it did. A nil old
// means that there must be none, a nil value removes it.
func (h *Host) Swap(ctx context.Context, key Key, old, value any, ttl time.Duration) (bool, error) {
	if h.client == nil {
		return false, ErrNoHost
	}
	x, err := h.client.Swap(ctx, &proto.SwapRequest{Key: key.onWire(), Old: proto.NewValue(old), New: proto.NewValue(value), TtlMs: ttl.Milliseconds()})
	return x.GetSwapped(), err
}

func (k Key) onWire() *proto.StoreKey {
	x := &proto.StoreKey{Parts: make([]string, len(k))}
	for i, part := range k {
		x.Parts[i] = proto.Text(part)
	}
	return x
}

// Count adds n to the counter postern_script_NAME_total of the server's /metrics
// page, with the label policy and those given. It does not wait; what is wrong
// with a name is logged.
func (h *Host) Count(name string, labels map[string]string, n float64) {
	h.measure(&proto.Measure{Name: proto.Text(name), Labels: copyTexts(labels), Value: n})
}

// Observe adds a value to the histogram postern_script_NAME; see Count.
func (h *Host) Observe(name string, labels map[string]string, value float64) {
	h.measure(&proto.Measure{Name: proto.Text(name), Labels: copyTexts(labels), Value: value, Histogram: true})
}

func copyTexts(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[proto.Text(k)] = proto.Text(v)
	}
	return out
}

func (h *Host) measure(x *proto.Measure) {
	if h.client == nil {
		return
	}
	h.mu.Lock()
	if len(h.pending) < maxPending {
		h.pending = append(h.pending, x)
	} else {
		h.lost++
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default: // it is awake, or nobody reports: Flush does
	}
}

// Flush hands over what was counted and waits for it; the end of a plugin does so.
func (h *Host) Flush(ctx context.Context) error {
	var errs []error
	for {
		h.mu.Lock()
		n := min(len(h.pending), proto.MaxNews)
		list, lost := h.pending[:n:n], h.lost
		h.pending, h.lost = h.pending[n:], 0
		h.mu.Unlock()
		if lost > 0 {
			errs = append(errs, fmt.Errorf("sdk: %d measures were lost: the server does not keep up", lost))
		}
		if n == 0 {
			return errors.Join(errs...)
		}
		if _, err := h.client.Measure(ctx, &proto.Measures{List: list}); err != nil {
			errs = append(errs, h.oneByOne(ctx, list, err))
		}
	}
}

// oneByOne repeats a call that was refused for one of several measures.
func (h *Host) oneByOne(ctx context.Context, list []*proto.Measure, err error) error {
	if !Misuse(err) || len(list) == 1 {
		return err
	}
	var errs []error
	for _, x := range list {
		if _, err := h.client.Measure(ctx, &proto.Measures{List: []*proto.Measure{x}}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// report hands over what is counted until ctx ends, and then the rest.
func (h *Host) report(ctx context.Context) {
	if h.client == nil {
		return
	}
	for over := false; !over; {
		select {
		case <-h.wake:
		case <-ctx.Done():
			over = true
		}
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), measureTime)
		if err := h.Flush(limit); err != nil {
			slog.Warn("metrics", "error", err)
		}
		cancel()
	}
}
