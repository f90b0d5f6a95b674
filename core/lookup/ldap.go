package lookup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// maxFound bounds the entries of one answer.
const maxFound = 100

// directory asks an LDAP server, on connections that it keeps.
type directory struct {
	source     Source
	roots      *x509.CertPool
	host       string
	filter     template
	scope      int
	attributes []string
	kept       *ldapConns
}

// ldapConns are connections that nobody uses now.
type ldapConns struct {
	mu   sync.Mutex
	list []keptConn
}

type keptConn struct {
	*ldap.Conn
	since time.Time
}

func newLDAP(source Source, roots *x509.CertPool) (client, error) {
	u, err := url.Parse(source.URL)
	switch {
	case err != nil || !slices.Contains([]string{"ldap", "ldaps", "ldapi"}, u.Scheme):
		return nil, fault{"source", errors.New(`write a URL such as "ldaps://ldap.example" or "ldapi:///run/slapd/ldapi"`)}
	case u.Scheme != "ldapi" && (u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != ""):
		return nil, fault{"source", errors.New(`it is scheme, host and port alone, such as "ldap://ldap.example:389"; base, query and attributes are keys of their own`)}
	case u.User != nil:
		return nil, fault{"source", errors.New("the name and the password have places of their own; write user and password_file")}
	case source.StartTLS && u.Scheme != "ldap":
		return nil, fault{"starttls", errors.New("is for ldap:// alone; leave it out")}
	case source.PasswordFile != "" && source.User == "":
		return nil, fault{"user", errors.New(`missing; write the name to bind with, such as user = "cn=postern,dc=example,dc=net"`)}
	}
	d := &directory{source: source, roots: roots, host: u.Hostname(), filter: parseTemplate(source.Query), attributes: strings.Fields(source.Attributes), kept: &ldapConns{}}
	if d.filter.places() == 0 {
		return nil, fault{"query", errors.New(`no place for the key; write a filter such as "(mail={key})"`)}
	}
	if _, err := ldap.CompileFilter(d.filter.fill(fieldsOf("a@b"), ldap.EscapeFilter)); err != nil {
		return nil, fault{"query", fmt.Errorf("it is no filter: %w", err)}
	}
	if _, err := ldap.ParseDN(source.Base); err != nil {
		return nil, fault{"base", fmt.Errorf("it is no name of an entry: %w", err)}
	}
	d.scope = map[string]int{"base": ldap.ScopeBaseObject, "one": ldap.ScopeSingleLevel}[source.Scope]
	if source.Scope == "sub" || source.Scope == "" {
		d.scope = ldap.ScopeWholeSubtree
	}
	runtime.AddCleanup(d, (*ldapConns).closeAll, d.kept)
	return d, nil
}

func (c *ldapConns) closeAll() { c.closeFrom(0) }

// closeFrom closes all but the first ones.
func (c *ldapConns) closeFrom(n int) {
	c.mu.Lock()
	ends := slices.Clone(c.list[min(n, len(c.list)):])
	c.list = c.list[:min(n, len(c.list))]
	c.mu.Unlock()
	for _, one := range ends {
		_ = one.Close()
	}
}

// take is the connection that was used last, nil where there is none that is fresh.
func (c *ldapConns) take() *ldap.Conn {
	for {
		c.mu.Lock()
		n := len(c.list) - 1
		if n < 0 {
			c.mu.Unlock()
			return nil
		}
		one := c.list[n]
		c.list = c.list[:n]
		c.mu.Unlock()
		if !one.IsClosing() && time.Since(one.since) < idle {
			return one.Conn
		}
		_ = one.Close()
	}
}

func (c *ldapConns) give(conn *ldap.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, keptConn{conn, time.Now()})
}

// connect makes a connection that has bound.
func (d *directory) connect(ctx context.Context) (*ldap.Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(d.source.Timeout)
	}
	secure := &tls.Config{RootCAs: d.roots, ServerName: d.host, MinVersion: tls.VersionTLS12}
	conn, err := ldap.DialURL(d.source.URL, ldap.DialWithDialer(&net.Dialer{Deadline: deadline}), ldap.DialWithTLSConfig(secure))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	conn.SetTimeout(d.source.Timeout)
	if d.source.StartTLS {
		err = conn.StartTLS(secure)
	}
	if err == nil && d.source.User != "" {
		password := ""
		if d.source.PasswordFile != "" {
			password, err = readPassword(d.source.PasswordFile)
		}
		if err == nil && password == "" {
			err = conn.UnauthenticatedBind(d.source.User)
		} else if err == nil {
			err = conn.Bind(d.source.User, password)
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// search asks once, on a kept connection where there is one.
func (d *directory) search(ctx context.Context, r *ldap.SearchRequest) (result *ldap.SearchResult, err error) {
	conn := d.kept.take()
	old := conn != nil
	for {
		if conn == nil {
			if conn, err = d.connect(ctx); err != nil {
				return nil, err
			}
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		result, err = conn.Search(r)
		alive := stop()
		if alive && (err == nil || !broken(err)) {
			d.kept.give(conn)
			return result, err
		}
		_ = conn.Close()
		if !old || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		conn, old = nil, false // it had ended while nobody used it
	}
}

// broken tells whether an error leaves a connection that can't be used again.
func broken(err error) bool {
	e, ok := errors.AsType[*ldap.Error](err)
	return !ok || e.ResultCode >= ldap.ErrorNetwork
}

func (d *directory) request(f fields) *ldap.SearchRequest {
	attributes := d.attributes
	if len(attributes) == 0 {
		attributes = []string{"1.1"} // RFC 4511 section 4.5.1.8: none
	}
	return ldap.NewSearchRequest(d.source.Base, d.scope, ldap.NeverDerefAliases, maxFound, int(d.source.Timeout/time.Second)+1, false,
		d.filter.fill(f, ldap.EscapeFilter), attributes, nil)
}

// ask implements client.
func (d *directory) ask(ctx context.Context, f fields) (any, bool, error) {
	result, err := d.search(ctx, d.request(f))
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return nil, false, fmt.Errorf("there is no entry %q to search below", d.source.Base)
	}
	if err != nil {
		return nil, false, err
	}
	var list []any
	for _, e := range result.Entries {
		if v := d.entry(e); v != nil {
			list = append(list, v)
		}
	}
	switch len(list) {
	case 0:
		return nil, false, nil
	case 1:
		return list[0], true, nil
	}
	return list, true, nil
}

// entry is what an entry has: its name where no attribute is asked for; the one
// attribute that is, one value or a list; else a table. nil: it has none of them.
func (d *directory) entry(e *ldap.Entry) any {
	values := func(name string) any {
		list := e.GetEqualFoldAttributeValues(name)
		switch len(list) {
		case 0:
			return nil
		case 1:
			return list[0]
		}
		many := make([]any, len(list))
		for i := range list {
			many[i] = list[i]
		}
		return many
	}
	switch len(d.attributes) {
	case 0:
		return e.DN
	case 1:
		return values(d.attributes[0])
	}
	m := map[string]any{}
	for _, name := range d.attributes {
		if v := values(name); v != nil {
			m[name] = v
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

func (d *directory) reach(ctx context.Context) error {
	_, _, err := d.ask(ctx, fieldsOf("postern-check@invalid"))
	return err
}
