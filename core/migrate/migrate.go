// Package migrate turns the configuration of another mail server (qmail, qpsmtpd,
// Haraka, Postfix) into one of Postern, and lists what has no equivalent or behaves in
// another way.
//
// Each source has a file of its own, with tables of what its names become. Readers of
// the sources believe nothing: files and lines are bounded, and what can't be read is
// told with its place. Nothing here writes to the disk.
package migrate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Result is what a source became.
type Result struct {
	Files []File // postern.toml first; then what it names, all in one folder
	Notes []Note // in the order of the source's files and lines
}

// File is one to be written.
type File struct {
	Name string
	Text string
	Mode fs.FileMode
}

// Kind says what a Note tells.
type Kind string

// Kinds of notes.
const (
	Missing Kind = "missing" // it has no equivalent, and is left out
	Differs Kind = "differs" // it behaves in another way here
	Todo    Kind = "todo"    // somebody has to do something
	Unknown Kind = "unknown" // it is not known what it is
	Unused  Kind = "unused"  // it means nothing here, and nothing is lost by that
)

// Note is about one thing of the source.
type Note struct {
	File string `json:"file"`           // as it was opened
	Line int    `json:"line,omitempty"` // 0: the whole file
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}

func (n Note) String() string {
	at := n.File
	if n.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, n.Line)
	}
	return strings.Map(printable, fmt.Sprintf("%s: %s: %s: %s", at, n.Name, n.Kind, n.Text))
}

// maxFile bounds what is read of one file of a source.
const maxFile = 64 << 20

// source is what all readers share.
type source struct {
	dir   string
	was   string // where the server has this folder, "" where that doesn't matter
	doc   document
	files []File
	notes []Note
	errs  []error
}

func (s *source) note(kind Kind, file string, line int, name, format string, args ...any) {
	s.notes = append(s.notes, Note{file, line, name, kind, fmt.Sprintf(format, args...)})
}

// read is a file of the source, or one that it names; false where it is not there. One
// that can't be read is an error of the whole.
func (s *source) read(name string) (string, bool) {
	text, err := readFile(s.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false
	case err != nil:
		s.errs = append(s.errs, err)
		return "", false
	}
	return text, true
}

// path is where a file of the source is.
func (s *source) path(name string) string {
	if rest, ok := strings.CutPrefix(name, s.was+"/"); ok && s.was != "" && !exists(name) && exists(filepath.Join(s.dir, rest)) {
		return filepath.Join(s.dir, rest) // a copy of the folder is read
	}
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

func readFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s has more than %d MiB", name, maxFile>>20)
	}
	return string(b), err
}

// file adds one beside postern.toml, and returns what a key with "@" says.
func (s *source) file(name, text string) string {
	s.addFile(name, text, 0o644)
	return "@" + name
}

func (s *source) addFile(name, text string, mode fs.FileMode) {
	for i := range s.files {
		if s.files[i].Name == name {
			s.files[i].Text += text
			return
		}
	}
	s.files = append(s.files, File{name, text, mode})
}

// result ends a reading.
func (s *source) result() (*Result, error) {
	if err := errors.Join(s.errs...); err != nil {
		return nil, err
	}
	files := append([]File{{"postern.toml", s.doc.String(), 0o644}}, s.files...)
	return &Result{Files: files, Notes: s.notes}, nil
}

// line is one of a file, without its comment and the blanks around it.
type line struct {
	number int
	text   string
}

// sorted walks a table in the order of its keys, so that what is made is always the same.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

// lines are those of a text that say something: without empty ones and those that begin
// with #.
func lines(text string) (list []line) {
	n := 0
	for l := range strings.Lines(text) {
		n++
		l = strings.TrimSpace(l)
		if l != "" && l[0] != '#' {
			list = append(list, line{n, l})
		}
	}
	return list
}

// names are the regular files of a folder, sorted; none where it is not there.
func (s *source) names(dir string) (list []string) {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.errs = append(s.errs, err)
		}
		return nil
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(s.path(dir), e.Name())); err == nil && info.Mode().IsRegular() {
			list = append(list, e.Name())
		}
	}
	slices.Sort(list)
	return list
}
