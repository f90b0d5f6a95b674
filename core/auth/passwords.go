package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

// Bounds of a password file.
const (
	maxFile     = 64 << 20 // bytes
	maxLine     = 1024
	maxUser     = 255
	maxProblems = 20 // that are told of one file
)

// LineError is a line of a file that can't be used.
type LineError struct {
	File string
	Line int
	Text string // what is wrong; what to write. It holds no secret
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// table is a password file as it was read.
type table struct {
	secrets map[string]secret
	order   []secret
	scram   []*scramSecret // those of them that SCRAM can use
}

// ParsePasswords checks a password file: lines of user:hash, empty ones, and ones
// that begin with #. It returns the number of users, and a *LineError for each
// line that can't be used; of very many only the first are told.
func ParsePasswords(name string, r io.Reader) (users int, problems []error) {
	t, problems := parsePasswords(name, r)
	return len(t.order), problems
}

func parsePasswords(name string, r io.Reader) (*table, []error) {
	t := &table{secrets: map[string]secret{}}
	var bad []error
	first := map[string]int{}
	scan := bufio.NewScanner(io.LimitReader(r, maxFile))
	scan.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for scan.Scan() && len(bad) < maxProblems {
		n++
		line := bytes.TrimRight(scan.Bytes(), "\r")
		if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' {
			continue
		}
		user, s, err := parseEntry(string(line))
		if at := first[user]; err == nil && at > 0 {
			err = fmt.Errorf("%q has an entry in line %d already; leave one of the two out", user, at)
		}
		if err != nil {
			bad = append(bad, &LineError{name, n, err.Error()})
			continue
		}
		first[user] = n
		t.secrets[user] = s
		t.order = append(t.order, s)
		if one, ok := s.(*scramSecret); ok {
			t.scram = append(t.scram, one)
		}
	}
	if err := scan.Err(); err != nil {
		bad = append(bad, &LineError{name, n + 1, fmt.Sprintf("can't be read: %v; a line has at most %d octets", err, maxLine)})
	}
	return t, bad
}

// parseEntry reads user:hash.
func parseEntry(line string) (string, secret, error) {
	name, hash, ok := strings.Cut(line, ":")
	if !ok {
		return "", nil, errors.New("no colon; write USER:HASH")
	}
	user, err := parseUser(name)
	if err != nil {
		return "", nil, fmt.Errorf("%q is no name of a user: %w; write 1 to %d characters without blanks and colons", clip(name), err, maxUser)
	}
	s, err := parseSecret(hash)
	return user, s, err
}

// errUser: such a name nobody has.
var errUser = errors.New("it is empty, too long, or has characters that a name can't have")

// parseUser brings a user's name to the form in which names are compared (RFC
// 8265 section 3.4, case preserved). ASCII names compare octet by octet.
func parseUser(s string) (string, error) {
	if s == "" || len(s) > maxUser || !utf8.ValidString(s) {
		return "", errUser
	}
	if isPrintable(s) {
		if strings.ContainsAny(s, " :") {
			return "", errUser
		}
		return s, nil
	}
	u, err := precis.UsernameCasePreserved.String(s)
	if err != nil || u == "" || strings.ContainsAny(u, " :") {
		return "", errUser
	}
	return u, nil
}

// passwordFile is a file that may change while the server runs.
type passwordFile struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	looked time.Time // when it was looked at last
	stamp  stamp     // of what was read
	table  *table    // of the last read that went well; never nil after load
}

// stamp tells one state of a file from another.
type stamp struct {
	size     int64
	modified time.Time
	file     os.FileInfo
}

const (
	lookEvery = time.Second     // the file is looked at no more often
	settled   = 2 * time.Second // a file that changed that shortly before it was read may change again unseen
)

// load reads the file for the first time.
func (f *passwordFile) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table = &table{}
	f.looked = time.Now()
	return f.read()
}

// current is the file's content, at most lookEvery old. Where it can't be read,
// or a line is wrong, what was there before stays in use, and the log says so.
func (f *passwordFile) current() *table {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if d := now.Sub(f.looked); d >= 0 && d < lookEvery {
		return f.table
	}
	f.looked = now
	if info, err := os.Stat(f.path); err == nil && f.stamp.same(info) {
		return f.table
	}
	if err := f.read(); err != nil {
		f.log.Error("password file not read again, the users of before stay", "file", f.path, "error", err)
	}
	return f.table
}

func (s stamp) same(info os.FileInfo) bool {
	return s.file != nil && os.SameFile(s.file, info) && s.size == info.Size() && s.modified.Equal(info.ModTime())
}

// read is called with mu held. A file that was found wrong is not read again
// until it changes.
func (f *passwordFile) read() error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", f.path)
	case info.Size() > maxFile:
		return fmt.Errorf("%s is larger than %d bytes", f.path, maxFile)
	}
	t, bad := parsePasswords(f.path, file)
	f.stamp = stamp{info.Size(), info.ModTime(), info}
	if age := f.looked.Sub(info.ModTime()); age >= 0 && age < settled {
		f.stamp = stamp{}
	}
	if len(bad) > 0 {
		return errors.Join(bad...)
	}
	f.table = t
	return nil
}
