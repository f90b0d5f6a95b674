package dotqmail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// Account is who takes mail: as whom, where, and by which dot-qmail files.
type Account struct {
	User string
	UID  int
	GID  int
	Home string // absolute
	Dash string // stands between .qmail and Ext in the names of files
	Ext  string // what the address has behind the user's name
}

// Assign is a table of users/assign. It does not change.
type Assign struct {
	exact, wild map[string]Account
}

// Find is the account that a local part belongs to. An exact line beats one with a
// prefix, and a longer prefix a shorter one; there is no case.
func (a *Assign) Find(local string) (Account, bool) {
	lower := lowerASCII(local)
	if got, ok := a.exact[lower]; ok {
		return got, true
	}
	for i := len(lower); i >= 0; i-- {
		if got, ok := a.wild[lower[:i]]; ok {
			got.Ext += local[i:]
			return got, true
		}
	}
	return Account{}, false
}

// Len is how many lines count.
func (a *Assign) Len() int { return len(a.exact) + len(a.wild) }

// LineError is a finding in a file.
type LineError struct {
	Line int // from 1
	Text string
}

func (e LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Bounds of what is read.
const (
	maxLine   = 64 << 10
	maxErrors = 50 // then the rest is not looked at
)

// ParseAssign reads a users/assign file: lines
//
//	=local:user:uid:gid:home:dash:ext:
//	+prefix:user:uid:gid:home:dash:pre:
//
// and a last one that is a single dot, which tells that nothing is missing; what
// stands behind it is not read. Of lines for the same address the first counts. The
// errors are LineErrors, all of them; with any, there is no table.
func ParseAssign(r io.Reader) (*Assign, []LineError) {
	a := &Assign{exact: map[string]Account{}, wild: map[string]Account{}}
	var errs []LineError
	in := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		fail := func(text string) { errs = append(errs, LineError{n, text}) }
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			fail(fmt.Sprintf("is longer than %d bytes", maxLine))
			return nil, errs
		case err != nil && !errors.Is(err, io.EOF):
			fail(err.Error())
			return nil, errs
		case string(line) == ".\n", string(line) == "." && err != nil:
			if len(errs) > 0 {
				return nil, errs
			}
			return a, nil
		case err != nil:
			fail(`the last line, a single ".", is missing: the file may have been cut off`)
			return nil, errs
		}
		if err := a.add(string(bytes.TrimSuffix(line, []byte("\n")))); err != nil {
			fail(err.Error())
		}
		if len(errs) >= maxErrors {
			return nil, errs
		}
	}
}

// add takes one line.
func (a *Assign) add(line string) error {
	if strings.IndexByte(line, 0) >= 0 {
		return errors.New("holds a NUL")
	}
	into := a.exact
	switch {
	case line == "":
		return errors.New("is blank; take it out")
	case line[0] == '+':
		into = a.wild
	case line[0] != '=':
		return fmt.Errorf("begins with %q; write =local:user:uid:gid:home:dash:ext: or +prefix:user:uid:gid:home:dash:pre: as a line", line[:1])
	}
	fields := strings.SplitN(line[1:], ":", 8)
	if len(fields) < 8 {
		return fmt.Errorf("has %d of 7 colons; write %slocal:user:uid:gid:home:dash:ext: with all of them", len(fields)-1, line[:1])
	}
	got := Account{User: fields[1], Home: fields[4], Dash: fields[5], Ext: fields[6]}
	uid, errU := strconv.ParseUint(fields[2], 10, 31)
	gid, errG := strconv.ParseUint(fields[3], 10, 31)
	got.UID, got.GID = int(uid), int(gid)
	switch {
	case got.User == "":
		return errors.New("names no user")
	case errU != nil:
		return fmt.Errorf("%q is no number of a user", fields[2])
	case errG != nil:
		return fmt.Errorf("%q is no number of a group", fields[3])
	case !path.IsAbs(got.Home):
		return fmt.Errorf("the home %q does not begin with a slash", got.Home)
	}
	key := lowerASCII(fields[0])
	if _, taken := into[key]; !taken {
		into[key] = got
	}
	return nil
}

// lowerASCII leaves bytes beyond ASCII as they are, so that lengths stay.
func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
