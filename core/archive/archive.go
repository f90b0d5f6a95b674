// Package archive tells what is in the archives that people send each other,
// without unpacking anything to where it could do harm: zip (and what is zip inside,
// such as office documents), tar, gzip and bzip2, and archives inside them; of RAR and 7z
// the names of the files; and it names the formats that it knows but can't look into.
//
// The map:
//
//	archive.go  List, what it finds, and the bounds
//	kind.go     formats by their first bytes
//	walk.go     archives inside archives
//	zip.go      the directory of a zip file
//	rar.go      the headers of a RAR file
//	sevenzip.go the header of a 7z file
//	fields.go   numbers and texts of headers
//	spool.go    content that must be read at any place, in memory or a nameless file
//
// What comes from strangers is bounded in every direction: how deep, how many
// entries, how many bytes unpacked, and how many times its size it may become.
package archive

import (
	"context"
	"io"
)

// Limits bound one List. A zero is the default behind it.
type Limits struct {
	Depth   int   // archives inside archives: 5
	Entries int   // of all of them: 1000
	Size    int64 // bytes that are unpacked to look inside, in all: 64 MiB
	Ratio   int   // unpacked bytes for each packed one, beyond 1 MiB: 200
}

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = 5
	}
	if l.Entries <= 0 {
		l.Entries = 1000
	}
	if l.Size <= 0 {
		l.Size = 64 << 20
	}
	if l.Ratio <= 0 {
		l.Ratio = 200
	}
	return l
}

// Entry is a file in an archive.
type Entry struct {
	Name      string // as the archive has it, in UTF-8; "" where it has none
	Size      int64  // unpacked, as the archive says; -1: it does not say
	Depth     int    // 1: in the archive itself, 2: in an archive in that
	Encrypted bool   // its content can't be looked into
	Format    string // of an archive: "zip", "tar", …; else "". In RAR and 7z its name tells
}

// Bounds that a listing may meet.
const (
	ByDepth   = "depth"
	ByEntries = "entries"
	BySize    = "size"
	ByRatio   = "ratio"
)

// Listing is what is in an archive.
type Listing struct {
	Format    string   // the outermost: "zip", "tar", "gzip", "bzip2", or one that is not looked into
	Entries   []Entry  // in their order, an archive before what is in it
	Encrypted bool     // an entry is
	Truncated string   // the bound that was met first, beyond which nothing was looked at
	Fault     string   // the first thing that is wrong with it
	Unread    []string // formats that were met and not looked into, such as "cab"; of what is in RAR and 7z, too
}

// List looks into what r gives, an archive or not: the listing is nil where its
// first bytes are those of no format that we know. An archive that is broken has a
// Fault, and what was found before it; the error is one of reading r, or of ctx.
func List(ctx context.Context, r io.Reader, name string, limits Limits) (*Listing, error) {
	w := &walk{ctx: ctx, limits: limits.withDefaults(), listing: &Listing{}}
	w.left = w.limits.Size
	source := &source{ctx: ctx, r: r}
	head, err := source.peek()
	if err != nil {
		return nil, err
	}
	w.listing.Format = Kind(head)
	if w.listing.Format == "" {
		return nil, nil
	}
	w.open(source, w.listing.Format, name, 1)
	return w.listing, source.err
}
