package plugin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what a plugin may say into the log.
const (
	maxLine        = 8 << 10 // bytes; the rest of a line is dropped
	linesPerSecond = 100     // the rest is counted
	maxAttrs       = 16      // of a structured line
)

// output takes the lines that a plugin writes to the log: as they are, or, where
// they are JSON in the form of hclog (the sdk writes it), as records.
type output struct {
	log *slog.Logger

	mu      sync.Mutex
	second  time.Time // when the present second began
	lines   int       // in it
	dropped int       // not logged since the last that was
	last    string    // the last line, for the obituary
}

// line logs one line.
func (o *output) line(line string) {
	line = strings.TrimRight(strings.ToValidUTF8(line, "\uFFFD"), "\r\n")
	if strings.TrimSpace(line) == "" {
		return
	}
	level, text, attrs := parseLine(line)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = text
	if now := time.Now(); now.Sub(o.second) >= time.Second {
		o.tellDropped()
		o.second, o.lines = now, 0
	}
	if o.lines++; o.lines > linesPerSecond {
		o.dropped++
		return
	}
	o.log.LogAttrs(context.Background(), level, text, attrs...)
}

// lastLine is the last thing that was said, "" where nothing was.
func (o *output) lastLine() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// flush says how many lines are missing, and forgets the last line.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tellDropped()
	o.last = ""
}

func (o *output) tellDropped() {
	if o.dropped > 0 {
		o.log.Warn("plugin says too much", "lines_left_out", o.dropped)
		o.dropped = 0
	}
}

// parseLine reads a line that may be a record in the form of hclog.
func parseLine(line string) (slog.Level, string, []slog.Attr) {
	if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
		return slog.LevelError, line, nil
	}
	if line[0] != '{' {
		return slog.LevelInfo, line, nil
	}
	var record map[string]any
	if json.Unmarshal([]byte(line), &record) != nil {
		return slog.LevelInfo, line, nil
	}
	text, ok := record["@message"].(string)
	if !ok {
		return slog.LevelInfo, line, nil
	}
	level := slog.LevelInfo
	switch record["@level"] {
	case "trace", "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	var attrs []slog.Attr
	for _, key := range slices.Sorted(maps.Keys(record)) {
		if len(attrs) < maxAttrs && !strings.HasPrefix(key, "@") {
			attrs = append(attrs, slog.Any(key, record[key]))
		}
	}
	return level, text, attrs
}

// copyLines hands each line of r to take, cut at maxLine, until r ends.
func copyLines(r io.Reader, take func(line string)) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			take(string(line))
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// lineWriter hands what is written to it to an output, line by line.
type lineWriter struct {
	out  *output
	rest []byte
}

// Write implements io.Writer. One goroutine writes.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.rest = append(w.rest, p[:min(len(p), maxLine-len(w.rest))]...)
			break
		}
		w.out.line(string(w.rest) + string(p[:min(i, maxLine)]))
		w.rest, p = w.rest[:0], p[i+1:]
	}
	return n, nil
}
