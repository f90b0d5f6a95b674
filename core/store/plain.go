package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Key joins the parts of a key. They are kept apart: {"a", "bc"} and {"ab", "c"}
// are two keys. Every kind of policy makes its keys so, and reads what another
// has written.
func Key(parts ...string) []byte {
	var key []byte
	for i, part := range parts {
		if i > 0 {
			key = append(key, 0, 1)
		}
		if strings.IndexByte(part, 0) >= 0 {
			part = strings.ReplaceAll(part, "\x00", "\x00\xff")
		}
		key = append(key, part...)
	}
	return key
}

// Encode writes a plain value (nil, string, float64, bool, and lists and maps of
// them) as policies store it: as JSON, but a text alone as it is behind a quote,
// whatever bytes it has. A whole number is a counter that Incr can go on with.
func Encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return append([]byte{'"'}, v...), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.AppendInt(nil, int64(v), 10), nil
		}
		return strconv.AppendFloat(nil, v, 'g', -1, 64), nil
	}
	return EncodeJSON(v)
}

// Decode reads what Encode and Incr wrote.
func Decode(b []byte) (any, error) {
	if len(b) > 0 && b[0] == '"' {
		return string(b[1:]), nil
	}
	if f, err := strconv.ParseFloat(string(b), 64); err == nil {
		return f, nil
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// EncodeJSON writes a plain value as JSON; texts must be UTF-8, so that they come
// back as they were.
func EncodeJSON(v any) ([]byte, error) {
	if err := checkUTF8(v); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func checkUTF8(v any) error {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return fmt.Errorf("%q is not UTF-8", v[:min(len(v), 40)])
		}
	case []any:
		for _, item := range v {
			if err := checkUTF8(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for k, item := range v {
			if err := errors.Join(checkUTF8(k), checkUTF8(item)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Misused tells an error that says what is wrong with the call from one of the
// store.
func Misused(err error) bool {
	for _, bad := range []error{ErrKey, ErrValue, ErrTTL, ErrNotCounter, ErrOverflow, ErrBucket} {
		if errors.Is(err, bad) {
			return true
		}
	}
	return false
}
