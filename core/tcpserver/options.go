package tcpserver

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Options are those of the command line.
type Options struct {
	Verbosity    int           // -q 0, -Q 1, -v 2
	Limit        int           // -c: connections at a time
	Rules        string        // -x: file of rules, "" none
	AllowNoRules bool          // -X: where that file is not there, everybody is allowed
	Banner       string        // -B: written at once
	GID, UID     *int          // -g, -u, -U: given up to once the socket is bound
	PrintPort    bool          // -1
	Backlog      int           // -b
	KeepOptions  bool          // -o: IP options (source routes) stay
	NoDelay      bool          // -D: TCP_NODELAY
	RemoteHost   bool          // -h, -H
	Paranoid     bool          // -p, -P
	LocalHost    string        // -l: the local name, "" asks DNS
	RemoteInfo   bool          // -r, -R
	IdentTimeout time.Duration // -t: 26 s
	Host, Port   string
	Program      []string
}

// Usage is how it is called.
const Usage = "tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules ] [ -B banner ] [ -g gid ] [ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] host port program"

// ParseArgs reads the command line: options of one letter, which may stand together,
// values behind them or in the next argument, up to the first argument that is none.
// getenv answers for -U.
func ParseArgs(args []string, getenv func(string) string) (Options, error) {
	o := Options{Verbosity: 1, Limit: 40, Backlog: 20, RemoteHost: true, RemoteInfo: true, IdentTimeout: 26 * time.Second}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		word := args[0][1:]
		args = args[1:]
		if word == "-" {
			break
		}
		for word != "" {
			letter := word[0]
			word = word[1:]
			if !strings.ContainsRune("cxBgublt", rune(letter)) {
				if err := o.flag(letter, getenv); err != nil {
					return o, err
				}
				continue
			}
			if word == "" {
				if len(args) == 0 {
					return o, fmt.Errorf("-%c needs a value", letter)
				}
				word, args = args[0], args[1:]
			}
			if err := o.value(letter, word); err != nil {
				return o, err
			}
			break
		}
	}
	if len(args) < 3 {
		return o, errors.New("a host, a port and a program are needed")
	}
	o.Host, o.Port, o.Program = args[0], args[1], args[2:]
	return o, nil
}

func (o *Options) flag(letter byte, getenv func(string) string) error {
	switch letter {
	case 'q', 'Q', 'v':
		o.Verbosity = strings.IndexByte("qQv", letter)
	case 'X':
		o.AllowNoRules = true
	case 'U':
		for name, to := range map[string]**int{"UID": &o.UID, "GID": &o.GID} {
			n, err := number(getenv(name), math.MaxInt32)
			if err != nil {
				return fmt.Errorf("-U takes the variables UID and GID: %s %w", name, err)
			}
			*to = &n
		}
	case '1':
		o.PrintPort = true
	case 'o', 'O':
		o.KeepOptions = letter == 'o'
	case 'd', 'D':
		o.NoDelay = letter == 'D'
	case 'h', 'H':
		o.RemoteHost = letter == 'h'
	case 'p', 'P':
		o.Paranoid = letter == 'p'
	case 'r', 'R':
		o.RemoteInfo = letter == 'r'
	default:
		return fmt.Errorf("there is no option -%c", letter)
	}
	return nil
}

func (o *Options) value(letter byte, v string) error {
	switch letter {
	case 'x':
		o.Rules = v
		return nil
	case 'B':
		o.Banner = v
		return nil
	case 'l':
		o.LocalHost = v
		return nil
	}
	n, err := number(v, math.MaxInt32)
	if err != nil {
		return fmt.Errorf("-%c: %w", letter, err)
	}
	switch letter {
	case 'c':
		if n < 1 || n > 1<<20 {
			return fmt.Errorf("-c: %d: write a number from 1 to %d", n, 1<<20)
		}
		o.Limit = n
	case 'g':
		o.GID = &n
	case 'u':
		o.UID = &n
	case 'b':
		o.Backlog = n
	case 't':
		o.IdentTimeout = time.Duration(n) * time.Second
	}
	return nil
}

func number(s string, most uint64) (int, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return int(n), nil
}
