package proto

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
)

// What a Value from the other end may not be.
var (
	ErrDeep   = errors.New("lists and maps nested too deeply")
	ErrNumber = errors.New("a number that is not finite")
)

// NewValue makes a Value of a plain Go value: nil, string, bool, any number, and
// slices and maps with string keys of them. Whatever else it meets it writes as
// text; what lies deeper than MaxDepth becomes null.
func NewValue(v any) *Value { return newValue(v, MaxDepth) }

func newValue(v any, depth int) *Value {
	if depth == 0 {
		return &Value{}
	}
	switch v := v.(type) {
	case nil:
		return &Value{}
	case string:
		return textValue(v)
	case bool:
		return &Value{Kind: &Value_Boolean{v}}
	case float64:
		return &Value{Kind: &Value_Number{v}}
	case int:
		return &Value{Kind: &Value_Number{float64(v)}}
	case int64:
		return &Value{Kind: &Value_Number{float64(v)}}
	case []any:
		list := &List{Values: make([]*Value, len(v))}
		for i := range v {
			list.Values[i] = newValue(v[i], depth-1)
		}
		return &Value{Kind: &Value_List{list}}
	case map[string]any:
		return &Value{Kind: &Value_Map{&Map{Values: newMap(v, depth-1)}}}
	}
	return reflectValue(reflect.ValueOf(v), depth)
}

// reflectValue is newValue for the types that are rare.
func reflectValue(v reflect.Value, depth int) *Value {
	switch {
	case v.CanInt():
		return &Value{Kind: &Value_Number{float64(v.Int())}}
	case v.CanUint():
		return &Value{Kind: &Value_Number{float64(v.Uint())}}
	case v.CanFloat():
		return &Value{Kind: &Value_Number{v.Float()}}
	case v.Kind() == reflect.String:
		return textValue(v.String())
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = v.Index(i).Interface()
		}
		return newValue(list, depth)
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		table := make(map[string]any, v.Len())
		for key, value := range v.Seq2() {
			table[key.String()] = value.Interface()
		}
		return newValue(table, depth)
	}
	return textValue(fmt.Sprint(v.Interface()))
}

// NewMap is NewValue for every value of a map; nil for an empty one.
func NewMap(m map[string]any) map[string]*Value { return newMap(m, MaxDepth) }

func newMap(m map[string]any, depth int) map[string]*Value {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]*Value, len(m))
	for k, v := range m {
		out[Text(k)] = newValue(v, depth)
	}
	return out
}

func textValue(s string) *Value { return &Value{Kind: &Value_Text{Text(s)}} }

// Text is s as the wire takes it: valid UTF-8.
func Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Plain is the Go value: nil, string, float64, bool, []any or map[string]any.
// A number that is not finite and a nesting of over MaxDepth is an error.
func (x *Value) Plain() (any, error) { return x.plain(MaxDepth) }

func (x *Value) plain(depth int) (any, error) {
	if depth == 0 && x.GetKind() != nil {
		return nil, ErrDeep
	}
	switch k := x.GetKind().(type) {
	case *Value_Text:
		return k.Text, nil
	case *Value_Boolean:
		return k.Boolean, nil
	case *Value_Number:
		if math.IsNaN(k.Number) || math.IsInf(k.Number, 0) {
			return nil, ErrNumber
		}
		return k.Number, nil
	case *Value_List:
		list := make([]any, len(k.List.GetValues()))
		for i, v := range k.List.GetValues() {
			var err error
			if list[i], err = v.plain(depth - 1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *Value_Map:
		return plainMap(k.Map.GetValues(), depth-1)
	}
	return nil, nil
}

// PlainMap is Plain for every value of a map; never nil.
func PlainMap(m map[string]*Value) (map[string]any, error) { return plainMap(m, MaxDepth) }

func plainMap(m map[string]*Value, depth int) (map[string]any, error) {
	out := make(map[string]any, len(m))
	for k, v := range m {
		var err error
		if out[k], err = v.plain(depth); err != nil {
			return nil, err
		}
	}
	return out, nil
}
