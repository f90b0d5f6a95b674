package top

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"

	"github.com/postern-mta/postern/core/record"
)

// Style is how a piece of text is to look; a terminal without colours shows bold,
// reverse and dim alone.
type Style uint8

// The styles.
const (
	Plain Style = iota
	Dim
	Bold
	Bar   // the first and the last line
	Title // of a pane
	Chosen
	Heading // of a table
	Good
	Warn
	Bad
)

// cell is one place of a Frame. Of a wide character the second cell is empty.
type cell struct {
	text  string
	style Style
}

// Frame is a screen full of text: exactly as many cells as it was made for, so that
// nothing can wrap, and no control character in any of them.
type Frame struct {
	W, H  int
	cells []cell
}

func newFrame(w, h int) *Frame {
	f := &Frame{W: max(w, 0), H: max(h, 0)}
	f.cells = make([]cell, f.W*f.H)
	for i := range f.cells {
		f.cells[i].text = " "
	}
	return f
}

// At is what stands at a place: "" behind a wide character.
func (f *Frame) At(x, y int) (string, Style) {
	c := f.cells[y*f.W+x]
	return c.text, c.style
}

// put writes text into at most width cells from x on, cut with an ellipsis, and
// returns how many it took.
func (f *Frame) put(x, y, width int, text string, style Style) int {
	if y < 0 || y >= f.H || x < 0 || x >= f.W {
		return 0
	}
	width = min(width, f.W-x)
	text = fit(text, width)
	at := x
	for g := displaywidth.StringGraphemes(text); g.Next(); {
		n := g.Width()
		if n == 0 || at+n > x+width {
			continue
		}
		f.set(at, y, n, cell{harmless(g.Value()), style})
		at += n
	}
	return at - x
}

// set writes a character of n cells. Of a wide one that it covers by half, the other
// half becomes a space.
func (f *Frame) set(x, y, n int, c cell) {
	line := f.cells[y*f.W : (y+1)*f.W]
	for i := x; i > 0 && line[i].text == ""; i-- {
		line[i-1].text, line[i].text = " ", " "
	}
	for i := x + n; i < len(line) && line[i].text == ""; i++ {
		line[i].text = " "
	}
	line[x] = c
	for i := 1; i < n; i++ {
		line[x+i] = cell{"", c.style}
	}
}

// right writes text so that it ends at the end of the width cells.
func (f *Frame) right(x, y, width int, text string, style Style) {
	text = fit(text, width)
	f.put(x+width-displaywidth.String(text), y, width, text, style)
}

// fill gives a stretch of a line a style.
func (f *Frame) fill(x, y, width int, style Style) {
	for i := max(x, 0); i < min(x+width, f.W) && y >= 0 && y < f.H; i++ {
		f.cells[y*f.W+i].style = style
	}
}

// String is the frame's text, without spaces at the ends of lines.
func (f *Frame) String() string {
	var b strings.Builder
	for y := range f.H {
		var line strings.Builder
		for x := range f.W {
			line.WriteString(f.cells[y*f.W+x].text)
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// harmless is the last line of defence: whatever got here, a terminal is never sent
// a character that it would obey.
func harmless(s string) string {
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return "?"
		}
	}
	return s
}

// clean makes a text from outside fit for a terminal.
func clean(s string) string { return record.Clean(s) }

// fit cuts a text to at most width cells.
func fit(text string, width int) string {
	if width <= 0 {
		return ""
	}
	if len(text) <= width || displaywidth.String(text) <= width {
		return text
	}
	return displaywidth.TruncateString(text, width, "…")
}

// number is a count in at most five or six characters.
func number[N int | uint64](n N) string {
	f := float64(n)
	switch {
	case f < 100_000:
		return fmt.Sprint(n)
	case f < 999_500:
		return fmt.Sprintf("%.0fk", f/1e3)
	case f < 9.995e6:
		return fmt.Sprintf("%.2fM", f/1e6)
	case f < 999.5e6:
		return fmt.Sprintf("%.0fM", f/1e6)
	}
	return fmt.Sprintf("%.1fG", f/1e9)
}

// perSecond is a rate in at most five characters.
func perSecond(f float64) string {
	switch {
	case f <= 0:
		return "0"
	case f < 0.01:
		return "<0.01"
	case f < 1:
		return fmt.Sprintf("%.2f", f)
	case f < 99.95:
		return fmt.Sprintf("%.1f", f)
	case f < 9_999.5:
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1fk", f/1e3)
}

// size is a number of bytes.
func size(n int64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for f >= 1000 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	if f < 10 && units[0] != "B" {
		return fmt.Sprintf("%.1f %s", f, units[0])
	}
	return fmt.Sprintf("%.0f %s", f, units[0])
}

// took is the time of a call in at most six characters.
func took(d time.Duration) string {
	switch ms := float64(d) / 1e6; {
	case d <= 0:
		return "-"
	case ms < 1:
		return fmt.Sprintf("%.0fµs", ms*1e3)
	case ms < 10:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0fms", ms)
	case ms < 100_000:
		return fmt.Sprintf("%.1fs", ms/1e3)
	}
	return fmt.Sprintf("%.0fs", float64(d)/1e9)
}

// bars are the heights of a sparkline.
var bars = [...]string{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}

// spark draws the last width values, the newest at the right, the highest one as a
// full bar. Above nothing there is always something to see.
func spark(values []float64, width int) string {
	if width <= 0 {
		return ""
	}
	values = values[max(len(values)-width, 0):]
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(values)))
	for _, v := range values {
		switch {
		case v <= 0 || top <= 0:
			b.WriteString("▁")
		default:
			b.WriteString(bars[min(max(int(v/top*8+.5), 2), 8)])
		}
	}
	return b.String()
}
