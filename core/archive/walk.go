package archive

import (
	"archive/tar"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
)

// walk goes through an archive and those inside it.
type walk struct {
	ctx     context.Context
	limits  Limits
	listing *Listing
	left    int64 // bytes that may be unpacked still
}

var errBound = errors.New("a bound was met")

// truncate notes the first bound that was met.
func (w *walk) truncate(bound string) {
	if w.listing.Truncated == "" {
		w.listing.Truncated = bound
	}
}

func (w *walk) fault(text string) {
	if w.listing.Fault == "" {
		w.listing.Fault = text
	}
}

// add lists an entry; false where there are too many.
func (w *walk) add(e Entry) bool {
	if len(w.listing.Entries) >= w.limits.Entries {
		w.truncate(ByEntries)
		return false
	}
	e.Name = strings.ToValidUTF8(e.Name, "\uFFFD")
	w.listing.Encrypted = w.listing.Encrypted || e.Encrypted
	w.listing.Entries = append(w.listing.Entries, e)
	return true
}

// unread notes a format that is not looked into.
func (w *walk) unread(format string) {
	if !slices.Contains(w.listing.Unread, format) {
		w.listing.Unread = append(w.listing.Unread, format)
	}
}

// name lists an entry whose content is not unpacked. Whether that is an archive its name
// tells.
func (w *walk) name(e Entry) bool {
	if e.Format = namedKind(e.Name); e.Format != "" && !e.Encrypted && len(w.listing.Entries) < w.limits.Entries {
		w.unread(e.Format)
	}
	return w.ctx.Err() == nil && w.add(e)
}

// open looks into an archive at a depth. Problems of it are faults of the listing,
// those of reading stay in src.
func (w *walk) open(src *source, format, name string, depth int) {
	if depth > w.limits.Depth {
		w.truncate(ByDepth)
		return
	}
	var err error
	switch format {
	case "zip":
		err = w.zip(src, depth)
	case "tar":
		err = w.tar(src, depth)
	case "gzip", "bzip2":
		err = w.single(src, format, name, depth)
	case "rar":
		err = w.rar(src, depth)
	case "7z":
		err = w.sevenZip(src, depth)
	default:
		w.unread(format)
	}
	if err != nil && !errors.Is(err, errBound) && src.err == nil {
		w.fault(format + ": " + err.Error())
	}
}

// tar walks the entries of a tar file.
func (w *walk) tar(src *source, depth int) error {
	files := tar.NewReader(src)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if !w.enter(Entry{Name: h.Name, Size: h.Size, Depth: depth}, func() int64 { return h.Size }, func() (io.Reader, error) { return files, nil }) {
			return errBound
		}
	}
}

// single looks into a format that packs one file.
func (w *walk) single(src *source, format, name string, depth int) error {
	inner := strings.TrimSuffix(name, path.Ext(name))
	if ext := strings.ToLower(path.Ext(name)); ext == ".tgz" || ext == ".tbz" || ext == ".tbz2" {
		inner += ".tar"
	}
	var content io.Reader = bzip2.NewReader(src)
	if format == "gzip" {
		z, err := gzip.NewReader(src)
		if err != nil {
			return err
		}
		if content = z; z.Name != "" {
			inner = z.Name
		}
	}
	if !w.enter(Entry{Name: inner, Size: -1, Depth: depth}, func() int64 { return src.read }, func() (io.Reader, error) { return content, nil }) {
		return errBound
	}
	return nil
}

// enter lists an entry and looks into it where it is an archive itself. packed tells
// how many bytes it takes, or took so far.
func (w *walk) enter(e Entry, packed func() int64, content func() (io.Reader, error)) bool {
	if e.Encrypted {
		return w.add(e)
	}
	r, err := content()
	if err != nil {
		w.fault(err.Error())
		return w.add(e)
	}
	inside := &source{ctx: w.ctx, r: &bounded{w: w, r: r, packed: packed}}
	head, err := inside.peek()
	if err != nil && !errors.Is(err, errBound) {
		w.fault(err.Error())
	}
	e.Format = Kind(head)
	if !w.add(e) {
		return false
	}
	if e.Format != "" {
		w.open(inside, e.Format, e.Name, e.Depth+1)
		if inside.err != nil && !errors.Is(inside.err, errBound) {
			w.fault(inside.err.Error())
		}
	}
	return w.left > 0 && w.ctx.Err() == nil
}

// bounded is unpacked content, within the bounds of a walk.
type bounded struct {
	w      *walk
	r      io.Reader
	packed func() int64
	out    int64
}

// free is how much content may become before its ratio counts.
const free = 1 << 20

func (b *bounded) Read(p []byte) (int, error) {
	if b.w.left <= 0 {
		b.w.truncate(BySize)
		return 0, errBound
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.w.left)])
	b.w.left -= int64(n)
	b.out += int64(n)
	if b.out > free && b.out/int64(b.w.limits.Ratio) > b.packed() {
		b.w.truncate(ByRatio)
		b.w.left = 0
		return n, errBound
	}
	return n, err
}
