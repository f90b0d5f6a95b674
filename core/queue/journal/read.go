package journal

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Found is what Read came upon.
type Found struct {
	Records int
	Damaged int // files with damage, those that were kept aside before, too

	number  uint64   // the highest of a segment
	write   uint64   // the last one
	old     []string // files that are not needed any more when the store has the records
	damaged []string
}

// live is a segment that was found.
type live struct {
	name   string
	number uint64
	salt   [8]byte
}

// Read gives every record to apply, in the order of their writing, and changes
// nothing. What apply is given is valid until it returns.
func Read(files Files, log *slog.Logger, apply func(payload []byte) error) (Found, error) {
	var found Found
	names, err := files.Names()
	if err != nil {
		return found, err
	}
	segments := found.sort(names)
	r := reader{files: files, apply: apply}
	for _, s := range segments {
		if err := r.segment(s); err != nil {
			return found, err
		}
	}
	found.Records, found.write = r.records, r.last.write
	for _, s := range segments {
		n := r.missingIn(s.name)
		if n == 0 {
			found.old = append(found.old, s.name)
			continue
		}
		found.damaged = append(found.damaged, s.name)
		found.Damaged++
		log.Error("queue: a part of the journal can't be read; what it said is lost, the file is kept", "file", damagedPrefix+s.name, "places", n)
	}
	return found, nil
}

// sort finds the segments that are to be read, in their order.
func (f *Found) sort(names []string) []live {
	var all []live
	for _, name := range names {
		number, salt, ok := parseName(name)
		switch {
		case ok:
			all = append(all, live{name, number, salt})
			f.number = max(f.number, number)
		case strings.HasPrefix(name, damagedPrefix):
			f.Damaged++
		case strings.HasPrefix(name, sparePrefix):
			f.old = append(f.old, name)
		}
	}
	slices.SortFunc(all, func(a, b live) int { return cmp.Compare(a.number, b.number) })
	first := len(all)
	for first > 0 && (first == len(all) || all[first-1].number+1 == all[first].number) {
		first--
	}
	for _, s := range all[:first] { // the store had them before a segment behind them was used again
		f.old = append(f.old, s.name)
	}
	return all[first:]
}

// reader reads segments in turn.
type reader struct {
	files   Files
	apply   func([]byte) error
	records int
	gaps    []gap

	last      place // of the newest record
	segmentOf string
}

// gap is a place between two records where there was another one.
type gap struct {
	name     string // of the segment that has it
	from, to place
}

func (r *reader) segment(s live) error {
	file, err := r.files.Open(s.name)
	if err != nil {
		return err
	}
	b, err := file.Read()
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	for at := 0; at < len(b); {
		payload, where, size, ok := parseRecord(b[at:], s.salt)
		if !ok {
			at += 8
			continue
		}
		if r.records == 0 && at > 0 { // the write before is not known
			r.gaps = append(r.gaps, gap{s.name, place{where.write - 1, 0, 1}, where})
		} else if r.records > 0 && !r.last.before(where) {
			name := s.name
			if at == 0 {
				name = r.segmentOf
			}
			r.gaps = append(r.gaps, gap{name, r.last, where})
		}
		if err := r.apply(payload); err != nil {
			return fmt.Errorf("apply a record of the journal at %s:%d: %w", s.name, at, err)
		}
		r.records++
		r.last, r.segmentOf = where, s.name
		at += size
	}
	return nil
}

// missingIn counts the places in a segment where more than the last write is missing.
func (r *reader) missingIn(name string) (n int) {
	for _, g := range r.gaps {
		torn := g.to.write == r.last.write && // what is missing is of it alone:
			(g.from.write == g.to.write || g.from.write+1 == g.to.write && g.from.index+1 == g.from.of || g.to.write&lowHalf == 1)
		if g.name == name && !torn {
			n++
		}
	}
	return n
}
