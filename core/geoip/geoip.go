// Package geoip tells what is known of IP addresses, from databases in the form of
// MaxMind (mmdb): countries, cities, operators of networks.
//
// A DB is made of files and never changes; a new one takes over the files that
// are as they were, so that a reload reads only what is new. Files are read into
// memory, so that one that is replaced or cut while it is in use harms nothing.
package geoip

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// maxFile is the size of the largest database that is read.
const maxFile = 1 << 30

// Bounds of one record.
const (
	maxDepth = 16
	maxItems = 2000
)

// DB is some databases. It is safe for concurrent use.
type DB struct {
	files []file
}

// file is one database, and what tells whether it is still the same.
type file struct {
	path     string
	size     int64
	modified time.Time
	reader   *maxminddb.Reader
}

// Open reads databases. Of old, which may be nil, it takes over those whose files
// have not changed. The error names the file.
func Open(paths []string, old *DB) (*DB, error) {
	db := &DB{}
	for _, path := range paths {
		f, err := open(path, old)
		if err != nil {
			return nil, fmt.Errorf("geoip: %s: %w", path, err)
		}
		db.files = append(db.files, f)
	}
	return db, nil
}

var errFile = errors.New("not a plain file of at most 1 GiB")

func open(path string, old *DB) (file, error) {
	in, err := os.Open(path)
	if err != nil {
		return file{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return file{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return file{}, errFile
	}
	f := file{path: path, size: info.Size(), modified: info.ModTime()}
	if old != nil {
		same := func(o file) bool { return o.path == path && o.size == f.size && o.modified.Equal(f.modified) }
		if i := slices.IndexFunc(old.files, same); i >= 0 {
			return old.files[i], nil
		}
	}
	content := make([]byte, info.Size())
	if _, err := io.ReadFull(in, content); err != nil {
		return file{}, err
	}
	f.reader, err = maxminddb.OpenBytes(content)
	return f, err
}

// Lookup is what the databases say of an address: texts, numbers (float64),
// booleans, []any and map[string]any. Where several have a field of one name, the
// first one counts. nil: none knows the address.
func (db *DB) Lookup(addr netip.Addr) (map[string]any, error) {
	var all map[string]any
	for _, f := range db.files {
		if addr.Is6() && f.reader.Metadata.IPVersion == 4 {
			continue
		}
		result := f.reader.Lookup(addr)
		if err := result.Err(); err != nil {
			return nil, fmt.Errorf("geoip: %s: %w", f.path, err)
		}
		if !result.Found() {
			continue
		}
		var record map[string]any
		if err := result.Decode(&record); err != nil {
			return nil, fmt.Errorf("geoip: %s: %w", f.path, err)
		}
		left := maxItems
		fields, _ := plain(record, 0, &left).(map[string]any)
		maps.Copy(fields, all)
		all = fields
	}
	return all, nil
}

// plain turns numbers into float64 and leaves out what is beyond the bounds.
func plain(v any, depth int, left *int) any {
	if *left--; *left < 0 || depth > maxDepth {
		return nil
	}
	switch v := v.(type) {
	case string, bool, float64:
		return v
	case float32:
		return float64(v)
	case int:
		return float64(v)
	case int32:
		return float64(v)
	case int64:
		return float64(v)
	case uint16:
		return float64(v)
	case uint32:
		return float64(v)
	case uint64:
		return float64(v)
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			if item = plain(item, depth+1, left); item != nil {
				out = append(out, item)
			}
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, item := range v {
			if item = plain(item, depth+1, left); item != nil {
				out[name] = item
			}
		}
		return out
	}
	return nil // bytes and 128-bit numbers
}
