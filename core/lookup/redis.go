package lookup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// valkey asks a Redis server by one command that reads.
type valkey struct {
	db      *redis.Client
	command string
	args    []template
}

// readCommands are the commands that a query may be.
var readCommands = [...]string{"GET", "HGET", "HGETALL", "SISMEMBER", "SMEMBERS", "ZSCORE", "EXISTS"}

// redisOptions reads an address such as redis://host:6379/0, rediss://host or
// unix:///path for the library, which stays silent.
func redisOptions(source Source, roots *x509.CertPool) (*redis.Options, error) {
	u, err := url.Parse(source.URL)
	if err != nil {
		return nil, fault{"source", errors.New(`write a URL such as "redis://127.0.0.1:6379/0"`)}
	}
	if _, has := u.User.Password(); has {
		return nil, fault{"source", errors.New("a password does not stand in the address; write password_file")}
	}
	o, err := redis.ParseURL(source.URL)
	if err != nil {
		return nil, fault{"source", err}
	}
	if o.TLSConfig != nil {
		o.TLSConfig.RootCAs, o.TLSConfig.MinVersion = roots, tls.VersionTLS12
	}
	if source.User != "" {
		o.Username = source.User
	}
	user := o.Username
	if file := source.PasswordFile; file != "" {
		o.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := readPassword(file)
			return user, password, err
		}
	}
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = source.Timeout, source.Timeout, source.Timeout, source.Timeout
	o.PoolSize, o.MaxActiveConns, o.ConnMaxIdleTime = source.Concurrency, source.Concurrency, idle
	o.MaxRetries, o.DialerRetries = 1, 1 // a kept connection may have ended
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	logging.Disable() // of the library, which has one log for the process
	return o, nil
}

func newRedis(source Source, roots *x509.CertPool) (client, error) {
	o, err := redisOptions(source, roots)
	if err != nil {
		return nil, err
	}
	v := &valkey{}
	words := strings.Fields(source.Query)
	if len(words) == 0 {
		words = []string{"GET", "{key}"}
	}
	places := 0
	v.command = strings.ToUpper(words[0])
	for _, w := range words[1:] {
		t := parseTemplate(w)
		places += t.places()
		v.args = append(v.args, t)
	}
	known := false
	for _, c := range readCommands {
		known = known || c == v.command
	}
	switch {
	case !known:
		return nil, fault{"query", fmt.Errorf("%q is no command that reads; write one of %s", words[0], strings.Join(readCommands[:], ", "))}
	case places == 0:
		return nil, fault{"query", errors.New(`no place for the key; write a command such as "HGET users {key}"`)}
	}
	v.db = redis.NewClient(o)
	runtime.AddCleanup(v, func(db *redis.Client) { _ = db.Close() }, v.db)
	return v, nil
}

// ask implements client. Each place is an argument, or a part of one: nothing that
// stands in a key is a command.
func (v *valkey) ask(ctx context.Context, f fields) (any, bool, error) {
	args := []any{v.command}
	for _, t := range v.args {
		args = append(args, t.fill(f, func(s string) string { return s }))
	}
	got, err := v.db.Do(ctx, args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return v.value(got)
}

// value is an answer as Get gives them.
func (v *valkey) value(got any) (any, bool, error) {
	switch got := got.(type) {
	case string, float64, bool:
		return got, true, nil
	case int64: // of EXISTS and SISMEMBER: how many
		return got > 0, got > 0, nil
	case map[any]any:
		m := make(map[string]any, len(got))
		for k, one := range got {
			m[fmt.Sprint(k)] = fmt.Sprint(one)
		}
		return m, len(m) > 0, nil
	case []any:
		if v.command == "HGETALL" { // of a server that speaks the older protocol
			m := make(map[string]any, len(got)/2)
			for i := 0; i+1 < len(got); i += 2 {
				m[fmt.Sprint(got[i])] = fmt.Sprint(got[i+1])
			}
			return m, len(m) > 0, nil
		}
		list := make([]any, len(got))
		for i := range got {
			list[i] = fmt.Sprint(got[i])
		}
		return list, len(list) > 0, nil
	}
	return nil, false, fmt.Errorf("the server answers with a %T", got)
}

func (v *valkey) reach(ctx context.Context) error {
	_, _, err := v.ask(ctx, fieldsOf("postern-check@invalid"))
	return err
}
