package lookup

import (
	"io"

	"github.com/postern-mta/postern/core/cdb"
)

// constant is a constant database whose keys are found as written, or in lower case.
type constant struct{ *cdb.Reader }

// openCDB reads where the tables are. r is asked for as long as the table is used.
func openCDB(r io.ReaderAt, size int64) (table, error) {
	c, err := cdb.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	return constant{c}, nil
}

func (c constant) get(key string) (any, bool, error) {
	v, ok, err := c.Find(key)
	if lower := fold(key); err == nil && !ok && lower != key {
		v, ok, err = c.Find(lower)
	}
	return v, ok, err
}
