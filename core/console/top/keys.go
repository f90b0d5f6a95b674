package top

import (
	"time"
	"unicode"
	"unicode/utf8"
)

// Names of keys that are no characters.
const (
	KeyUp        = "Up"
	KeyDown      = "Down"
	KeyLeft      = "Left"
	KeyRight     = "Right"
	KeyPageUp    = "PgUp"
	KeyPageDown  = "PgDn"
	KeyHome      = "Home"
	KeyEnd       = "End"
	KeyTab       = "Tab"
	KeyBackTab   = "Backtab"
	KeyEnter     = "Enter"
	KeyEscape    = "Esc"
	KeyBackspace = "Backspace"
	KeyInterrupt = "Ctrl-C"
)

const maxFilter = 100 // characters

// intervals are what + and - choose among.
var intervals = []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}

// Key does what a key asks for: a character, or one of the names above. It reports
// true where that is the end.
func (m *Model) Key(key string) (quit bool) {
	switch {
	case key == KeyInterrupt:
		return true
	case m.typing:
		m.write(key)
		return false
	case m.help:
		m.help = false
		return key == "q"
	}
	switch key {
	case "q", "Q":
		return true
	case "p", " ":
		m.paused = !m.paused
	case "?", "h":
		m.help = m.have
	case "/":
		m.typing, m.typed = true, m.filter
	case KeyEscape:
		m.filter = ""
	case "+", "=":
		m.pace(-1)
	case "-":
		m.pace(1)
	default:
		m.move(key)
	}
	return false
}

// move changes the pane, its order, or the rows that are seen.
func (m *Model) move(key string) {
	p := m.pane
	switch key {
	case KeyTab, KeyRight:
		m.pane = (p + 1) % paneEnd
	case KeyBackTab, KeyLeft:
		m.pane = (p + paneEnd - 1) % paneEnd
	case "1", "2", "3", "4", "5":
		m.pane = Pane(key[0] - '1')
	case "s":
		m.order[p] = (m.order[p] + 1) % len(m.table(p).orders)
		m.scroll[p] = 0
	case "r":
		m.reverse[p] = !m.reverse[p]
	case KeyUp, "k":
		m.scroll[p] = max(m.scroll[p]-1, 0)
	case KeyDown, "j":
		m.scroll[p]++
	case KeyPageUp:
		m.scroll[p] = max(m.scroll[p]-max(m.page, 1), 0)
	case KeyPageDown:
		m.scroll[p] += max(m.page, 1)
	case KeyHome, "g":
		m.scroll[p] = 0
	case KeyEnd, "G":
		m.scroll[p] = max(m.rows, 0)
	}
}

// write is the filter being written.
func (m *Model) write(key string) {
	switch key {
	case KeyEnter:
		m.typing, m.filter = false, m.typed
		m.scroll = [paneEnd]int{}
	case KeyEscape:
		m.typing = false
	case KeyBackspace:
		_, n := utf8.DecodeLastRuneInString(m.typed)
		m.typed = m.typed[:len(m.typed)-n]
	default:
		r, n := utf8.DecodeRuneInString(key)
		if n == len(key) && r != utf8.RuneError && unicode.IsPrint(r) && utf8.RuneCountInString(m.typed) < maxFilter {
			m.typed += key
		}
	}
}

// pace makes looks more or less frequent.
func (m *Model) pace(step int) {
	i := 0
	for i < len(intervals)-1 && intervals[i] < m.interval {
		i++
	}
	m.interval = intervals[min(max(i+step, 0), len(intervals)-1)]
	m.say("a look every " + m.interval.String())
}
