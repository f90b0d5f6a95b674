package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

const protocolHead = `# Plugin protocol: every call and field

Generated from hooks/proto/policy.proto by ` + "`make generate`" + `. How a plugin is started,
and in what order it is called, is told in [plugins.md](plugins.md).

`

const protocolFile = "hooks/proto/policy.proto"

// writeProtocol makes tables of the protocol's file: of each service its calls, of
// each message its fields, of each enum its values, with the comments that stand
// before and behind them.
func writeProtocol(out io.Writer) error {
	text, err := os.ReadFile(protocolFile)
	if err != nil {
		if text, err = os.ReadFile("../" + protocolFile); err != nil {
			return err
		}
	}
	p := protocol{out: out}
	for line := range strings.Lines(string(text)) {
		if err := p.line(strings.TrimSpace(line)); err != nil {
			return err
		}
	}
	return nil
}

// protocol reads the file line by line. It knows the forms that the file has.
type protocol struct {
	out     io.Writer
	comment []string // before the next thing
	block   string   // service, message, enum or ""
	oneof   string   // the name of the one that is open
	about   []string // of the row that is open
	row     string   // what stands before its comment
}

func (p *protocol) line(line string) error {
	code, behind, _ := strings.Cut(line, "//")
	code, behind = strings.TrimSpace(code), strings.TrimSpace(behind)
	switch {
	case line == "":
		p.end()
		p.comment = nil
	case code == "":
		p.end()
		p.comment = append(p.comment, strings.TrimPrefix(strings.TrimPrefix(line, "//"), " "))
	case p.block == "":
		return p.open(code)
	case code == "}" && p.oneof != "":
		p.end()
		p.oneof = ""
	case code == "}":
		p.end()
		fmt.Fprintln(p.out)
		p.block = ""
	case strings.HasPrefix(code, "oneof "):
		p.oneof = strings.Fields(code)[1]
	default:
		p.end()
		p.row, p.about = code, append(p.comment, behind)
		p.comment = nil
	}
	return nil
}

// open begins a block.
func (p *protocol) open(code string) error {
	words := strings.Fields(strings.Trim(code, "{}; "))
	kind := words[0]
	if kind != "service" && kind != "message" && kind != "enum" {
		p.comment = nil // syntax, package, option
		return nil
	}
	name, inside, short := strings.Cut(code, "{")
	name = strings.Fields(name)[1]
	fmt.Fprintf(p.out, "## %s %s\n\n", kind, name)
	p.text()
	body := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(inside), "}"))
	closed := short && strings.HasSuffix(code, "}")
	if closed && body == "" {
		return nil
	}
	switch kind {
	case "service":
		fmt.Fprint(p.out, "| call | takes | answers | |\n|---|---|---|---|\n")
	case "message":
		fmt.Fprint(p.out, "| field | type | number | |\n|---|---|---|---|\n")
	case "enum":
		fmt.Fprint(p.out, "| value | number | |\n|---|---|---|\n")
	}
	p.block = kind
	if closed {
		for one := range strings.SplitSeq(body, ";") {
			if one = strings.TrimSpace(one); one != "" {
				p.row, p.about = one+";", nil
				p.end()
			}
		}
		fmt.Fprintln(p.out)
		p.block = ""
	}
	return nil
}

// text writes the comment of a block; what is indented in it stays as it is.
func (p *protocol) text() {
	fenced := false
	for _, line := range p.comment {
		if indented := strings.HasPrefix(line, "  "); indented != fenced && line != "" {
			fmt.Fprintln(p.out, "```")
			fenced = indented
		}
		if !fenced {
			line = escape(line)
		}
		fmt.Fprintln(p.out, line)
	}
	if fenced {
		fmt.Fprintln(p.out, "```")
	}
	if len(p.comment) > 0 {
		fmt.Fprintln(p.out)
	}
	p.comment = nil
}

// end writes the row that is open.
func (p *protocol) end() {
	if p.row == "" {
		return
	}
	about := escape(strings.TrimSpace(strings.Join(p.about, " ")))
	row := strings.TrimSuffix(p.row, ";")
	if p.block == "service" {
		call := strings.NewReplacer("rpc ", "", " returns ", "", "(", "|", ")", "|").Replace(row)
		parts := strings.Split(call, "|")
		fmt.Fprintf(p.out, "| `%s` | %s | %s | %s |\n", strings.TrimSpace(parts[0]), parts[1], parts[3], about)
	} else {
		left, number, _ := strings.Cut(row, " = ")
		kind, name := "", left
		if i := strings.LastIndex(left, " "); i >= 0 {
			kind, name = left[:i], left[i+1:]
		}
		if p.oneof != "" {
			kind += ", one of " + p.oneof
		}
		if p.block == "enum" {
			fmt.Fprintf(p.out, "| `%s` | %s | %s |\n", name, number, about)
		} else {
			fmt.Fprintf(p.out, "| `%s` | %s | %s | %s |\n", name, escape(kind), number, about)
		}
	}
	p.row, p.about = "", nil
}

// escape keeps the characters of a comment from being Markdown.
func escape(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "[", "\\[", "*", "\\*", "_", "\\_").Replace(s)
}
