package lua

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/postern-mta/postern/hooks"
)

// WriteReference writes the table of entries as docs/lua-reference.md shows it.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString("## Types\n\n| name | stands for | meaning |\n|---|---|---|\n")
	for _, c := range Classes() {
		if c.Alias != "" {
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", c.Name, cell(c.Alias), c.Doc)
		}
	}
	b.WriteString("\n## Stages\n\nA policy's functions, and what each is given.\n\n```lua\n")
	for _, row := range hooks.Stages() {
		var names []string
		for _, p := range Arguments(row.Stage) {
			names = append(names, p.Name)
		}
		fmt.Fprintf(&b, "function policy.%s(%s)\n", row.Name, strings.Join(names, ", "))
	}
	b.WriteString("```\n")
	for _, part := range []struct {
		title string
		list  []section
	}{{"Language", languageSections()}, {"What a handler sees", objectSections()}, {"Libraries", librarySections()}} {
		fmt.Fprintf(&b, "\n## %s\n", part.title)
		for i := range part.list {
			part.list[i].write(&b)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell escapes what would end a table's cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

// write is a section: a table of its members, then what they give.
func (s *section) write(b *strings.Builder) {
	switch {
	case s.class == "":
		fmt.Fprintf(b, "\n### %s\n\n", capital(s.doc))
	case s.class == s.name || strings.HasSuffix(s.class, "lib"):
		fmt.Fprintf(b, "\n### `%s`\n\n%s\n\n", s.name, s.doc)
	default:
		fmt.Fprintf(b, "\n### `%s`: type %s\n\n%s\n\n", s.name, s.class, s.doc)
	}
	if len(s.items) == 0 {
		return
	}
	if at := stageList(s.stages); at != "" {
		fmt.Fprintf(b, "Known at %s.\n\n", at)
	}
	b.WriteString("| | |\n|---|---|\n")
	for _, i := range s.items {
		e := s.entry(i)
		fmt.Fprintf(b, "| `%s` | %s%s |\n", cell(e.Signature()), cell(e.Doc), s.limits(&e))
	}
	s.examples(b)
}

// limits tells where an entry is legal, if that is not where its section is.
func (s *section) limits(e *Entry) string {
	text := ""
	if len(e.Stages) > 0 && !slices.Equal(e.Stages, s.stages) {
		text += " At " + stageList(e.Stages) + "."
	}
	if len(e.SetAt) > 0 {
		text += " Can be set at " + stageList(e.SetAt) + "."
	}
	return text
}

// stageList names stages; a run of three or more of them by its ends.
func stageList(list []hooks.Stage) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if j-i >= 2 {
			parts = append(parts, fmt.Sprintf("`%s` to `%s`", list[i], list[j]))
			i = j + 1
			continue
		}
		parts = append(parts, fmt.Sprintf("`%s`", list[i]))
		i++
	}
	return strings.Join(parts, ", ")
}

// examples are the examples of a section, in order.
func (s *section) examples(b *strings.Builder) {
	var short, long []string
	for _, i := range s.items {
		switch {
		case i.example == "":
		case strings.Contains(i.example, "return p"):
			long = append(long, i.example)
		default:
			short = append(short, i.example)
		}
	}
	if len(short) > 0 {
		long = append([]string{strings.Join(short, "\n")}, long...)
	}
	for _, example := range long {
		fmt.Fprintf(b, "\n```lua\n%s\n```\n", example)
	}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
