package record

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// plain prints a plain value (see hooks.Edit.Any) within maxText bytes, whatever
// its size, the keys of maps in order.
func plain(v any) string { return string(appendPlain(nil, v, 8)) }

func appendPlain(b []byte, v any, depth int) []byte {
	if len(b) >= maxText || depth == 0 {
		return append(b, "…"...)
	}
	switch v := v.(type) {
	case nil:
		return append(b, "nil"...)
	case string:
		return append(b, clip(v, maxText)...)
	case float64:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case bool:
		return strconv.AppendBool(b, v)
	case []any:
		b = append(b, '[')
		for i, one := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			if b = appendPlain(b, one, depth-1); len(b) >= maxText {
				break
			}
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(b, clip(k, maxText)...)
			b = append(b, " = "...)
			if b = appendPlain(b, v[k], depth-1); len(b) >= maxText {
				break
			}
		}
		return append(b, '}')
	default:
		return fmt.Append(b, v)
	}
}
