package lookup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/jackc/pgx/v5/pgconn"
)

// client speaks to one service. It is safe for concurrent use, keeps what
// connections it has, and makes new ones by itself where they broke.
type client interface {
	// ask gets the value for a key, within ctx. An error is temporary.
	ask(ctx context.Context, f fields) (value any, found bool, err error)
	// reach tells whether the service is there and takes such questions.
	reach(ctx context.Context) error
}

const (
	// maxKey bounds the keys that services are asked for.
	maxKey = 1 << 10
	// After so many questions in a row that nobody answered a service is left alone
	// for a while, so that not everybody waits for it in vain.
	failuresInRow = 3
	leftAlone     = time.Second
	tellAgain     = time.Minute
)

// service is a map that a service has. It implements one.
type service struct {
	source  Source
	options Options
	client  client
	slots   chan struct{} // one for each question under way
	known   *cache

	mu       sync.Mutex // guards what follows
	failures int        // in a row
	last     error      // of them
	alone    time.Time  // until then it is not asked
	told     time.Time  // when the log was told last
}

func newService(source Source, o Options) (*service, error) {
	s := &service{source: source, options: o, slots: make(chan struct{}, max(source.Concurrency, 1)), known: newCache(source.Entries)}
	if source.PasswordFile != "" {
		if _, err := s.password(); err != nil {
			return nil, fault{"password_file", err}
		}
	}
	var err error
	switch source.Type {
	case SQLite:
		s.client, err = newSQLite(source)
	case PostgreSQL:
		s.client, err = newPostgreSQL(source, o.Roots)
	case Redis:
		s.client, err = newRedis(source, o.Roots)
	case LDAP:
		s.client, err = newLDAP(source, o.Roots)
	default:
		s.client, err = newHTTP(source, o.Roots)
	}
	return s, err
}

func (s *service) of() Source { return s.source }

// get implements one: what is remembered, else what the service says.
func (s *service) get(ctx context.Context, key string) (any, bool, error) {
	key = fold(key)
	if len(key) > maxKey || strings.IndexByte(key, 0) >= 0 {
		return nil, false, nil // no such key is anywhere
	}
	before, remembered := s.known.recall(key)
	if remembered && s.options.Now().Before(before.until) {
		return before.value, before.found, nil
	}
	v, found, err := s.ask(ctx, key)
	if err != nil && remembered && s.source.Stale && ctx.Err() == nil {
		return before.value, before.found, nil
	}
	return v, found, err
}

// ask asks the service, in its turn.
func (s *service) ask(outer context.Context, key string) (any, bool, error) {
	if err := s.resting(); err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(outer, s.source.Timeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, false, s.wrong(errors.New("all connections are busy"))
	}
	v, found, err := s.client.ask(ctx, fieldsOf(key))
	if err != nil && outer.Err() != nil {
		return nil, false, s.wrong(outer.Err()) // who asked has gone; nothing is said of the service
	}
	if err == nil && sizeOf(v) > maxValue {
		return nil, false, s.wrong(fmt.Errorf("the value has more than %d MiB", maxValue>>20))
	}
	if s.settle(err); err != nil {
		return nil, false, s.wrong(err)
	}
	lives := s.source.Positive
	if !found {
		lives = s.source.Negative
	}
	if lives > 0 || s.source.Stale {
		s.known.keep(answer{key: key, value: v, found: found, until: s.options.Now().Add(lives)})
	}
	return v, found, nil
}

func (s *service) wrong(err error) error {
	return fmt.Errorf("map %q: %w", s.source.Name, err)
}

// resting is the last error where the service is left alone.
func (s *service) resting() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Now().Before(s.alone) {
		return s.wrong(s.last)
	}
	return nil
}

// settle counts failures, and tells the log of them and of their end.
func (s *service) settle(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		if s.failures >= failuresInRow {
			s.options.Log.Info("a map answers again", "lookup", s.source.Name)
			s.told = time.Time{}
		}
		s.failures, s.last = 0, nil
		return
	}
	if absent(err) {
		s.failures++
	}
	s.last = err
	if now := s.options.Now(); now.Sub(s.told) >= tellAgain {
		s.told = now
		s.options.Log.Warn("a map can't be asked", "lookup", s.source.Name, "error", err.Error())
	}
	if s.failures >= failuresInRow {
		s.alone = s.options.Now().Add(leftAlone)
	}
}

// absent tells whether nobody answers, and not only this one question.
func absent(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if e, ok := errors.AsType[*ldap.Error](err); ok && e.ResultCode == ldap.ErrorNetwork {
		return true
	}
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (s *service) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.source.Timeout)
	defer cancel()
	return s.client.reach(ctx)
}

// password is the first line of the password file.
func (s *service) password() (string, error) { return readPassword(s.source.PasswordFile) }

func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", fmt.Errorf("%s holds no password in its first line", path)
	}
	return line, nil
}
