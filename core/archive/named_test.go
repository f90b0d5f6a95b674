package archive

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// This file tests the formats of which only the names are read: RAR, whose files are put
// together here, and 7z, whose files in testdata 7-Zip 26.02 made of one folder.

// rar5 is a RAR file of version 5 with these blocks.
func rar5(blocks ...[]byte) []byte {
	b := []byte(rarMagic5)
	for _, head := range blocks {
		data := head
		if i := bytes.Index(head, []byte("<data>")); i >= 0 {
			head, data = head[:i], head[i+6:]
		} else {
			data = nil
		}
		sized := append(varint(uint64(len(head))), head...)
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(sized))
		b = append(append(b, sized...), data...)
	}
	return b
}

func varint(n uint64) []byte { return binary.AppendUvarint(nil, n) }

// file5 is the header of a file, stored, with its content.
func file5(name string, content string, folder, encrypted bool) []byte {
	flags, of := byte(2), byte(4)
	var extra []byte
	if encrypted {
		flags |= 1
		record := append([]byte{1, 0, 0, 15}, make([]byte, 32)...)
		extra = append(varint(uint64(len(record))), record...)
	}
	if folder {
		of = 1
	}
	head := []byte{2, flags}
	if encrypted {
		head = append(head, varint(uint64(len(extra)))...)
	}
	head = append(head, varint(uint64(len(content)))...)
	head = append(head, of)
	head = append(head, varint(uint64(len(content)))...)
	head = append(head, 0x20)
	if !folder {
		head = binary.LittleEndian.AppendUint32(head, crc32.ChecksumIEEE([]byte(content)))
	}
	head = append(head, 0, 1)
	head = append(head, varint(uint64(len(name)))...)
	head = append(append(head, name...), extra...)
	return append(append(head, "<data>"...), content...)
}

var main5, end5 = []byte{1, 0, 0}, []byte{5, 0, 0}

// rar4 is a RAR file of version 4 with these blocks.
func rar4(blocks ...[]byte) []byte {
	return append([]byte(rarMagic4), bytes.Join(blocks, nil)...)
}

func block4(kind byte, flags uint16, head []byte, content string) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16([]byte{kind}, flags)
	b = append(le.AppendUint16(b, uint16(7+len(head))), head...)
	return append(append(le.AppendUint16(nil, uint16(crc32.ChecksumIEEE(b))), b...), content...)
}

func file4(name string, flags uint16, content string) []byte {
	le := binary.LittleEndian
	head := le.AppendUint32(nil, uint32(len(content)))
	head = append(le.AppendUint32(head, uint32(len(content))), 2)
	head = le.AppendUint32(head, crc32.ChecksumIEEE([]byte(content)))
	head = append(le.AppendUint32(head, 0), 20, 0x30)
	head = le.AppendUint16(head, uint16(len(name)))
	head = append(le.AppendUint32(head, 0x20), name...)
	return block4(0x74, 0x8000|flags, head, content)
}

var main4, end4 = block4(0x73, 0, make([]byte, 6), ""), block4(0x7b, 0, nil, "")

func seven(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".7z"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNames(t *testing.T) {
	const made = "1:empty.js 1:f1.txt 1:f2.txt 1:f3.txt 1:f4.txt 1:f5.txt 1:f6.txt 1:f7.txt 1:f8.txt 1:f9.txt 1:inner.zip 1:setup.exe 1:sub/Grüße.txt"
	both := rar5(main5, file5("a/setup.exe", "MZ program", false, false), file5("a", "", true, false), file5("Grüße.txt", "", false, false), end5)
	for _, c := range []struct {
		what      string
		b         []byte
		format    string
		want      string
		encrypted bool
		unread    string
	}{
		{"rar 5", both, "rar", "1:a/setup.exe 1:Grüße.txt", false, ""},
		{"rar 5 without an end", rar5(main5, file5("setup.exe", "MZ", false, false)), "rar", "1:setup.exe", false, ""},
		{"rar 5, a file with a password", rar5(main5, file5("setup.exe", "MZ", false, true), end5), "rar", "1:setup.exe", true, ""},
		{"rar 5, all with a password", rar5([]byte{4, 0, 0, 0, 15}, []byte("whatever")), "rar", "", true, ""},
		{"rar 5, an archive in it", rar5(main5, file5("inner.ZIP", "PK", false, false), file5("inner.7z", "7z", false, true), end5), "rar", "1:inner.ZIP 1:inner.7z", true, "zip"},
		{"rar 4", rar4(main4, file4(`a\setup.exe`, 0, "MZ program"), file4("a", 0xe0, ""), end4), "rar", "1:a/setup.exe", false, ""},
		{"rar 4 without an end", rar4(main4, file4("setup.exe", 0, "MZ")), "rar", "1:setup.exe", false, ""},
		{"rar 4, a file with a password", rar4(main4, file4("setup.exe", 4, "MZ"), end4), "rar", "1:setup.exe", true, ""},
		{"rar 4, all with a password", rar4(block4(0x73, 0x80, make([]byte, 6), ""), []byte("whatever")), "rar", "", true, ""},
		{"rar 4, names of DOS", rar4(main4, file4("Gr\x81\xe1e.txt", 0, ""), end4), "rar", "1:Grüße.txt", false, ""},
		{"rar 4, names of Unicode", rar4(main4, file4("Gr__e.exe\x00\x00\xc3\x00\xfc\xdf\x03", 0x200, ""), end4), "rar", "1:Grüße.exe", false, ""},
		{"7z", seven(t, "plain"), "7z", made, false, "zip"},
		{"7z, its header not packed", seven(t, "nohc"), "7z", made, false, "zip"},
		{"7z, packed in several steps", seven(t, "bcj"), "7z", made, false, "zip"},
		{"7z, each file by itself", seven(t, "nosolid"), "7z", made, false, "zip"},
		{"7z, files with a password", seven(t, "enc"), "7z", made, true, ""},
		{"7z, all with a password", seven(t, "hdr"), "7z", "", true, ""},
		{"rar and 7z in zip", zipped(t, file{"a", both}, file{"b", seven(t, "plain")}), "zip", "1:a 2:a/setup.exe 2:Grüße.txt 1:b " + strings.ReplaceAll(made, "1:", "2:"), false, "zip"},
	} {
		got := list(t, c.b, "x", Limits{})
		if got.Format != c.format || names(got) != c.want || got.Fault != "" || got.Truncated != "" || got.Encrypted != c.encrypted || strings.Join(got.Unread, " ") != c.unread {
			t.Errorf("%s: %s in %+v", c.what, names(got), got)
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	for what, b := range map[string][]byte{
		"rar 5": rar5(main5, file5("a", "", false, false), file5("b", "", false, false), file5("c", "", false, false), end5),
		"rar 4": rar4(main4, file4("a", 0, ""), file4("b", 0, ""), file4("c", 0, ""), end4),
		"7z":    seven(t, "nohc"),
	} {
		if got := list(t, b, "x", Limits{Entries: 2}); len(got.Entries) != 2 || got.Truncated != ByEntries || got.Fault != "" {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if got := list(t, seven(t, "plain"), "x", Limits{Size: 100}); got.Truncated != BySize {
		t.Errorf("a header larger than what may be unpacked: %+v", got)
	}
	large := slices.Clone(seven(t, "plain"))
	binary.LittleEndian.PutUint64(large[20:], maxSeven+1)
	binary.LittleEndian.PutUint32(large[8:], crc32.ChecksumIEEE(large[12:32]))
	if got := list(t, large, "x", Limits{}); got.Truncated != BySize {
		t.Errorf("a header that says that it is large: %+v", got)
	}
}

func TestNamesFaults(t *testing.T) {
	change := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at] ^= 0xff
		return b
	}
	good5 := rar5(main5, file5("setup.exe", "MZ program", false, false), end5)
	good4 := rar4(main4, file4("setup.exe", 0, "MZ program"), end4)
	for _, c := range []struct {
		what string
		b    []byte
		want string
	}{
		{"rar 5, cut in a header", good5[:30], "rar: it ends too early"},
		{"rar 5, cut in content", good5[:len(good5)-15], "rar: it ends too early"},
		{"rar 5, a checksum", change(good5, 30), "rar: a header is broken"},
		{"rar 4, cut in a header", good4[:30], "rar: it ends too early"},
		{"rar 4, a checksum", change(good4, 58), "rar: a header is broken"},
		{"rar 6", []byte("Rar!\x1a\x07\x02\x00rest"), "rar: it is of a version that is not known"},
		{"rar 4, no header", []byte(rarMagic4), "rar: it ends too early"},
		{"rar 5, no header", []byte(rarMagic5), "rar: it ends too early"},
		{"rar, nothing", []byte("Rar!\x1a\x07"), "rar: it ends too early"},
		{"7z, nothing", []byte("7z\xbc\xaf\x27\x1c..."), "7z: it ends too early"},
		{"7z, its start", change(seven(t, "plain"), 15), "7z: a header is broken"},
		{"7z, cut", seven(t, "plain")[:300], "7z: it ends too early"},
		{"7z, its header", change(seven(t, "nohc"), len(seven(t, "nohc"))-9), "7z: a header is broken"},
	} {
		if got := list(t, c.b, "x", Limits{}); got.Fault != c.want {
			t.Errorf("%s: %q in %+v", c.what, got.Fault, got)
		}
	}
}

// TestNamesOfRealMail is of rspamd's sample with a RAR file.
func TestNamesOfRealMail(t *testing.T) {
	mail, err := os.ReadFile("../../../shared/corpus/mail/rspamd/rar4.eml")
	if err != nil {
		t.Skip("the corpus is not there")
	}
	_, text, ok := strings.Cut(string(mail), "UmFyIRo")
	text, _, ok2 := strings.Cut(text, "\n--")
	packed, err := base64.StdEncoding.DecodeString("UmFyIRo" + strings.Join(strings.Fields(text), ""))
	if !ok || !ok2 || err != nil {
		t.Fatalf("there is no RAR file in it: %v", err)
	}
	got := list(t, packed, "x.rar", Limits{})
	if len(got.Entries) == 0 || got.Fault != "" {
		t.Errorf("%+v", got)
	}
	t.Log(names(got))
}

// FuzzNames is FuzzList for the formats of which the names are read.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"plain", "nohc", "enc", "bcj", "nosolid", "hdr"} {
		f.Add(seven(f, name), false)
	}
	for _, b := range [][]byte{
		rar5(main5, file5("setup.exe", "MZ", false, true), file5("a.zip", "", false, false), end5),
		rar4(main4, file4("setup.exe", 0, "MZ"), file4("Gr__e.exe\x00\x00\xc3\x00\xfc\xdf\x03", 0x200, ""), end4),
	} {
		f.Add(b, false)
	}
	header := seven(f, "nohc")
	at := binary.LittleEndian.Uint64(header[12:])
	f.Add(header[sevenStart+at:], true)
	l := Limits{Depth: 3, Entries: 20, Size: 1 << 20, Ratio: 50}
	f.Fuzz(func(t *testing.T, b []byte, bare bool) {
		if bare { // a header of 7z, in front of which its sums are right
			start := append([]byte(sevenMagic), 0, 4)
			rest := binary.LittleEndian.AppendUint64(nil, 0)
			rest = binary.LittleEndian.AppendUint64(rest, uint64(len(b)))
			rest = binary.LittleEndian.AppendUint32(rest, crc32.ChecksumIEEE(b))
			start = binary.LittleEndian.AppendUint32(start, crc32.ChecksumIEEE(rest))
			b = slices.Concat(start, rest, b)
		}
		got, err := List(t.Context(), bytes.NewReader(b), "x", l)
		if err != nil {
			t.Fatal(err)
		}
		if got != nil && len(got.Entries) > l.Entries {
			t.Fatalf("%d entries", len(got.Entries))
		}
	})
}
