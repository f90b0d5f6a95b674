package lua

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	lua "github.com/yuin/gopher-lua"
)

// Coverage counts how often the statements of scripts ran that were compiled with
// it (Options.Coverage). It is safe for concurrent use; its zero value is ready.
type Coverage struct {
	mu    sync.Mutex
	files map[string]*covered
}

// covered is the statements of one file, in the order of the parser.
type covered struct {
	sum   [sha256.Size]byte // of the source
	lines []int
	hits  []atomic.Uint64
}

// FileCoverage is what ran of one file.
type FileCoverage struct {
	Name  string // as it was given to Compile; a module's is its path
	Lines []LineCoverage
}

// LineCoverage is a line on which statements begin.
type LineCoverage struct {
	Line       int
	Statements int
	Run        int    // statements that ran at least once
	Hits       uint64 // how often the one ran that ran most seldom
	Most       uint64 // how often the one ran that ran most often
}

// Whole tells whether every statement of the line ran.
func (l LineCoverage) Whole() bool { return l.Run == l.Statements }

// Covered counts the lines, and those of them that ran whole.
func (f *FileCoverage) Covered() (whole, all int) {
	for _, l := range f.Lines {
		if l.Whole() {
			whole++
		}
	}
	return whole, len(f.Lines)
}

// Files lists what ran, by name. Scripts may run meanwhile.
func (c *Coverage) Files() []FileCoverage {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := make([]FileCoverage, 0, len(c.files))
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		files = append(files, FileCoverage{Name: name, Lines: c.files[name].byLine()})
	}
	return files
}

func (f *covered) byLine() []LineCoverage {
	lines := map[int]*LineCoverage{}
	for i, line := range f.lines {
		hits := f.hits[i].Load()
		l := lines[line]
		if l == nil {
			l = &LineCoverage{Line: line, Hits: hits}
			lines[line] = l
		}
		l.Statements++
		l.Hits, l.Most = min(l.Hits, hits), max(l.Most, hits)
		if hits > 0 {
			l.Run++
		}
	}
	list := make([]LineCoverage, 0, len(lines))
	for _, l := range lines {
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b LineCoverage) int { return cmp.Compare(a.Line, b.Line) })
	return list
}

// file is the counters of a file, shared by all who compile the same source. Where
// a file changed meanwhile, the new one counts from nothing.
func (c *Coverage) file(name string, source []byte, lines []int) *covered {
	sum := sha256.Sum256(source)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.files[name]; f != nil && f.sum == sum {
		return f
	}
	if c.files == nil {
		c.files = map[string]*covered{}
	}
	f := &covered{sum: sum, lines: lines, hits: make([]atomic.Uint64, len(lines))}
	c.files[name] = f
	return f
}

// count is the function that stands in front of each statement.
func (f *covered) count(L *lua.LState) int {
	f.hits[int(lua.LVAsNumber(L.Get(1)))].Add(1)
	return 0
}
