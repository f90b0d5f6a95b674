package pebble_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	store "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/queue/pebble"
)

// former is an engine as version 1 had it: Pebble with its own log, and no journal.
type former struct{ db *store.DB }

func openFormer(t *testing.T, files vfs.FS) former {
	t.Helper()
	db, err := store.Open("/queue/db", &store.Options{FS: files, FormatMajorVersion: store.FormatValueSeparation})
	if err != nil {
		t.Fatal(err)
	}
	return former{db}
}

// formatOf is what the store says of its format to whoever knows no journal.
func (f former) formatOf(t *testing.T) uint32 {
	t.Helper()
	v, closer, err := f.db.Get([]byte("format"))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	return binary.LittleEndian.Uint32(v[4:])
}

// A store of format 1, closed or left by a crash, is taken over with all its mail, and
// from then on refused by the version that wrote it.
func TestFormatOneIsBroughtUp(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		mem := vfs.NewCrashableMem()
		w, err := newWorld(t, mem, pebble.On)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			w.add(t, id(i), 1000)
		}
		mustClose(t, w.q)

		// What the engine has becomes what version 1 would have left.
		old := openFormer(t, mem)
		if got := old.formatOf(t); got != 2 {
			t.Fatalf("format %d", got)
		}
		table := crc32.MakeTable(crc32.Castagnoli)
		v := binary.LittleEndian.AppendUint32(nil, 1)
		v = append(binary.LittleEndian.AppendUint32(nil, crc32.Update(crc32.Checksum([]byte("format"), table), table, v)), v...)
		if err := old.db.Set([]byte("format"), v, store.Sync); err != nil {
			t.Fatal(err)
		}
		if err := mem.RemoveAll("/queue/db/journal"); err != nil {
			t.Fatal(err)
		}
		disk := mem
		if crashed {
			disk = mem.CrashClone(vfs.CrashCloneCfg{})
		}
		if err := old.db.Close(); err != nil {
			t.Fatal(err)
		}

		again, err := newWorld(t, disk, pebble.On)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if b, err := bodyOf(t, again.q, id(i)); err != nil || !bytes.Equal(b, stored(1000)) {
				t.Errorf("message %d: %v", i, err)
			}
		}
		mustAdd(t, again.q, envelope("afterwards", 1), 500)
		left := disk.CrashClone(vfs.CrashCloneCfg{})
		mustClose(t, again.q)
		old = openFormer(t, left)
		if got := old.formatOf(t); got != 2 {
			t.Errorf("after a crash the former version reads format %d", got)
		}
		if err := old.db.Close(); err != nil {
			t.Error(err)
		}
	}
}
