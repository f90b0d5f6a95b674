package store

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisOptions of OpenRedis.
type RedisOptions struct {
	URL          string // redis://host:6379/0, rediss://host (TLS) or unix:///path, without a password
	User         string // "": that of the URL
	PasswordFile string // whose first line is the password, read for each connection; "": none
	Timeout      time.Duration
	Connections  int            // at a time, at most
	Roots        *x509.CertPool // of certificates; nil: the system's
	Log          *slog.Logger   // is told of failures, once a minute; nil: nobody is
	// Now is the clock of expiry and buckets; nil: the server's, which all nodes share.
	Now func() time.Time
}

// Remote is a Store that a Redis server has, shared by all nodes that name it. Each
// operation is one script at the server, so that it is atomic there. A server that is
// away makes operations fail within their time; connections are made again by
// themselves.
type Remote struct {
	db      *redis.Client
	timeout time.Duration
	now     func() time.Time
	closed  atomic.Bool

	log      *slog.Logger
	told     atomic.Int64 // when the log was told of failures, in nanoseconds since 1970
	failures atomic.Int64
	failing  atomic.Pointer[string] // why the last operation failed; nil: it didn't
}

// ErrPassword is an address with a password in it.
var ErrPassword = errors.New("a password does not stand in the address; write password_file")

// redisOptions reads an address; what it says of a fault has nothing of it.
func redisOptions(address string) (*redis.Options, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New(`it is no URL such as "redis://127.0.0.1:6379/0"`)
	}
	if _, has := u.User.Password(); has {
		return nil, ErrPassword
	}
	return redis.ParseURL(address)
}

// OpenRedis makes a Store of a Redis server. It does not connect: Ping does.
func OpenRedis(o RedisOptions) (*Remote, error) {
	c, err := redisOptions(o.URL)
	if err != nil {
		return nil, err
	}
	if c.TLSConfig != nil {
		c.TLSConfig.RootCAs, c.TLSConfig.MinVersion = o.Roots, tls.VersionTLS12
	}
	if o.User != "" {
		c.Username = o.User
	}
	if user := c.Username; o.PasswordFile != "" {
		c.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := firstLine(o.PasswordFile)
			return user, password, err
		}
	}
	c.ContextTimeoutEnabled = true
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout, c.PoolTimeout = o.Timeout, o.Timeout, o.Timeout, o.Timeout
	c.PoolSize, c.MaxActiveConns = o.Connections, o.Connections
	// An operation is not tried again after its answer was lost: it may have been done.
	c.MaxRetries, c.DialerRetries = -1, 1
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	logging.Disable() // of the library, which has one log for the process
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Remote{db: redis.NewClient(c), timeout: o.Timeout, now: o.Now, log: o.Log}, nil
}

func firstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// A value is a hash at the server: v is its content, e when its time is up, in
// microseconds since 1970, 0 for never. A bucket is another: t tokens at the time a.
// ARGV[1] is the time, empty for the server's own; only then what expired is removed
// by the server too.
const prelude = `
local now = ARGV[1]
if now == '' then local t = redis.call('TIME') now = t[1] * 1000000 + t[2] else now = tonumber(now) end
local function live(k)
  local r = redis.call('HMGET', k, 'v', 'e')
  if not r[1] then return nil end
  local e = tonumber(r[2])
  if e ~= 0 and now >= e then return nil end
  return r[1]
end
local function write(k, v, ttl)
  local e = 0
  if ttl ~= '0' then e = now + tonumber(ttl) end
  redis.call('HSET', k, 'v', v, 'e', string.format('%.0f', e))
  if ARGV[1] ~= '' then return end
  if e == 0 then redis.call('PERSIST', k) else redis.call('PEXPIREAT', k, string.format('%.0f', math.ceil(e / 1000))) end
end
`

// The scripts. They are sent once to a server, and named by their hash then.
func scriptGet() *redis.Script { return redis.NewScript(prelude + `return live(KEYS[1]) or false`) }

func scriptPut() *redis.Script {
	return redis.NewScript(prelude + `write(KEYS[1], ARGV[2], ARGV[3]) return 1`)
}

func scriptIncr() *redis.Script {
	return redis.NewScript(prelude + `
if not live(KEYS[1]) then write(KEYS[1], '0', ARGV[3]) end
local r = redis.pcall('HINCRBY', KEYS[1], 'v', ARGV[2])
if type(r) == 'table' and r.err then return redis.error_reply(r.err) end
return redis.call('HGET', KEYS[1], 'v')`)
}

func scriptSwap() *redis.Script {
	return redis.NewScript(prelude + `
local is = live(KEYS[1])
if ARGV[2] == '0' then
  if is then return 0 end
elseif is ~= ARGV[3] then return 0 end
if ARGV[4] == '0' then redis.call('DEL', KEYS[1]) else write(KEYS[1], ARGV[5], ARGV[6]) end
return 1`)
}

func scriptTake() *redis.Script {
	return redis.NewScript(prelude + `
local n, capacity, per = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local r = redis.call('HMGET', KEYS[1], 't', 'a')
local tokens = capacity
if r[1] then tokens = math.min(capacity, tonumber(r[1]) + capacity * (math.max(0, now - tonumber(r[2])) / per)) end
if tokens + capacity * 1e-9 < n then return { 0, string.format('%.17g', (n - tokens) / capacity * per) } end
if n > 0 then
  redis.call('HSET', KEYS[1], 't', string.format('%.17g', math.max(0, tokens - n)), 'a', string.format('%.0f', now))
  if ARGV[1] == '' then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(per / 1000) + 1)) end
end
return { 1, '0' }`)
}

// at is the name of a key at the server.
func at(space byte, key []byte) string { return "postern:" + string(space) + ":" + string(key) }

// run does one operation, within its time.
func (r *Remote) run(outer context.Context, script *redis.Script, space byte, key []byte, args ...any) (any, error) {
	switch {
	case len(key) == 0 || len(key) > MaxKey:
		return nil, ErrKey
	case r.closed.Load():
		return nil, ErrClosed
	case outer.Err() != nil:
		return nil, fmt.Errorf("store: %w", outer.Err())
	}
	ctx, cancel := context.WithTimeout(outer, r.timeout)
	defer cancel()
	now := ""
	if r.now != nil {
		now = strconv.FormatInt(r.now().UnixMicro(), 10)
	}
	got, err := script.Run(ctx, r.db, []string{at(space, key)}, append([]any{now}, args...)...).Result()
	switch {
	case errors.Is(err, redis.Nil):
		r.failing.Store(nil)
		return nil, nil
	case errors.Is(err, redis.ErrClosed):
		return nil, ErrClosed
	case err != nil && strings.Contains(err.Error(), "not an integer"):
		return nil, ErrNotCounter
	case err != nil && strings.Contains(err.Error(), "would overflow"):
		return nil, ErrOverflow
	case err != nil:
		if outer.Err() == nil {
			why := err.Error()
			r.failing.Store(&why)
			r.failures.Add(1)
			now, last := time.Now().UnixNano(), r.told.Load()
			if now-last >= int64(time.Minute) && r.told.CompareAndSwap(last, now) {
				r.log.Warn("the store of policies does not answer", "error", why)
			}
		}
		return nil, fmt.Errorf("store: %w", err)
	}
	r.failing.Store(nil)
	return got, nil
}

// Failures is how many operations failed for want of the server's answer.
func (r *Remote) Failures() int { return int(r.failures.Load()) }

// Failing is why the last operation failed; ok is false where it didn't.
func (r *Remote) Failing() (why string, ok bool) {
	if p := r.failing.Load(); p != nil {
		return *p, true
	}
	return "", false
}

// micros is a time to live for the scripts, rounded up.
func micros(ttl time.Duration) string {
	return strconv.FormatInt(int64(ttl/time.Microsecond)+boolInt(ttl%time.Microsecond > 0), 10)
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Ping tells whether the server is there and lets us in.
func (r *Remote) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return r.db.Ping(ctx).Err()
}

// Get implements Store.
func (r *Remote) Get(ctx context.Context, key []byte) ([]byte, bool, error) {
	got, err := r.run(ctx, scriptGet(), valueSpace, key)
	s, ok := got.(string)
	if err != nil || !ok {
		return nil, false, err
	}
	return []byte(s), true, nil
}

// Put implements Store.
func (r *Remote) Put(ctx context.Context, key, value []byte, ttl time.Duration) error {
	if err := check(value, ttl); err != nil {
		return err
	}
	_, err := r.run(ctx, scriptPut(), valueSpace, key, value, micros(ttl))
	return err
}

// Delete implements Store.
func (r *Remote) Delete(ctx context.Context, key []byte) error {
	script := redis.NewScript(`return redis.call('DEL', KEYS[1])`)
	for _, space := range []byte{valueSpace, bucketSpace} {
		if _, err := r.run(ctx, script, space, key); err != nil {
			return err
		}
	}
	return nil
}

// Incr implements Store.
func (r *Remote) Incr(ctx context.Context, key []byte, by int64, ttl time.Duration) (int64, error) {
	if err := check(nil, ttl); err != nil {
		return 0, err
	}
	got, err := r.run(ctx, scriptIncr(), valueSpace, key, by, micros(ttl))
	if err != nil {
		return 0, err
	}
	sum, err := strconv.ParseInt(fmt.Sprint(got), 10, 64)
	if err != nil {
		return 0, ErrNotCounter
	}
	return sum, nil
}

// Swap implements Store.
func (r *Remote) Swap(ctx context.Context, key, old, value []byte, ttl time.Duration) (bool, error) {
	if err := check(value, ttl); err != nil {
		return false, err
	}
	got, err := r.run(ctx, scriptSwap(), valueSpace, key, boolInt(old != nil), old, boolInt(value != nil), value, micros(ttl))
	return got == int64(1), err
}

// Take implements Store.
func (r *Remote) Take(ctx context.Context, key []byte, n, capacity float64, per time.Duration) (bool, time.Duration, error) {
	if !(n >= 0 && n <= capacity) || math.IsInf(capacity, 0) || capacity == 0 || per <= 0 {
		return false, 0, ErrBucket
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	got, err := r.run(ctx, scriptTake(), bucketSpace, key, number(n), number(capacity), number(float64(per)/float64(time.Microsecond)))
	if err != nil {
		return false, 0, err
	}
	answer, ok := got.([]any)
	if !ok || len(answer) != 2 {
		return false, 0, fmt.Errorf("store: an answer of %v", got)
	}
	if answer[0] == int64(1) {
		return true, 0, nil
	}
	wait, err := strconv.ParseFloat(fmt.Sprint(answer[1]), 64)
	if err != nil {
		return false, 0, fmt.Errorf("store: %w", err)
	}
	wait = math.Ceil(math.Round(wait*1e3)/1e3) * float64(time.Microsecond) // but for what the arithmetic adds
	return false, max(1, time.Duration(min(wait, float64(per)))), nil
}

// Close implements Store. A second call returns ErrClosed.
func (r *Remote) Close() error {
	if r.closed.Swap(true) {
		return ErrClosed
	}
	return r.db.Close()
}
