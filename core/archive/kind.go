package archive

import (
	"bytes"
	"path"
	"strings"
)

// headSize is how many of the first bytes tell a format.
const headSize = 512

// signatures are formats by the bytes that they have at a place.
var signatures = [...]struct {
	format string
	at     int
	bytes  string
}{
	{"zip", 0, "PK\x03\x04"},
	{"zip", 0, "PK\x05\x06"}, // without entries
	{"zip", 0, "PK\x07\x08"}, // the first of several volumes
	{"gzip", 0, "\x1f\x8b"},
	{"bzip2", 0, "BZh"},
	{"tar", 257, "ustar"},
	{"rar", 0, "Rar!\x1a\x07"},
	{"7z", 0, "7z\xbc\xaf\x27\x1c"},
	{"xz", 0, "\xfd7zXZ\x00"},
	{"zstd", 0, "\x28\xb5\x2f\xfd"},
	{"cab", 0, "MSCF"},
	{"arj", 0, "\x60\xea"},
	{"ace", 7, "**ACE**"},
	{"lha", 2, "-lh"},
	{"compress", 0, "\x1f\x9d"},
}

// Kind is the format of an archive by its first bytes, "" where they are those of
// none. 512 bytes are enough.
func Kind(head []byte) string {
	for _, s := range signatures {
		if len(head) >= s.at && bytes.HasPrefix(head[s.at:], []byte(s.bytes)) {
			return s.format
		}
	}
	return ""
}

// namedKind is the format that a file name's extension stands for, "" for none of an
// archive.
func namedKind(name string) string {
	switch strings.ToLower(path.Ext(strings.TrimRight(name, ". "))) {
	case ".zip", ".jar":
		return "zip"
	case ".gz", ".tgz":
		return "gzip"
	case ".bz2", ".tbz", ".tbz2":
		return "bzip2"
	case ".xz", ".txz":
		return "xz"
	case ".zst":
		return "zstd"
	case ".lzh", ".lha":
		return "lha"
	case ".z":
		return "compress"
	case ".tar":
		return "tar"
	case ".rar":
		return "rar"
	case ".7z":
		return "7z"
	case ".cab":
		return "cab"
	case ".arj":
		return "arj"
	case ".ace":
		return "ace"
	}
	return ""
}
