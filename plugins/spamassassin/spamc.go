package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

// This file is a client of spamd: the SPAMC protocol, version 1.5, as
// SpamAssassin's spamd/PROTOCOL describes it. One connection is one question.

// Bounds of a reply. spamd is of the house, but what it answers is made from
// mail of strangers.
const (
	maxLine    = 4 << 10  // bytes of a line
	maxLines   = 32       // header lines
	maxSymbols = 64 << 10 // bytes of rule names
	maxRules   = 1000
	maxRule    = 100 // bytes of a rule's name
	maxPoints  = 1e6
)

// client asks servers in the name of a user, "" for spamd's default.
type client struct {
	*scanner.Group
	user string
}

// verdict is what spamd thinks of a message.
type verdict struct {
	spam             bool
	points, required float64
	rules            []string
}

// ask shows spamd a message: head, and behind it so many bytes. ctx bounds all of it.
func (c client) ask(ctx context.Context, head []byte, size int64, m *scanner.Message) (v verdict, err error) {
	err = c.Ask(ctx, m, func(ctx context.Context, s scanner.Server, r io.Reader) error {
		return c.talk(ctx, s, func(conn net.Conn) error {
			ask := request{verb: "SYMBOLS", user: c.user, size: int64(len(head)) + size, body: io.MultiReader(bytes.NewReader(head), r)}
			sent := ask.send(conn)
			v, err = readVerdict(conn)
			return either(err, sent)
		})
	})
	return v, err
}

// either is the error of a reply, or where there is one, why the request could not
// be sent: a reply that came all the same says more.
func either(read, sent error) error {
	if read != nil && sent != nil {
		return sent
	}
	return read
}

// tell teaches spamd that a message is spam or not (TELL). known says that it was
// told before.
func (c client) tell(ctx context.Context, spam bool, size int64, m *scanner.Message) (known bool, err error) {
	class := "ham"
	if spam {
		class = "spam"
	}
	err = c.Ask(ctx, m, func(ctx context.Context, s scanner.Server, r io.Reader) error {
		return c.talk(ctx, s, func(conn net.Conn) error {
			ask := request{verb: "TELL", user: c.user, more: "Message-class: " + class + "\r\nSet: local\r\n", size: size, body: r}
			sent := ask.send(conn)
			known, err = readTold(conn)
			return either(err, sent)
		})
	})
	return known, err
}

// ping asks whether every spamd is there.
func (c client) ping(ctx context.Context) error {
	return c.Each(ctx, func(ctx context.Context, s scanner.Server) error {
		return c.talk(ctx, s, func(conn net.Conn) error {
			if _, err := io.WriteString(conn, "PING SPAMC/1.2\r\n\r\n"); err != nil {
				return err
			}
			if err := thatIsAll(conn); err != nil {
				return err
			}
			return readStatus(bufio.NewReaderSize(conn, maxLine))
		})
	})
}

// talk runs one exchange. The end of ctx ends it.
func (c client) talk(ctx context.Context, s scanner.Server, exchange func(net.Conn) error) error {
	conn, err := c.Dial(ctx, s)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn)
}

// request is a question to spamd.
type request struct {
	verb, user string
	more       string // further header lines
	size       int64  // of body
	body       io.Reader
}

// send writes the request.
func (q request) send(conn net.Conn) error {
	w := bufio.NewWriterSize(conn, 32<<10)
	fmt.Fprintf(w, "%s SPAMC/1.5\r\nContent-length: %d\r\n%s", q.verb, q.size, q.more)
	if q.user != "" {
		fmt.Fprintf(w, "User: %s\r\n", q.user)
	}
	fmt.Fprint(w, "\r\n")
	if n, err := io.Copy(w, q.body); err != nil {
		return err
	} else if n != q.size {
		return fmt.Errorf("the message has %d bytes and not %d", n, q.size)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return thatIsAll(conn)
}

// thatIsAll closes our half of the connection.
func thatIsAll(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// readVerdict reads the reply to SYMBOLS.
func readVerdict(conn io.Reader) (v verdict, err error) {
	r := bufio.NewReaderSize(conn, maxLine)
	if err := readStatus(r); err != nil {
		return v, err
	}
	length, judged := int64(-1), false
	err = readHeader(r, func(name, value string) (err error) {
		switch name {
		case "content-length":
			if length, err = strconv.ParseInt(value, 10, 32); err != nil || length < 0 || length > maxSymbols {
				return fmt.Errorf("its reply has the length %.20q", value)
			}
		case "spam":
			judged = true
			return v.read(value)
		}
		return nil
	})
	if err != nil {
		return v, err
	}
	if !judged {
		return v, errors.New("its reply has no verdict")
	}
	v.rules, err = readRules(r, length)
	return v, err
}

// readTold reads the reply to TELL: DidSet says that it learned something new.
func readTold(conn io.Reader) (known bool, err error) {
	r := bufio.NewReaderSize(conn, maxLine)
	if err := readStatus(r); err != nil {
		return false, err
	}
	known = true
	err = readHeader(r, func(name, value string) error {
		if name == "didset" && strings.Contains(value, "local") {
			known = false
		}
		return nil
	})
	return known, err
}

// readHeader reads header lines up to the empty one; names come in lower case.
func readHeader(r *bufio.Reader, field func(name, value string) error) error {
	for n := 0; ; n++ {
		line, err := readLine(r)
		if err != nil || line == "" {
			return err
		}
		if n >= maxLines {
			return errors.New("its reply has too many header lines")
		}
		name, value, _ := strings.Cut(line, ":")
		if err := field(strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
}

// readStatus reads the first line: "SPAMD/1.1 0 EX_OK".
func readStatus(r *bufio.Reader) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	protocol, rest, _ := strings.Cut(line, " ")
	code, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(protocol, "SPAMD/") {
		return fmt.Errorf("it does not speak spamd's protocol: %.100q", line)
	}
	if n != 0 {
		return fmt.Errorf("it answers %d %.100q", n, text)
	}
	return nil
}

// readLine reads a line without its end, of maxLine bytes at most.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", errors.New("a line of its reply is too long")
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("its reply is cut off: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// read reads "True ; 1000.0 / 5.0".
func (v *verdict) read(s string) error {
	word, numbers, _ := strings.Cut(s, ";")
	points, required, _ := strings.Cut(numbers, "/")
	var errs [2]error
	v.points, errs[0] = number(points)
	v.required, errs[1] = number(required)
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "true", "yes":
		v.spam = true
	case "false", "no":
		v.spam = false
	default:
		errs[0] = errors.New("no verdict")
	}
	if errors.Join(errs[:]...) != nil {
		return fmt.Errorf("its verdict %.100q makes no sense", s)
	}
	return nil
}

func number(s string) (float64, error) {
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err == nil && !(math.Abs(n) <= maxPoints) {
		err = errors.New("out of range")
	}
	return n, err
}

// readRules reads the names of the rules that hit, separated by commas; length is
// -1 where the reply gave none.
func readRules(r io.Reader, length int64) ([]string, error) {
	limit := length
	if limit < 0 {
		limit = maxSymbols + 1
	}
	text, err := io.ReadAll(io.LimitReader(r, limit))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) < length:
		return nil, fmt.Errorf("its reply is cut off: %w", io.ErrUnexpectedEOF)
	case len(text) > maxSymbols:
		return nil, errors.New("its reply is too long")
	}
	var rules []string
	for name := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if len(name) > maxRule || strings.ContainsFunc(name, notOfRule) {
			return nil, fmt.Errorf("its reply names the rule %.100q", name)
		}
		if rules = append(rules, name); len(rules) > maxRules {
			return nil, errors.New("its reply names too many rules")
		}
	}
	return rules, nil
}

// notOfRule tells that a rule's name can't have a character.
func notOfRule(r rune) bool {
	return r != '_' && r != '-' && r != '.' && !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
}
