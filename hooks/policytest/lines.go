package policytest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/postern-mta/postern/hooks/lua"
)

// lines is the script of a server of t:tcp.
type lines struct {
	greeting string
	steps    []step
}

// step is what one line that comes gets.
type step struct {
	expect string // a pattern; "": any line
	send   string
}

func linesOf(v any) (*lines, error) {
	if f, err := failOf(v); f != nil || err != nil {
		if err == nil {
			err = f
		}
		return nil, err
	}
	l := &lines{}
	var list []any
	switch v := v.(type) {
	case []any:
		list = v
	case map[string]any:
		for key, value := range v {
			var ok bool
			switch key {
			case "greeting":
				l.greeting, ok = value.(string)
			case "replies":
				list, ok = value.([]any)
			}
			if !ok {
				return nil, fmt.Errorf("a script has greeting (a text) and replies (a list), or fail; %s is wrong", key)
			}
		}
	default:
		return nil, errors.New("a script is a function of a line, a list of answers, or { greeting =, replies = }")
	}
	for i, item := range list {
		switch item := item.(type) {
		case string:
			l.steps = append(l.steps, step{send: item})
		case map[string]any:
			expect, _ := item["expect"].(string)
			send, ok := item["send"].(string)
			if !ok {
				return nil, fmt.Errorf("answer %d: write { expect = pattern, send = text }", i+1)
			}
			l.steps = append(l.steps, step{expect, send})
		default:
			return nil, fmt.Errorf("answer %d: a text, or { expect =, send = }, is expected", i+1)
		}
	}
	return l, nil
}

// maxTCPLine bounds a line that a script sends.
const maxTCPLine = 1 << 20

// readLine reads up to a line feed, or a NUL as some scanners have it.
func readLine(br *bufio.Reader) (string, error) {
	var b strings.Builder
	for b.Len() < maxTCPLine {
		c, err := br.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '\n' || c == 0 {
			return strings.TrimSuffix(b.String(), "\r"), nil
		}
		b.WriteByte(c)
	}
	return "", errors.New("a line without an end")
}

// serveLines speaks as a script says. What it sends goes beside, since a pipe holds
// nothing and the client may still be writing.
func (h *harness) serveLines(nc net.Conn, script any) {
	out, said := make(chan string, maxTCPAnswers), make(chan struct{})
	go func() {
		defer close(said)
		for text := range out {
			if _, err := io.WriteString(nc, text); err != nil {
				break
			}
		}
		_ = nc.Close() // a pipe
		for range out {
		}
	}()
	defer func() {
		close(out)
		<-said
	}()
	f, _ := script.(*lua.Callback)
	var l lines
	if f == nil {
		parsed, err := linesOf(script)
		if err != nil {
			return // it fails so
		}
		l = *parsed
		if l.greeting != "" {
			out <- l.greeting
		}
	}
	br := bufio.NewReader(nc)
	for i := 0; i < maxTCPAnswers && (f != nil || i < len(l.steps)); i++ {
		line, err := readLine(br)
		if err != nil {
			return
		}
		if f == nil {
			s := l.steps[i]
			if ok, err := lua.MatchPattern(line, s.expect); err != nil || !ok && !strings.Contains(line, s.expect) {
				h.fault(errors.Join(fmt.Errorf("t:tcp: line %d is %q, which does not match %q", i+1, line, s.expect), err))
				return
			}
			out <- s.send
			continue
		}
		v, err := h.invoke(h.ctx, f, line)
		if err != nil {
			h.fault(fmt.Errorf("t:tcp: %w", err))
			return
		}
		answer, ok := v.(string)
		if !ok {
			return
		}
		out <- answer
	}
}

// maxTCPAnswers bounds what a server of t:tcp says.
const maxTCPAnswers = 10_000
