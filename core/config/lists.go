package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// maxList bounds a file of names or recipients, in bytes: some millions of lines.
	maxList = 128 << 20
	// maxListProblems bounds the findings about one such file.
	maxListProblems = 20
)

// recipients is where the local parts of a domain come from.
func recipients() kind[Recipients] {
	const words = `"any", "local", "callout", "@file.txt" or "lookup:NAME"`
	return reader(words, func(v value) (Recipients, bool) {
		s, ok := v.raw.(string)
		file, isFile := strings.CutPrefix(s, "@")
		switch {
		case !ok:
			v.fail("%s; write %s", v.found(), words)
		case s == "any":
			return Recipients{Any: true}, true
		case s == "local":
			return Recipients{Local: true}, true
		case s == "callout":
			return Recipients{Callout: true}, true
		case isFile && file != "":
			r := Recipients{File: v.load.resolve(file), known: map[string]struct{}{}}
			v.load.list(v, r.File, r.add)
			return r, true
		case strings.HasPrefix(s, "lookup:") && len(s) > len("lookup:"):
			return Recipients{Lookup: strings.TrimPrefix(s, "lookup:")}, true
		case Suggest(s, []string{"any", "local", "callout"}) != "":
			v.fail("%q is unknown; did you mean %q? It takes %s", s, Suggest(s, []string{"any", "local", "callout"}), words)
		default:
			v.fail(`%q is unknown; write "any", "local", "callout", "lookup:NAME", or "@file.txt" with a local part or an address a line`, s)
		}
		return Recipients{}, false
	})
}

// Valid tells whether local@domain is a listed recipient, letter case aside. A local part that is listed alone is valid at
// each name of the entry. Safe for concurrent use.
func (r Recipients) Valid(local, domain string) bool {
	if r.Any {
		return true
	}
	local = strings.ToLower(local)
	if _, ok := r.known[local]; ok {
		return true
	}
	_, ok := r.known[local+"@"+strings.ToLower(domain)]
	return ok
}

// Len is how many recipients are listed; 0 where any is valid.
func (r Recipients) Len() int { return len(r.known) }

// add takes one line of a file of recipients.
func (r Recipients) add(line string) error {
	name := strings.ToLower(line)
	if strings.Contains(name, "@") {
		address, err := parseMailbox(name)
		if err != nil {
			return err
		}
		r.known[address] = struct{}{}
		return nil
	}
	if len(name) > 64 || strings.ContainsAny(name, " \t<>()[],;:\\\"") || name != oneLine(name) {
		return fmt.Errorf(`%q is not a recipient; write a local part such as "user", or an address such as "user@example.net"`, line)
	}
	r.known[name] = struct{}{}
	return nil
}

// list reads a file with one name a line; empty lines and those that begin with # say nothing. What take refuses is
// reported with the file's own lines; that the file can't be read, at the key v that names it.
func (l *loader) list(v value, path string, take func(line string) error) {
	text, err := readList(path)
	if err != nil {
		v.fail("%s can't be read: %v; write the path of a file with one name a line", path, bare(err))
		return
	}
	n, found := 0, 0
	for raw := range bytes.Lines(text) {
		n++
		line := strings.TrimSpace(string(raw))
		if line == "" || line[0] == '#' {
			continue
		}
		err := take(line)
		if err == nil {
			continue
		}
		if found++; found > maxListProblems {
			l.problems = append(l.problems, Problem{File: path, Line: n, Key: v.key, Text: "and more like these; only the first are told"})
			return
		}
		l.problems = append(l.problems, Problem{File: path, Line: n, Key: v.key, Text: oneLine(err.Error())})
	}
}

// readList reads a list's file; only a regular one, since a pipe could keep a start waiting.
func readList(path string) ([]byte, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err == nil && len(text) > maxList {
		err = fmt.Errorf("longer than %s", FormatSize(maxList))
	}
	return text, err
}

// checkFile tells why path is not a regular file.
func checkFile(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("not a regular file")
	}
	return nil
}
