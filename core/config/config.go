// Package config turns postern.toml, and the files of conf.d beside it, into plain Go values, strictly.
//
// One pass tells every error at once, each as
//
//	FILE:LINE: key: what is wrong; what to write
//
// so that a start either works or says why. How it goes, in order:
//
//   - Find chooses the file: -c, POSTERN_CONFIG, ./postern.toml, /etc/postern/postern.toml, else the built-in default.
//   - Load reads it. BurntSushi/toml decodes the text into a tree; lines.go walks the same text once more and says on
//     which line each key and each list element stands, which the decoder doesn't tell.
//   - keys.go holds the schema: one row a key, with type, default and meaning. Reading it is reading the manual; Keys
//     and WriteReference print it. schema.go walks a tree along it; kinds.go and values.go read single values.
//   - finish.go fills in what depends on other keys; check.go holds the rules that join several keys.
//
// The values are plain (durations, bytes, prefixes, strings): this package imports nothing else of Postern's, and
// cmd/postern hands the values to the packages that act on them. A value that belongs to a later version is refused as
// "not available in this version", never read and ignored.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds one configuration file, in bytes: long lists belong into files that a key names.
const maxFile = 1 << 20

// Options says what Load does not find on disk.
type Options struct {
	// Default is the text of the built-in configuration, used where Load is given no path.
	Default []byte
	// Name is what messages call the built-in configuration; empty stands for "built-in postern.toml".
	Name string
}

// Load reads the configuration at path with the files conf.d/*.toml of the same folder, in the order of their names.
// With an empty path it reads o.Default, without conf.d and relative to the working folder.
//
// A key of a [section] may stand once in all files together; [[entries]] of later files follow those of earlier ones.
// Relative paths in any of the files are relative to the folder of path, and absolute in the result.
//
// The Config is nil only where a file could not be read or is not TOML; where Problems holds errors
// (Problems.Err is not nil) it is there for further checks, but must not be run.
func Load(path string, o Options) (*Config, Problems) {
	l := &loader{keys: map[string]Pos{}}
	sources, whole := l.sources(path, o)
	c := &Config{Path: path, Dir: l.dir, keys: l.keys}
	root := schema()
	root.setDefaults(l, c)

	for _, s := range sources {
		c.Files = append(c.Files, s.name)
		tree, lines, problem := parse(s)
		if problem != nil {
			l.problems = append(l.problems, *problem)
			whole = false
			continue
		}
		root.walk(value{load: l, raw: tree, node: lines, file: s.name}, c)
	}
	if !whole {
		return nil, l.problems.Sorted()
	}
	l.main = Pos{File: sources[0].name, Line: 1}
	c.main = l.main
	finish(l, c)
	check(l, c)
	return c, l.problems.Sorted()
}

// loader is the state of one Load: what was found wrong so far, and where each key of a [section] stands.
type loader struct {
	dir      string // absolute folder that relative paths start from
	main     Pos    // the first line of the main file: where the absence of something is reported
	problems Problems
	keys     map[string]Pos // "limits.hops" → where it was set; entries of [[lists]] carry their own Pos
}

// source is one file's text and the name that messages give it.
type source struct {
	name string
	text []byte
}

// sources returns the texts to read, the main one first; whole is false where one of them can't be read.
func (l *loader) sources(path string, o Options) (all []source, whole bool) {
	dir, err := filepath.Abs(filepath.Dir(path)) // of an empty path: the working folder
	if err != nil {
		dir = filepath.Dir(path)
	}
	l.dir = dir
	if path == "" {
		return []source{{name: defaultName(o), text: o.Default}}, true
	}
	text, err := readConfig(path)
	if err != nil {
		l.problems = append(l.problems, Problem{File: path, Line: 1, Text: fmt.Sprintf("can't be read: %v", bare(err))})
		return nil, false
	}
	all, whole = []source{{name: path, text: text}}, true
	more, err := filepath.Glob(filepath.Join(escapeGlob(filepath.Dir(path)), "conf.d", "*.toml"))
	if err != nil {
		l.problems = append(l.problems, Problem{File: path, Line: 1, Text: fmt.Sprintf("conf.d can't be listed: %v", err)})
		whole = false
	}
	slices.Sort(more)
	for _, name := range more {
		text, err := readConfig(name)
		if err != nil {
			l.problems = append(l.problems, Problem{File: name, Line: 1, Text: fmt.Sprintf("can't be read: %v", bare(err))})
			whole = false
			continue
		}
		all = append(all, source{name: name, text: text})
	}
	return all, whole
}

// defaultName is how messages call the built-in configuration.
func defaultName(o Options) string {
	if o.Name != "" {
		return o.Name
	}
	return "built-in postern.toml"
}

// escapeGlob makes a folder's name literal inside a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// readConfig reads one configuration file of bounded size; a pipe is welcome.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("longer than %s", FormatSize(maxFile))
	}
	return text, nil
}

// bare strips the operation and the path from a file error, since the message names the file already.
func bare(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

// parse decodes one file and finds the lines of its keys.
func parse(s source) (map[string]any, *node, *Problem) {
	lines, tooDeep := scan(string(s.text))
	if tooDeep > 0 {
		// The decoder calls itself once a level, so this comes before it.
		return nil, nil, &Problem{File: s.name, Line: tooDeep, Text: fmt.Sprintf("nested more than %d levels deep", maxDepth)}
	}
	var tree map[string]any
	_, err := toml.Decode(string(s.text), &tree)
	if err == nil {
		return tree, lines, nil
	}
	p := &Problem{File: s.name, Line: 1, Text: "not TOML: " + err.Error()}
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		// From the offset: the decoder's own line is the next one where a line ends too early.
		text := bytes.TrimPrefix(s.text, []byte("\ufeff"))
		p.Line = 1 + bytes.Count(text[:min(max(0, e.Position.Start), len(text))], []byte("\n"))
		p.Key, p.Text = e.LastKey, "not TOML: "+e.Message
	}
	p.Text = oneLine(p.Text)
	return nil, nil, p
}
