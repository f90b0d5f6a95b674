package dns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"
)

const (
	defaultTimeout = 5 * time.Second
	defaultCache   = 8 << 20
	maxServers     = 8
	minAttempts    = 3                // a packet may be lost, even by the only server
	maxFlights     = 4096             // look-ups under way
	maxSockets     = 256              // of them, those that hold a socket
	sulk           = 10 * time.Second // how long a silent server is asked last
)

// Options configures New. The zero Options ask the system's servers.
type Options struct {
	// Servers are recursive resolvers, "ip:port" or "ip", asked in this order.
	// Empty: those of /etc/resolv.conf, read once; 127.0.0.1 if it names none.
	Servers []string
	// Timeout is how long one look-up may take, all servers, aliases and
	// retries included. 0: 5 s.
	Timeout time.Duration
	// CacheSize is about how many bytes of answers are kept. 0: 8 MiB; negative: none.
	CacheSize int
}

// Client is a Resolver that asks servers. It is safe for concurrent use.
type Client struct {
	servers  []*server
	timeout  time.Duration
	exchange func(ctx context.Context, to netip.AddrPort, m *wire.Msg) (*wire.Msg, error)
	sockets  chan struct{}
	ctx      context.Context // of all flights; ends with Close
	stop     context.CancelFunc
	running  sync.WaitGroup
	stats    counters

	mu      sync.Mutex // guards the rest
	cache   *cache
	flights map[question]*flight
	closed  bool
}

type server struct {
	addr   netip.AddrPort
	silent atomic.Pointer[time.Time] // when it last kept us waiting, nil if it has answered since
}

// flight is a look-up under way. All who ask the same wait for it.
type flight struct {
	done   chan struct{}
	answer *answer // set before done is closed
}

type counters struct{ lookups, hits, questions, failures, timeouts atomic.Uint64 }

// Stats counts what a Client has done since New.
type Stats struct {
	Lookups   uint64 // asked of the client
	Hits      uint64 // of them, answered from the cache
	Questions uint64 // asked of servers, retries included
	Failures  uint64 // look-ups that ended in Failure
	Timeouts  uint64 // look-ups that ended in Timeout
	Entries   int    // answers kept now
	Bytes     int    // their estimated size
}

// New returns a Client. It asks nothing yet: servers that don't answer are found by the first look-up.
func New(o Options) (*Client, error) {
	names := o.Servers
	if len(names) == 0 {
		var err error
		if names, err = systemServers("/etc/resolv.conf"); err != nil {
			return nil, err
		}
	}
	if len(names) > maxServers {
		return nil, fmt.Errorf("dns: %d servers; at most %d are of use", len(names), maxServers)
	}
	c := &Client{
		timeout: o.Timeout,
		sockets: make(chan struct{}, maxSockets),
		cache:   newCache(o.CacheSize),
		flights: map[question]*flight{},
	}
	for _, name := range names {
		addr, err := parseServer(name)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, &server{addr: addr})
	}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if o.CacheSize == 0 {
		c.cache.limit = defaultCache
	}
	c.exchange = newExchanger().exchange
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the look-ups under way and waits for them. Later ones fail.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
	return nil
}

// Stats returns the counters as they are now.
func (c *Client) Stats() Stats {
	s := Stats{
		Lookups:   c.stats.lookups.Load(),
		Hits:      c.stats.hits.Load(),
		Questions: c.stats.questions.Load(),
		Failures:  c.stats.failures.Load(),
		Timeouts:  c.stats.timeouts.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Entries, s.Bytes = len(c.cache.items), c.cache.size
	return s
}

// systemServers reads resolv.conf(5). Of it only the servers matter: every name
// asked for is a full one, so search lists would only do harm.
func systemServers(path string) ([]string, error) {
	conf, err := wire.ClientConfigFromFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(conf.Servers) == 0 {
		return []string{"127.0.0.1:53"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	return conf.Servers[:min(len(conf.Servers), maxServers)], nil
}

func parseServer(s string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(addr, 53), nil
	}
	addr, err := netip.ParseAddrPort(s)
	if err != nil || addr.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("dns: server %q: write an address, or address:port", s)
	}
	return addr, nil
}

// find answers q from the cache or by a flight that equal questions share. A
// caller whose ctx ends leaves; the flight goes on for the others and the cache.
func (c *Client) find(ctx context.Context, q question) *answer {
	c.stats.lookups.Add(1)
	c.mu.Lock()
	a, f := c.take(q)
	c.mu.Unlock()
	if a != nil {
		return a
	}
	select {
	case <-f.done:
		return f.answer
	case <-ctx.Done():
		err := failed(q, Timeout, "the caller stopped waiting")
		err.Cause = ctx.Err()
		return &answer{err: err}
	}
}

// take returns the answer to q or the flight that will bring it. c.mu is held.
func (c *Client) take(q question) (*answer, *flight) {
	if a := c.cache.get(q, time.Now()); a != nil {
		c.stats.hits.Add(1)
		return a, nil
	}
	if f := c.flights[q]; f != nil {
		return nil, f
	}
	switch {
	case c.closed:
		return &answer{err: failed(q, Failure, "the resolver is closed")}, nil
	case len(c.flights) >= maxFlights:
		c.stats.failures.Add(1)
		return &answer{err: failed(q, Failure, "too many look-ups under way")}, nil
	}
	f := &flight{done: make(chan struct{})}
	c.flights[q] = f
	c.running.Go(func() { c.fly(q, f) })
	return nil, f
}

func (c *Client) fly(q question, f *flight) {
	ctx, cancel := context.WithTimeout(c.ctx, c.timeout)
	defer cancel()
	a := resolve(ctx, c.ask, q)
	if a.err != nil {
		switch a.err.Kind {
		case Failure:
			c.stats.failures.Add(1)
		case Timeout:
			c.stats.timeouts.Add(1)
		}
	}
	f.answer = a
	c.mu.Lock()
	delete(c.flights, q)
	c.cache.put(q, a, time.Now())
	c.mu.Unlock()
	close(f.done)
}
