package config

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// KeyDoc documents one key of the configuration.
type KeyDoc struct {
	Section string // dotted, such as "delivery.rule"; empty for a section that is refused as a whole
	Key     string
	Type    string
	Default string // as it is written in a file, or in words; empty: none
	Doc     string // one line, in Markdown
	// Required keys must be written in each entry of their section.
	Required bool
	// Later keys are refused as not available in this version.
	Later bool
	// LaterValues, as Markdown, are values that are refused as not available in this version.
	LaterValues []string
	// List tells that the section is written [[section]].
	List bool

	about string // what the section is
}

// header is the section's name as it is written in a file.
func (k KeyDoc) header() string {
	if k.List {
		return "[[" + k.Section + "]]"
	}
	return "[" + k.Section + "]"
}

// Keys lists every key there is, section by section, from the table that Load reads by.
func Keys() []KeyDoc { return schema().docs() }

// PolicyKeys lists the keys of a [[policy]] entry that are not settings of the policy, for checking the names of
// settings and for suggestions.
func PolicyKeys() []string {
	var names []string
	for _, r := range policyKeys().rows {
		names = append(names, r.name)
	}
	return names
}

// docs lists the keys of a section and of those inside it.
func (sec section[S]) docs() []KeyDoc {
	var own, inner []KeyDoc
	for _, r := range sec.rows {
		if r.bind.keys != nil {
			inner = append(inner, r.bind.keys()...)
			continue
		}
		k := KeyDoc{Section: sec.name, Key: r.name, Type: r.bind.typ, Doc: r.doc, List: sec.list, Later: r.bind.later, LaterValues: r.bind.laterValues, about: sec.doc}
		switch def := r.def.(type) {
		case nil:
		case computed:
			k.Default = string(def)
		case required:
			k.Default, k.Required = "required", true
		default:
			k.Default = literal(def)
		}
		own = append(own, k)
	}
	return append(own, inner...)
}

// literal writes a default as TOML.
func literal(def any) string {
	switch d := def.(type) {
	case string:
		return fmt.Sprintf("`%q`", d)
	case []any:
		return "`[]`" // no default is a list with something in it
	default:
		return fmt.Sprintf("`%v`", d)
	}
}

// WriteReference writes the reference part of docs/config.md: a table for each section.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	var refused []KeyDoc
	last := ""
	for _, k := range Keys() {
		if k.Later || len(k.LaterValues) > 0 {
			refused = append(refused, k)
		}
		if k.Later {
			continue
		}
		if k.Section != last {
			last = k.Section
			fmt.Fprintf(&b, "\n## `%s`\n\n%s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", k.header(), k.about)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Key, cell(k.Type), cell(cmp.Or(k.Default, "not set")), cell(k.Doc))
	}
	b.WriteString("\n## Not available in this version\n\nThese keys and values are refused, with file and line.\n\n| key | values | what it will be |\n|---|---|---|\n")
	for _, k := range refused {
		values := cmp.Or(strings.Join(k.LaterValues, ", "), "all")
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", join(k.Section, k.Key), cell(values), cell(k.Doc))
	}
	_, err := io.WriteString(w, strings.TrimPrefix(b.String(), "\n"))
	if err != nil {
		return fmt.Errorf("config: reference: %w", err)
	}
	return nil
}

// cell makes a text safe inside a table of Markdown.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
