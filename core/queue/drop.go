package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// Drop is the envelope of a message that is handed over through a directory,
// because no daemon runs that could take it.
type Drop struct {
	ID         string // the file's name; set by TakeDrops
	Sender     message.Address
	Recipients []message.Address
	Arrived    time.Time // when it was handed over
	EightBit   bool      // BODY=8BITMIME
	Double     bool      // a bounce of a bounce, of which nobody is told where it fails

	// Where another program than Postern's own took the message from its client.
	Via    string         // that program's protocol, such as qmail-queue; "": none
	Trace  string         // what our Received field says of it
	Client netip.AddrPort // the client; the zero value where it is not known
}

// A drop file, integers little-endian: what is fixed, the envelope, the body.
//
//	magic (8), version (4), envelope's length (4), body's length (8), checksum of the body (4)
//	checksum of all that and the envelope (4)
const (
	dropMagic    = "PostDrop"
	dropVersion  = 2 // 1 has neither Double nor Via
	dropFront    = 32
	dropSealed   = 28        // of those, before their checksum
	maxDropHead  = 128 << 20 // an envelope of a hundred thousand recipients, however long
	dropSuffix   = ".drop"   // of a whole file
	dropTemp     = ".tmp"    // of one that is being written
	dropDamaged  = "damaged"
	dropEightBit = 1
	dropDouble   = 2
	dropVia      = 4
)

// WriteDrop stores a message for TakeDrops in dir, which is made where it is
// missing, and returns its id. When it returns nil, the message survives a power
// cut: the file and its name are synced. A writer that is killed leaves a .tmp
// file, which nobody reads, and which TakeDrops removes when it is old.
func WriteDrop(dir string, m Drop, body io.Reader) (id string, err error) {
	id, err = writeDrop(realDisk{}, dir, m, body)
	if err != nil {
		return "", fmt.Errorf("queue: write a drop file: %w", err)
	}
	return id, nil
}

func writeDrop(disk dropDisk, dir string, m Drop, body io.Reader) (id string, err error) {
	if len(m.Recipients) == 0 {
		return "", errors.New("a message needs a recipient")
	}
	envelope := appendEnvelope(nil, m)
	if len(envelope) > maxDropHead {
		return "", errors.New("too many recipients")
	}
	if err := disk.MakeDir(dir); err != nil {
		return "", err
	}
	id = message.NewID(m.Arrived)
	temp, final := filepath.Join(dir, id+dropTemp), filepath.Join(dir, id+dropSuffix)
	f, err := disk.Create(temp)
	if err != nil {
		return "", err
	}
	err = errors.Join(fillDrop(f, envelope, body), f.Close())
	if err == nil {
		err = disk.Rename(temp, final)
	}
	if err != nil {
		return "", errors.Join(err, disk.Remove(temp))
	}
	if err := disk.SyncDir(dir); err != nil {
		// Whether it stays is unknown; the caller is told that it was not taken.
		return "", errors.Join(err, disk.Remove(final))
	}
	return id, nil
}

func fillDrop(f dropFile, envelope []byte, body io.Reader) error {
	sum := crc32.New(castagnoli)
	if _, err := f.WriteAt(envelope, dropFront); err != nil {
		return err
	}
	w := io.NewOffsetWriter(f, dropFront+int64(len(envelope)))
	size, err := io.Copy(w, io.TeeReader(body, sum))
	if err != nil {
		return err
	}
	front := make([]byte, 0, dropFront)
	front = append(front, dropMagic...)
	front = binary.LittleEndian.AppendUint32(front, dropVersion)
	front = binary.LittleEndian.AppendUint32(front, uint32(len(envelope)))
	front = binary.LittleEndian.AppendUint64(front, uint64(size))
	front = binary.LittleEndian.AppendUint32(front, sum.Sum32())
	front = binary.LittleEndian.AppendUint32(front, checksum(front, envelope))
	if _, err := f.WriteAt(front, 0); err != nil {
		return err
	}
	return f.Sync()
}

func appendEnvelope(b []byte, m Drop) []byte {
	flags := byte(0)
	if m.EightBit {
		flags |= dropEightBit
	}
	if m.Double {
		flags |= dropDouble
	}
	if m.Via != "" {
		flags |= dropVia
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, nanos(m.Arrived))
	b = appendString(b, m.Sender.Local)
	b = appendString(b, m.Sender.Domain)
	b = binary.AppendUvarint(b, uint64(len(m.Recipients)))
	for _, r := range m.Recipients {
		b = appendString(b, r.Local)
		b = appendString(b, r.Domain)
	}
	if m.Via != "" {
		b = appendString(b, m.Via)
		b = appendString(b, m.Trace)
		client := ""
		if m.Client.IsValid() {
			client = m.Client.String()
		}
		b = appendString(b, client)
	}
	return b
}

// parseDrop reads and checks all of a drop file of that size.
func parseDrop(f io.ReaderAt, size int64) (m Drop, body *io.SectionReader, err error) {
	damaged := func(what string) error { return fmt.Errorf("%s: %w", what, ErrDamaged) }
	var front [dropFront]byte
	if err := readFull(f, front[:], 0); err != nil {
		return m, nil, err
	}
	if string(front[:8]) != dropMagic || binary.LittleEndian.Uint32(front[8:]) == 0 {
		return m, nil, damaged("not a drop file")
	}
	if v := binary.LittleEndian.Uint32(front[8:]); v > dropVersion {
		return m, nil, fmt.Errorf("%w: drop file version %d, this one knows %d", ErrFormat, v, dropVersion)
	}
	head := int64(binary.LittleEndian.Uint32(front[12:]))
	length := binary.LittleEndian.Uint64(front[16:])
	if head > maxDropHead || dropFront+head > size || length != uint64(size-dropFront-head) {
		return m, nil, damaged("wrong length")
	}
	envelope := make([]byte, head)
	if err := readFull(f, envelope, dropFront); err != nil {
		return m, nil, err
	}
	if checksum(front[:dropSealed], envelope) != binary.LittleEndian.Uint32(front[dropSealed:]) {
		return m, nil, damaged("wrong checksum of the envelope")
	}
	m, ok := parseEnvelope(envelope)
	if !ok {
		return m, nil, damaged("an envelope that makes no sense")
	}
	body = io.NewSectionReader(f, dropFront+head, int64(length))
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, body); err != nil {
		return m, nil, err
	}
	if sum.Sum32() != binary.LittleEndian.Uint32(front[24:]) {
		return m, nil, damaged("wrong checksum of the body")
	}
	_, err = body.Seek(0, io.SeekStart)
	return m, body, err
}

func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == io.EOF:
		return fmt.Errorf("it ends too early: %w", ErrDamaged)
	}
	return err
}

func parseEnvelope(b []byte) (m Drop, ok bool) {
	r := reader{b: b, text: string(b)}
	flags := r.byte()
	m.EightBit, m.Double = flags&dropEightBit != 0, flags&dropDouble != 0
	m.Arrived = timeOf(r.varint())
	m.Sender = r.address()
	n := r.uvarint()
	if r.bad || n == 0 || n > uint64(len(r.b)/2) || flags > dropEightBit|dropDouble|dropVia {
		return m, false
	}
	m.Recipients = make([]message.Address, n)
	for i := range m.Recipients {
		m.Recipients[i] = r.address()
	}
	if flags&dropVia != 0 {
		m.Via, m.Trace = r.string(), r.string()
		if client := r.string(); client != "" {
			var err error
			m.Client, err = netip.ParseAddrPort(client)
			r.bad = r.bad || err != nil || m.Client.String() != client
		}
		r.bad = r.bad || m.Via == ""
	}
	return m, !r.bad && len(r.b) == 0
}

// Waiting counts the messages of dir that TakeDrops would take. A missing dir is an
// empty one.
func Waiting(dir string) (n int, err error) {
	entries, err := realDisk{}.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("queue: count drop files: %w", err)
	}
	for _, e := range entries {
		if isDrop(e) {
			n++
		}
	}
	return n, nil
}

func isDrop(e fs.DirEntry) bool {
	id, ok := strings.CutSuffix(e.Name(), dropSuffix)
	return ok && message.ValidID(id) && e.Type().IsRegular()
}

// TakeDrops hands every message of dir to take, the oldest first, and removes
// its file when take returned nil, which must mean that it is committed. After
// another answer the file stays for the next time; the errors are joined. A
// damaged file is set aside, with a log line. A missing dir is an empty one. The
// body is good until take returns. A crash between the commit and the removal
// gives the message twice, with the same Drop.ID. For one goroutine at a time.
func TakeDrops(dir string, log *slog.Logger, take func(m Drop, body io.Reader) error) error {
	return takeDrops(realDisk{}, dir, log, take)
}

func takeDrops(disk dropDisk, dir string, log *slog.Logger, take func(m Drop, body io.Reader) error) error {
	entries, err := disk.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("queue: take drop files: %w", err)
	}
	var errs []error
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), dropTemp) {
			errs = append(errs, sweepDrop(disk, dir, e))
		}
		if isDrop(e) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for _, name := range names {
		damaged, err := takeDrop(disk, dir, name, take)
		if damaged {
			log.Error("queue: a damaged drop file was set aside", "dir", dir, "name", name, "damage", err)
			err = setDropAside(disk, dir, name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("queue: drop file %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// leftAfter is when a file that is still being written has no writer any more:
// none takes longer than a day.
const leftAfter = 36 * time.Hour

// sweepDrop removes what a writer left that was killed.
func sweepDrop(disk dropDisk, dir string, e fs.DirEntry) error {
	fi, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is whole by now
	}
	if err != nil || time.Since(fi.ModTime()) < leftAfter || !e.Type().IsRegular() {
		return err
	}
	return disk.Remove(filepath.Join(dir, e.Name()))
}

// takeDrop does one file. damaged says that err is about the file itself.
func takeDrop(disk dropDisk, dir, name string, take func(Drop, io.Reader) error) (damaged bool, err error) {
	path := filepath.Join(dir, name)
	f, err := disk.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return false, err
	}
	m, body, err := parseDrop(f, fi.Size())
	if err != nil {
		return errors.Is(err, ErrDamaged), err
	}
	m.ID = strings.TrimSuffix(name, dropSuffix)
	if err := take(m, body); err != nil {
		return false, err
	}
	if err := disk.Remove(path); err != nil {
		return false, err
	}
	return false, disk.SyncDir(dir) // else a power cut could bring it back
}

func setDropAside(disk dropDisk, dir, name string) error {
	aside := filepath.Join(dir, dropDamaged)
	if err := disk.MakeDir(aside); err != nil {
		return err
	}
	return disk.Rename(filepath.Join(dir, name), filepath.Join(aside, name))
}
