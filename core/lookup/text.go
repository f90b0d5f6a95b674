package lookup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"
)

// entries are a table in memory.
type entries map[string]any

func (e entries) get(key string) (any, bool, error) {
	v, ok := e[stored(key)]
	return v, ok, nil
}

// lines are a table in memory whose values are texts.
type lines map[string]string

func (l lines) get(key string) (any, bool, error) {
	v, ok := l[stored(key)]
	return v, ok, nil
}

// fold is a key as it is stored: ASCII in lower case.
func fold(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.Map(func(r rune) rune {
				if 'A' <= r && r <= 'Z' {
					return r + 'a' - 'A'
				}
				return r
			}, s)
		}
	}
	return s
}

// stored is a key of a file as it is stored; a network is written in its usual
// form, so that Network finds it.
func stored(key string) string {
	if strings.Contains(key, "/") || strings.Contains(key, ":") {
		if p, err := netip.ParsePrefix(key); err == nil {
			return p.Masked().String()
		}
		if a, err := netip.ParseAddr(key); err == nil {
			return a.String()
		}
	}
	return fold(key)
}

// readText reads "key value…" lines. A key may stand twice with the same value.
func readText(r io.Reader, size int64) (table, error) {
	if size > maxText {
		return nil, fmt.Errorf("the file has more than %d MiB", maxText>>20)
	}
	in := bufio.NewScanner(io.LimitReader(r, maxText))
	in.Buffer(nil, maxValue)
	all := lines{}
	n := 0
	for in.Scan() {
		n++
		line := strings.TrimSpace(in.Text())
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		key, value := stored(line[:end]), strings.TrimSpace(line[end:])
		if before, ok := all[key]; ok && before != value {
			return nil, fmt.Errorf("line %d: %q stands twice, with two values; take one out", n, key)
		}
		all[key] = value
	}
	if err := in.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("line %d is longer than %d MiB", n+1, maxValue>>20)
		}
		return nil, err
	}
	return all, nil
}

// maxDepth is how deep tables and lists of a TOML file may stand in each other.
const maxDepth = 32

// readTOML reads keys and values.
func readTOML(r io.Reader, size int64) (table, error) {
	if size > maxTOML {
		return nil, fmt.Errorf("the file has more than %d MiB; a map of that size is better a constant database", maxTOML>>20)
	}
	var tree map[string]any
	if _, err := toml.NewDecoder(io.LimitReader(r, maxTOML)).Decode(&tree); err != nil {
		if e, ok := errors.AsType[toml.ParseError](err); ok {
			return nil, fmt.Errorf("line %d: %s", e.Position.Line, e.Message)
		}
		return nil, err
	}
	all := entries{}
	for key, v := range tree {
		value, err := plain(v, 0)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", key, err)
		}
		if _, ok := all[stored(key)]; ok {
			return nil, fmt.Errorf("%q stands twice, letter case aside; take one out", stored(key))
		}
		all[stored(key)] = value
	}
	return all, nil
}

// plain turns what TOML has into what Get gives.
func plain(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("tables and lists stand too deep in each other")
	}
	switch v := v.(type) {
	case int64:
		return float64(v), nil
	case time.Time:
		return v.Format(time.RFC3339), nil
	case []map[string]any:
		list := make([]any, len(v))
		for i := range v {
			one, err := plain(v[i], depth)
			if err != nil {
				return nil, err
			}
			list[i] = one
		}
		return list, nil
	case []any:
		list := make([]any, len(v))
		for i := range v {
			one, err := plain(v[i], depth+1)
			if err != nil {
				return nil, err
			}
			list[i] = one
		}
		return list, nil
	case map[string]any:
		m := make(map[string]any, len(v))
		for k := range v {
			one, err := plain(v[k], depth+1)
			if err != nil {
				return nil, err
			}
			m[k] = one
		}
		return m, nil
	}
	return v, nil
}

// inode tells a file from another one that took its name.
func inode(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(st.Ino) // its type differs between systems
	}
	return 0
}
