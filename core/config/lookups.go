package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// This file holds [[lookup]] entries.

// Lookup is one [[lookup]] entry.
type Lookup struct {
	Pos
	Name   string // unique
	Type   string // "text", "toml", "cdb", "sqlite", "postgresql", "redis", "ldap" or "http"
	Source string // absolute path of the first four, URL of the others

	Query        string
	Base         string // of LDAP
	Scope        string // of LDAP: "sub", "one" or "base"
	Attributes   []string
	StartTLS     bool
	User         string
	PasswordFile string // absolute
	Timeout      time.Duration
	Concurrency  int
	Positive     time.Duration
	Negative     time.Duration
	Entries      int
	OnFailure    string // "defer" or "stale"
}

// lookupSchemes are the types of what begins with a scheme.
func lookupSchemes() map[string]string {
	return map[string]string{
		"http": "http", "https": "http", "postgres": "postgresql", "postgresql": "postgresql",
		"redis": "redis", "rediss": "redis", "unix": "redis", "ldap": "ldap", "ldaps": "ldap", "ldapi": "ldap",
	}
}

func lookupKeys() section[Lookup] {
	return section[Lookup]{
		name: "lookup", list: true, doc: "Named maps, of files, databases and other services, for the Lua library lookup and for `recipients = \"lookup:NAME\"`; `postern lookup NAME KEY` tries one. A file that changes is read again within a second of the next question, without a reload; where it can't be read, what it held before goes on to count, and the log says so. See [docs/lookups.md](lookups.md).",
		begin: func(k *Lookup, v value) { k.Pos = v.pos("lookup") },
		rows: []row[Lookup]{
			{"name", to(word("users"), func(k *Lookup) *string { return &k.Name }), required(`"users"`), "what scripts call it; `users` is what `lookup.user` asks"},
			{"type", to(enum(options{now: []string{"text", "toml", "cdb", "sqlite", "postgresql", "redis", "ldap", "http"}}), func(k *Lookup) *string { return &k.Type }), computed("by the begin or end of `source`: `http://`, `postgres://`, `redis://`, `ldap://`…, `.toml`, `.cdb`, `.sqlite`, else `text`"), "`text`: a key and its value on each line; `toml`: keys and values, which may be tables; `cdb`: a constant database; the others are asked for each key"},
			{"source", to(mapSource(), func(k *Lookup) *string { return &k.Source }), required(`"users.toml"`), "the file; replace it by renaming a new one, so that nobody reads half of it. Of services their URL, without a password: `postgres://HOST/DATABASE`, `redis://HOST:PORT/NUMBER`, `ldaps://HOST`, `https://HOST/PATH/{key}`"},
			{"query", to(sentence("`SELECT value FROM users WHERE address = {key}`"), func(k *Lookup) *string { return &k.Query }), nil, "SQL: a SELECT; `redis`: a command that reads, `GET {key}` where none is written; `ldap`: a filter. {key} stands for the key, {user} and {domain} for its parts before and behind the last @; whatever is in them, they stay one value"},
			{"base", to(sentence("`ou=people,dc=example,dc=net`"), func(k *Lookup) *string { return &k.Base }), nil, "`ldap`: the entry below which is searched"},
			{"scope", to(enum(options{now: []string{"sub", "one", "base"}}), func(k *Lookup) *string { return &k.Scope }), "sub", "`ldap`: all below `base`, its children, or itself alone"},
			{"attributes", to(listOf(word("mail"), `"mail"`), func(k *Lookup) *[]string { return &k.Attributes }), []any{}, "`ldap`: what the value is made of; one: its value, several: a table; none: the name of the entry"},
			{"starttls", to(boolean(), func(k *Lookup) *bool { return &k.StartTLS }), false, "`ldap`: whether `ldap://` begins TLS before all else"},
			{"user", to(scalar("user", `"postern"`, parseUser), func(k *Lookup) *string { return &k.User }), nil, "name to log in with; `ldap`: to bind with"},
			{"password_file", to(path(), func(k *Lookup) *string { return &k.PasswordFile }), "", "file whose first line is the password, read for each connection; of `http` without `user` it is a bearer token"},
			{"timeout", to(duration(time.Millisecond), func(k *Lookup) *time.Duration { return &k.Timeout }), "5s", "of services: time for one answer, waiting for its turn included; later is a failure"},
			{"concurrency", to(count(1), func(k *Lookup) *int { return &k.Concurrency }), 8, "of services: questions, and connections, at a time"},
			{"positive", to(duration(0), func(k *Lookup) *time.Duration { return &k.Positive }), "5m", "of services: how long an answer counts; 0: it is asked each time"},
			{"negative", to(duration(0), func(k *Lookup) *time.Duration { return &k.Negative }), "30s", "of services: how long it counts that a key is not there"},
			{"entries", to(count(0), func(k *Lookup) *int { return &k.Entries }), 10000, "of services: answers that are remembered, 32 MiB at most; beyond it, the one not used for the longest time goes"},
			{"on_failure", to(enum(options{now: []string{"defer", "stale"}}), func(k *Lookup) *string { return &k.OnFailure }), "defer", "of services, where a question fails: it is a temporary error, and never an unknown recipient; `stale`: an answer that is remembered counts, however old, and without one it is a temporary error"},
		},
	}
}

// mapSource is a file, made absolute, or a URL.
func mapSource() kind[string] {
	file := path()
	return reader("path or URL", func(v value) (string, bool) {
		s, _ := v.raw.(string)
		if scheme, _, ok := strings.Cut(s, "://"); ok && lookupSchemes()[scheme] != "" {
			if s != oneLine(s) {
				v.fail("holds control characters; write a URL")
				return "", false
			}
			return s, true
		}
		return file.read(v)
	})
}

// nameLookups gives every map its type, and reports a name that stands twice.
func (l *loader) nameLookups(c *Config) {
	seen := map[string]int{}
	for i := range c.Lookups {
		m := &c.Lookups[i]
		if m.Type == "" {
			m.Type = typeOf(m.Source)
		}
		l.problems = append(l.problems, m.check()...)
		if first, twice := seen[m.Name]; twice && m.Name != "" {
			l.problems = append(l.problems, m.Problem("name", fmt.Sprintf("%q is the name of the map on line %d already; write another name", m.Name, first)))
			continue
		}
		seen[m.Name] = m.Line
	}
	for i := range c.Domains {
		d := &c.Domains[i]
		name := d.Recipients.Lookup
		if _, ok := seen[name]; ok || name == "" {
			continue
		}
		text := fmt.Sprintf(`no [[lookup]] has the name %q; write one with name = %q`, name, name)
		var names []string
		for _, m := range c.Lookups {
			names = append(names, m.Name)
		}
		if near := Suggest(name, names); near != "" {
			text = fmt.Sprintf("no [[lookup]] has the name %q; did you mean %q?", name, near)
		}
		l.problems = append(l.problems, d.Problem("recipients", text))
	}
}

// typeOf is the type of a map that says none.
func typeOf(source string) string {
	if scheme, _, ok := strings.Cut(source, "://"); ok && lookupSchemes()[scheme] != "" {
		return lookupSchemes()[scheme]
	}
	switch end := strings.TrimPrefix(filepath.Ext(source), "."); end {
	case "toml", "cdb":
		return end
	case "sqlite", "sqlite3":
		return "sqlite"
	}
	return "text"
}

// check finds keys that the map's type does not know, those that it lacks, and a source that is none of its kind.
func (m *Lookup) check() (found Problems) {
	known := map[string][]string{
		"sqlite":     {"query"},
		"postgresql": {"query", "user", "password_file"},
		"redis":      {"query", "user", "password_file"},
		"ldap":       {"query", "base", "scope", "attributes", "starttls", "user", "password_file"},
		"http":       {"user", "password_file"},
	}[m.Type]
	service := known != nil
	bounds := []string{"timeout", "concurrency", "positive", "negative", "entries", "on_failure"}
	for _, key := range append([]string{"query", "base", "scope", "attributes", "starttls", "user", "password_file"}, bounds...) {
		if m.node.child(key) != nil && !slices.Contains(known, key) && !(service && slices.Contains(bounds, key)) {
			found = append(found, m.Problem(key, fmt.Sprintf("a map of type %q has no such key; leave it out", m.Type)))
		}
	}
	if m.Source == "" {
		return found
	}
	url := lookupSchemes()[strings.SplitN(m.Source, "://", 2)[0]]
	isURL := strings.Contains(m.Source, "://") && url != ""
	switch {
	case service && m.Type != "sqlite" && url != m.Type:
		found = append(found, m.Problem("source", fmt.Sprintf("is no URL of type %q; write %s", m.Type, exampleURL(m.Type))))
	case isURL && (!service || m.Type == "sqlite"):
		found = append(found, m.Problem("source", fmt.Sprintf("is a URL, and a map of type %q is a file; write its path, or type = %q", m.Type, url)))
	}
	if slices.Contains(known, "query") && m.Query == "" && m.Type != "redis" {
		example := `query = "SELECT value FROM users WHERE address = {key}"`
		if m.Type == "ldap" {
			example = `query = "(mail={key})"`
		}
		found = append(found, m.Problem("query", "missing; write "+example))
	}
	if m.Type == "ldap" && m.Base == "" {
		found = append(found, m.Problem("base", `missing; write base = "dc=example,dc=net"`))
	}
	if m.User != "" && m.Type == "http" && m.PasswordFile == "" {
		found = append(found, m.Problem("password_file", `missing; write password_file = "password"`))
	}
	if m.Positive == 0 && m.Negative == 0 && m.OnFailure == "stale" && m.Entries == 0 {
		found = append(found, m.Problem("on_failure", `"stale" needs answers that are remembered; write entries = 10000`))
	}
	return found
}

func exampleURL(typ string) string {
	return map[string]string{
		"postgresql": `"postgres://db.example/mail"`, "redis": `"redis://127.0.0.1:6379/0"`,
		"ldap": `"ldaps://ldap.example"`, "http": `"https://directory.example/users/{key}"`,
	}[typ]
}
