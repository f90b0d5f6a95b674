package lookup

import (
	"context"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the driver "sqlite", without cgo
)

// maxRows bounds the rows of one answer.
const maxRows = 1000

// idle is how long a connection that nobody uses is kept.
const idle = time.Minute

// rowValues gathers the rows of an answer: one row is a value, or a table of its
// columns by name where there are several; more rows are a list. A row of one NULL
// counts as none.
type rowValues struct {
	columns []string
	list    []any
}

func (r *rowValues) add(row []any) error {
	if len(r.list) == maxRows {
		return fmt.Errorf("there are more than %d rows", maxRows)
	}
	if len(r.columns) == 1 {
		if v := column(row[0]); v != nil {
			r.list = append(r.list, v)
		}
		return nil
	}
	m := make(map[string]any, len(row))
	for i, v := range row {
		if v = column(v); v != nil {
			m[r.columns[i]] = v
		}
	}
	r.list = append(r.list, m)
	return nil
}

func (r *rowValues) value() (any, bool) {
	switch len(r.list) {
	case 0:
		return nil, false
	case 1:
		return r.list[0], true
	}
	return r.list, true
}

// column is a value as Get gives them.
func column(v any) any {
	switch v := v.(type) {
	case nil, string, bool, float64:
		return v
	case []byte:
		return string(v)
	case int64:
		return float64(v)
	case int32:
		return float64(v)
	case int16:
		return float64(v)
	case float32:
		return float64(v)
	case time.Time:
		return v.Format(time.RFC3339)
	case driver.Valuer: // numbers of any length, networks and other types of a database
		if p, err := v.Value(); err == nil {
			return column(p)
		}
		return fmt.Sprint(v)
	case []any:
		list := make([]any, 0, len(v))
		for _, one := range v {
			if one = column(one); one != nil {
				list = append(list, one)
			}
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, one := range v {
			m[k] = column(one)
		}
		return m
	}
	return fmt.Sprint(v)
}

// statement reads a query.
func statement(source Source, mark func(n int) string) (string, []string, error) {
	t := parseTemplate(source.Query)
	if t.places() == 0 {
		return "", nil, fault{"query", errors.New(`no place for the key; write a query such as "SELECT value FROM users WHERE address = {key}"`)}
	}
	text, params, err := t.bound(mark)
	if err != nil {
		err = fault{"query", err}
	}
	return text, params, err
}

// sqlite asks a database in a file, which it never writes.
type sqlite struct {
	db     *sql.DB
	text   string
	params []string
}

func newSQLite(source Source) (client, error) {
	if st, err := os.Stat(source.Path); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, errors.New("it is no plain file")
	}
	s := &sqlite{}
	var err error
	if s.text, s.params, err = statement(source, func(int) string { return "?" }); err != nil {
		return nil, err
	}
	// A writer may hold the database for a moment.
	name := "file:" + (&url.URL{Path: source.Path}).EscapedPath() + "?mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(" + fmt.Sprint(source.Timeout.Milliseconds()) + ")"
	if s.db, err = sql.Open("sqlite", name); err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(source.Concurrency)
	s.db.SetMaxIdleConns(source.Concurrency)
	s.db.SetConnMaxIdleTime(idle)
	runtime.AddCleanup(s, func(db *sql.DB) { _ = db.Close() }, s.db)
	ctx, cancel := context.WithTimeout(context.Background(), source.Timeout)
	defer cancel()
	if err := s.db.PingContext(ctx); err != nil {
		_ = s.db.Close()
		return nil, err
	}
	if err := s.reach(ctx); err != nil {
		_ = s.db.Close()
		return nil, fault{"query", err}
	}
	return s, nil
}

func (s *sqlite) ask(ctx context.Context, f fields) (any, bool, error) {
	rows, err := s.db.QueryContext(ctx, s.text, f.args(s.params)...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	var r rowValues
	if r.columns, err = rows.Columns(); err != nil {
		return nil, false, err
	}
	row, into := make([]any, len(r.columns)), make([]any, len(r.columns))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, false, err
		}
		if err := r.add(row); err != nil {
			return nil, false, err
		}
	}
	v, found := r.value()
	return v, found, rows.Err()
}

func (s *sqlite) reach(ctx context.Context) error {
	st, err := s.db.PrepareContext(ctx, s.text)
	if err != nil {
		return err
	}
	return st.Close()
}

// postgres asks a PostgreSQL server.
type postgres struct {
	pool   *pgxpool.Pool
	text   string
	params []string
}

// postgresConfig reads the address; what it says of a fault has no secret.
func postgresConfig(source Source, roots *x509.CertPool) (*pgxpool.Config, error) {
	u, err := url.Parse(source.URL)
	if err != nil {
		return nil, fault{"source", errors.New(`write a URL such as "postgres://db.example/mail?sslmode=verify-full"`)}
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return nil, fault{"source", errors.New("a password does not stand in the address; write password_file")}
	}
	c, err := pgxpool.ParseConfig(source.URL)
	if err != nil {
		return nil, fault{"source", err}
	}
	if source.User != "" {
		c.ConnConfig.User = source.User
	}
	if c.ConnConfig.TLSConfig != nil && roots != nil && c.ConnConfig.TLSConfig.RootCAs == nil {
		c.ConnConfig.TLSConfig.RootCAs = roots
	}
	c.MaxConns, c.MinConns, c.MaxConnIdleTime = int32(min(source.Concurrency, 1<<20)), 0, idle
	c.ConnConfig.ConnectTimeout = source.Timeout
	c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	if c.ConnConfig.RuntimeParams["application_name"] == "" {
		c.ConnConfig.RuntimeParams["application_name"] = "postern"
	}
	if file := source.PasswordFile; file != "" {
		c.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) (err error) {
			conn.Password, err = readPassword(file)
			return err
		}
	}
	return c, nil
}

func newPostgreSQL(source Source, roots *x509.CertPool) (client, error) {
	p := &postgres{}
	var err error
	if p.text, p.params, err = statement(source, func(n int) string { return fmt.Sprintf("$%d", n) }); err != nil {
		return nil, err
	}
	c, err := postgresConfig(source, roots)
	if err != nil {
		return nil, err
	}
	if p.pool, err = pgxpool.NewWithConfig(context.Background(), c); err != nil {
		return nil, fault{"source", err}
	}
	runtime.AddCleanup(p, func(pool *pgxpool.Pool) { pool.Close() }, p.pool)
	return p, nil
}

func (p *postgres) ask(ctx context.Context, f fields) (any, bool, error) {
	rows, err := p.pool.Query(ctx, p.text, f.args(p.params)...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	var r rowValues
	for _, d := range rows.FieldDescriptions() {
		r.columns = append(r.columns, d.Name)
	}
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			return nil, false, err
		}
		if err := r.add(row); err != nil {
			return nil, false, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, false, err
	}
	v, found := r.value()
	return v, found, nil
}

func (p *postgres) reach(ctx context.Context) error {
	c, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	if _, err = c.Conn().PgConn().Prepare(ctx, "", p.text, nil); err != nil {
		return fmt.Errorf("query: %s", strings.TrimPrefix(err.Error(), "ERROR: "))
	}
	return nil
}
