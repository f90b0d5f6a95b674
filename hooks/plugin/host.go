package plugin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks/proto"
)

// Metrics takes what plugins count. It must be safe for concurrent use.
type Metrics interface {
	// Count adds n, which is not negative, to a policy's counter.
	Count(policy, name string, labels map[string]string, n float64) error
	// Observe adds a value to a policy's histogram.
	Observe(policy, name string, labels map[string]string, value float64) error
}

// Bounds of Measure; those of the registry behind it come on top. They are the
// same for scripts.
const (
	maxMetricName  = 60
	maxLabels      = 5
	maxLabelValue  = 100
	maxHostCalls   = 256 // of one plugin at a time; more wait
	maxTTL         = 100 * 366 * 24 * time.Hour
	hostSocketName = "host"
)

// NewHost is service Host for one policy. A nil store or Metrics leaves what
// needs it without effect: every call to the store fails.
func NewHost(policy string, s store.Store, m Metrics) proto.HostServer {
	return &host{policy: policy, store: s, metrics: m}
}

// host serves a plugin.
type host struct {
	proto.UnimplementedHostServer
	policy  string
	store   store.Store
	metrics Metrics
}

// openHost serves on a socket in the private folder, which the account that the
// process runs as can connect to and nobody else.
func (p *Plugin) openHost() error {
	path := filepath.Join(p.dir, hostSocketName)
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := p.owner.give(path); err != nil {
		ln.Close()
		return err
	}
	p.host = grpc.NewServer(grpc.MaxRecvMsgSize(proto.MaxEvent), grpc.MaxSendMsgSize(proto.MaxEvent), grpc.MaxConcurrentStreams(maxHostCalls))
	proto.RegisterHostServer(p.host, NewHost(p.o.Name, p.o.Store, p.o.Metrics))
	p.serving.Go(func() {
		if err := p.host.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			p.log.Error("serving a plugin", "error", err)
		}
	})
	return nil
}

// closeHost ends the calls under way and waits for them.
func (p *Plugin) closeHost() {
	if p.host != nil {
		p.host.Stop()
	}
	p.serving.Wait()
}

// key checks what every call to the store needs.
func (h *host) key(x *proto.StoreKey) ([]byte, error) {
	if h.store == nil {
		return nil, status.Error(codes.Unavailable, "there is no store here")
	}
	return store.Key(x.GetParts()...), nil
}

// storeError is an error of the store as the protocol says it.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case store.Misused(err):
		return status.Error(codes.InvalidArgument, proto.Text(err.Error()))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, proto.Text(err.Error()))
}

func span(ms int64) (time.Duration, error) {
	if ms < 0 || ms > maxTTL.Milliseconds() {
		return 0, status.Errorf(codes.InvalidArgument, "a time of %d ms is not between 0 and a hundred years", ms)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// stored is a value as the store has it; nil for null.
func stored(x *proto.Value) ([]byte, error) {
	plain, err := x.Plain()
	if err == nil && plain == nil {
		return nil, nil
	}
	var b []byte
	if err == nil {
		b, err = store.Encode(plain)
	}
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the value: %s", proto.Text(err.Error()))
	}
	return b, nil
}

// Get implements proto.HostServer.
func (h *host) Get(ctx context.Context, x *proto.StoreKey) (*proto.StoreValue, error) {
	key, err := h.key(x)
	if err != nil {
		return nil, err
	}
	b, ok, err := h.store.Get(ctx, key)
	if err != nil || !ok {
		return &proto.StoreValue{}, storeError(err)
	}
	v, err := store.Decode(b)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "the entry is not a value of ours: "+proto.Text(err.Error()))
	}
	return &proto.StoreValue{Found: true, Value: proto.NewValue(v)}, nil
}

// Put implements proto.HostServer.
func (h *host) Put(ctx context.Context, x *proto.PutRequest) (*proto.Done, error) {
	key, err := h.key(x.Key)
	if err != nil {
		return nil, err
	}
	value, err := stored(x.Value)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, status.Error(codes.InvalidArgument, "null can't be stored: use Delete")
	}
	ttl, err := span(x.TtlMs)
	if err != nil {
		return nil, err
	}
	return &proto.Done{}, storeError(h.store.Put(ctx, key, value, ttl))
}

// Delete implements proto.HostServer.
func (h *host) Delete(ctx context.Context, x *proto.StoreKey) (*proto.Done, error) {
	key, err := h.key(x)
	if err != nil {
		return nil, err
	}
	return &proto.Done{}, storeError(h.store.Delete(ctx, key))
}

// Incr implements proto.HostServer.
func (h *host) Incr(ctx context.Context, x *proto.IncrRequest) (*proto.IncrReply, error) {
	key, err := h.key(x.Key)
	if err != nil {
		return nil, err
	}
	ttl, err := span(x.TtlMs)
	if err != nil {
		return nil, err
	}
	sum, err := h.store.Incr(ctx, key, x.By, ttl)
	return &proto.IncrReply{Sum: sum}, storeError(err)
}

// Take implements proto.HostServer.
func (h *host) Take(ctx context.Context, x *proto.TakeRequest) (*proto.TakeReply, error) {
	key, err := h.key(x.Key)
	if err != nil {
		return nil, err
	}
	per, err := span(x.PerMs)
	if err != nil {
		return nil, err
	}
	allowed, retry, err := h.store.Take(ctx, key, x.Tokens, x.Capacity, per)
	if err != nil {
		return nil, storeError(err)
	}
	out := &proto.TakeReply{Allowed: allowed}
	if !allowed { // rounded up: that long, and there are enough
		out.RetryMs = int64((retry + time.Millisecond - 1) / time.Millisecond)
	}
	return out, nil
}

// Swap implements proto.HostServer.
func (h *host) Swap(ctx context.Context, x *proto.SwapRequest) (*proto.SwapReply, error) {
	key, err := h.key(x.Key)
	if err != nil {
		return nil, err
	}
	old, err := stored(x.Old)
	if err != nil {
		return nil, err
	}
	value, err := stored(x.New)
	if err != nil {
		return nil, err
	}
	ttl, err := span(x.TtlMs)
	if err != nil {
		return nil, err
	}
	swapped, err := h.store.Swap(ctx, key, old, value, ttl)
	return &proto.SwapReply{Swapped: swapped}, storeError(err)
}

// Measure implements proto.HostServer.
func (h *host) Measure(_ context.Context, x *proto.Measures) (*proto.Done, error) {
	if len(x.List) > proto.MaxNews {
		return nil, status.Errorf(codes.InvalidArgument, "%d measures; %d are possible in a call", len(x.List), proto.MaxNews)
	}
	for _, one := range x.List {
		if err := checkMeasure(one); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	if h.metrics == nil {
		return &proto.Done{}, nil
	}
	for _, one := range x.List {
		labels := make(map[string]string, len(one.Labels))
		for name, value := range one.Labels {
			labels[name] = proto.Text(oneLine(value[:min(len(value), maxLabelValue)]))
		}
		take := h.metrics.Count
		if one.Histogram {
			take = h.metrics.Observe
		}
		if err := take(h.policy, one.Name, labels, one.Value); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "metric %s: %s", one.Name, proto.Text(err.Error()))
		}
	}
	return &proto.Done{}, nil
}

func checkMeasure(x *proto.Measure) error {
	switch {
	case !metricWord(x.GetName()):
		return fmt.Errorf("the name %.80q of a metric is not one to %d letters, digits and _", x.GetName(), maxMetricName)
	case math.IsNaN(x.Value) || math.IsInf(x.Value, 0):
		return fmt.Errorf("metric %s: the value must be finite", x.Name)
	case !x.Histogram && x.Value < 0:
		return fmt.Errorf("metric %s: a counter only grows", x.Name)
	case len(x.Labels) > maxLabels:
		return fmt.Errorf("metric %s has %d labels; %d are possible", x.Name, len(x.Labels), maxLabels)
	}
	for name := range x.Labels {
		if !metricWord(name) || name == "policy" {
			return fmt.Errorf("metric %s: the name %.80q of a label is not made of letters, digits and _, or is policy", x.Name, name)
		}
	}
	return nil
}

func metricWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxMetricName
}
