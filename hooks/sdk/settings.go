package sdk

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/proto"
)

// Size is a setting that is a number of bytes, written "50MiB".
type Size int64

// field is a setting and the struct field that holds it.
//
// A field is declared as
//
//	Words []string `postern:"words" doc:"what it is for" default:"one, two"`
//
// The tag postern is the setting's name; behind a comma stands "required" where
// it must be given, and a type where Go's says too little (file, secret,
// domains). The tag enum lists the words of an enum. Without a default a setting
// is the zero value. The types: string, int, int64, float64, bool, time.Duration,
// Size, message.Address, *regexp.Regexp (nil where empty), []netip.Prefix, and
// slices and string maps of these.
type field struct {
	setting *proto.Setting
	value   reflect.Value
}

func readFields(v reflect.Value) ([]field, error) {
	var list []field
	for f, value := range v.Fields() {
		tag, ok := f.Tag.Lookup("postern")
		if !ok {
			continue
		}
		if !f.IsExported() {
			return nil, fmt.Errorf("sdk: field %s has a tag postern, but is not exported", f.Name)
		}
		s, err := readSetting(f, tag)
		if err != nil {
			return nil, fmt.Errorf("sdk: field %s: %w", f.Name, err)
		}
		list = append(list, field{s, value})
	}
	return list, nil
}

func readSetting(f reflect.StructField, tag string) (*proto.Setting, error) {
	name, options, _ := strings.Cut(tag, ",")
	s := &proto.Setting{Name: name, Doc: f.Tag.Get("doc")}
	if s.Type, s.Of = settingType(f.Type); s.Type == "" {
		return nil, fmt.Errorf("a setting can't have the type %s", f.Type)
	}
	if words, ok := f.Tag.Lookup("enum"); ok {
		s.Choices = splitWords(words)
		narrow(s, "enum")
	}
	required := false
	for option := range strings.SplitSeq(options, ",") {
		switch {
		case option == "":
		case option == "required":
			required = true
		case option == "domains" && s.Type == "list":
			s.Type, s.Of = "domains", ""
		default:
			narrow(s, option)
		}
	}
	if !required {
		text, given := f.Tag.Lookup("default")
		s.Default = defaultValue(s, text, given)
	}
	return s, s.Sound()
}

// narrow replaces what Go's type said: of the elements, where there are some.
func narrow(s *proto.Setting, kind string) {
	if s.Of != "" {
		s.Of = kind
	} else {
		s.Type = kind
	}
}

// settingType is the type, and that of the elements, of a field.
func settingType(t reflect.Type) (kind, of string) {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration", ""
	case reflect.TypeFor[Size]():
		return "size", ""
	case reflect.TypeFor[message.Address]():
		return "address", ""
	case reflect.TypeFor[*regexp.Regexp]():
		return "regexp", ""
	case reflect.TypeFor[[]netip.Prefix]():
		return "cidrs", ""
	}
	switch t.Kind() {
	case reflect.String:
		return "string", ""
	case reflect.Bool:
		return "boolean", ""
	case reflect.Int, reflect.Int64:
		return "integer", ""
	case reflect.Float64:
		return "number", ""
	case reflect.Slice:
		if of, deeper := settingType(t.Elem()); deeper == "" {
			return "list", of
		}
	case reflect.Map:
		if of, deeper := settingType(t.Elem()); deeper == "" && t.Key().Kind() == reflect.String {
			return "map", of
		}
	}
	return "", ""
}

func splitWords(s string) []string {
	var words []string
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// defaultValue reads a tag default; where none was given, it is the type's zero.
func defaultValue(s *proto.Setting, text string, given bool) *proto.Value {
	switch s.Type {
	case "list", "cidrs", "domains":
		list := []any{}
		for _, word := range splitWords(text) {
			list = append(list, scalar(s.Of, word))
		}
		return proto.NewValue(list)
	case "map":
		return &proto.Value{Kind: &proto.Value_Map{Map: &proto.Map{}}}
	}
	if !given {
		text = map[string]string{"integer": "0", "number": "0", "duration": "0", "size": "0", "boolean": "false"}[s.Type]
	}
	return proto.NewValue(scalar(s.Type, text))
}

// scalar is a word as the TOML decoder would give it; a word that does not fit
// stays text, which Setting.Sound finds.
func scalar(kind, word string) any {
	switch kind {
	case "integer":
		if n, err := strconv.ParseInt(word, 10, 64); err == nil {
			return n
		}
	case "number":
		if n, err := strconv.ParseFloat(word, 64); err == nil {
			return n
		}
	case "boolean":
		if b, err := strconv.ParseBool(word); err == nil {
			return b
		}
	}
	return word
}

// set puts a checked plain value into a field.
func set(to reflect.Value, v any) error {
	switch to.Interface().(type) {
	case time.Duration:
		n, ok := v.(float64)
		if !ok {
			return misfit(v, "a duration")
		}
		to.SetInt(int64(n * float64(time.Second)))
		return nil
	case message.Address, *regexp.Regexp, netip.Prefix:
		return setText(to, v)
	}
	switch to.Kind() {
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			return misfit(v, "a list")
		}
		out := reflect.MakeSlice(to.Type(), len(list), len(list))
		for i := range list {
			if err := set(out.Index(i), list[i]); err != nil {
				return err
			}
		}
		to.Set(out)
	case reflect.Map:
		return setMap(to, v)
	case reflect.Int, reflect.Int64, reflect.Float64:
		n, ok := v.(float64)
		if !ok {
			return misfit(v, "a number")
		}
		to.Set(reflect.ValueOf(n).Convert(to.Type()))
	default:
		x := reflect.ValueOf(v)
		if !x.IsValid() || x.Kind() != to.Kind() {
			return misfit(v, "a "+to.Kind().String())
		}
		to.Set(x.Convert(to.Type()))
	}
	return nil
}

func setMap(to reflect.Value, v any) error {
	table, ok := v.(map[string]any)
	if !ok {
		return misfit(v, "a table")
	}
	out := reflect.MakeMapWithSize(to.Type(), len(table))
	for key, value := range table {
		element := reflect.New(to.Type().Elem()).Elem()
		if err := set(element, value); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(key).Convert(to.Type().Key()), element)
	}
	to.Set(out)
	return nil
}

// setText sets the types that are read from a text.
func setText(to reflect.Value, v any) error {
	text, ok := v.(string)
	if !ok {
		return misfit(v, "a text")
	}
	var parsed any
	var err error
	switch to.Interface().(type) {
	case message.Address:
		parsed, err = message.ParseAddress(text)
	case netip.Prefix:
		parsed, err = netip.ParsePrefix(text)
	case *regexp.Regexp:
		if text == "" {
			return nil
		}
		parsed, err = regexp.Compile(text)
	}
	if err == nil {
		to.Set(reflect.ValueOf(parsed))
	}
	return err
}

func misfit(v any, want string) error { return fmt.Errorf("%v is not %s", v, want) }

// settingsText lists the settings for a person.
func settingsText(list []*proto.Setting) string {
	var b strings.Builder
	for _, s := range list {
		kind := s.Type
		if s.Of != "" {
			kind += " of " + s.Of
		}
		value := "required"
		if s.Default != nil {
			plain, _ := s.Default.Plain()
			value = fmt.Sprintf("default %v", plain)
		}
		if len(s.Choices) > 0 {
			kind += " (" + strings.Join(slices.Clone(s.Choices), ", ") + ")"
		}
		fmt.Fprintf(&b, "  %s: %s, %s; %s\n", s.Name, s.Doc, kind, value)
	}
	return b.String()
}
