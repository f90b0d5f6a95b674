package top

import (
	"slices"
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// column is one of a table's. Where there is not room for all, those of the lowest
// rank go first; what is left over goes to the wide ones.
type column struct {
	title string
	right bool // numbers
	wide  bool // takes what room is left
	rank  int  // 0 stays to the last
	least int  // of a wide one: cells it needs to be worth it
}

// value is what stands in a column of a row.
type value struct {
	text  string
	style Style
}

// row is a line of a table, with the text that a filter is looked for in.
type row struct {
	values []value
	find   string
}

// sorting is a way to order rows; descending unless text.
type sorting struct {
	name   string
	column string // that it marks
	less   func(i, j int) int
}

// table is what a pane shows.
type table struct {
	columns []column
	rows    []row
	orders  []sorting
	empty   string // what is said where there are no rows
	more    string // what is said in the title: rows that are not there, how old it is
}

// sorted puts the rows into an order, and keeps those that the filter finds.
func (t *table) arrange(order int, reverse bool, filter string) {
	at := make([]int, len(t.rows))
	for i := range at {
		at[i] = i
	}
	if len(t.orders) > 0 {
		by := t.orders[order%len(t.orders)].less
		slices.SortStableFunc(at, func(i, j int) int {
			if reverse {
				i, j = j, i
			}
			return by(i, j)
		})
	}
	filter = strings.ToLower(filter)
	rows := make([]row, 0, len(t.rows))
	for _, i := range at {
		if filter == "" || strings.Contains(strings.ToLower(t.rows[i].find), filter) {
			rows = append(rows, t.rows[i])
		}
	}
	t.rows = rows
}

// marked is the column that the order goes by.
func (t *table) marked(order int) string {
	if len(t.orders) == 0 {
		return ""
	}
	return t.orders[order%len(t.orders)].column
}

const gap = 2 // cells between columns

// widths decides which columns are shown and how wide; 0: not shown.
func (t *table) widths(room int) []int {
	natural := make([]int, len(t.columns))
	for i, c := range t.columns {
		natural[i] = displaywidth.String(c.title) + 1 // for the mark
		for _, r := range t.rows {
			natural[i] = max(natural[i], displaywidth.String(r.values[i].text))
		}
	}
	shown := make([]bool, len(t.columns))
	for i := range shown {
		shown[i] = true
	}
	for {
		list, left := t.divide(natural, shown, room)
		if left >= 0 {
			return list
		}
		worst := -1
		for i, c := range t.columns {
			if shown[i] && c.rank > 0 && (worst < 0 || c.rank >= t.columns[worst].rank) {
				worst = i
			}
		}
		if worst < 0 {
			return list
		}
		shown[worst] = false
	}
}

// divide gives the columns that are shown their room; a negative rest says that it
// is not enough.
func (t *table) divide(natural []int, shown []bool, room int) (list []int, left int) {
	list = make([]int, len(natural))
	left = room + gap
	var wide []int
	for i, c := range t.columns {
		if !shown[i] {
			continue
		}
		list[i] = natural[i]
		if c.wide {
			list[i] = min(natural[i], max(c.least, displaywidth.String(c.title)+1))
			wide = append(wide, i)
		}
		left -= list[i] + gap
	}
	for _, i := range wide { // the first gets what it needs, then the next
		more := min(max(left, 0), natural[i]-list[i])
		list[i] += more
		left -= more
	}
	return list, left
}

// draw writes the table from (x, y) on: the heading and as many rows as fit.
func (t *table) draw(f *Frame, x, y, w, h, from int, mark string, down bool) (shown int) {
	if h <= 0 {
		return 0
	}
	widths := t.widths(w)
	f.fill(x, y, w, Heading)
	t.line(f, x, y, widths, func(i int) value {
		title := t.columns[i].title
		if title == mark && mark != "" {
			if down {
				title += "▼"
			} else {
				title += "▲"
			}
		}
		return value{title, Heading}
	})
	if len(t.rows) == 0 {
		f.put(x, y+1, w, t.empty, Dim)
		return 0
	}
	for i := from; i < len(t.rows) && shown < h-1; i++ {
		shown++
		t.line(f, x, y+shown, widths, func(k int) value { return t.rows[i].values[k] })
	}
	return shown
}

func (t *table) line(f *Frame, x, y int, widths []int, what func(i int) value) {
	for i, w := range widths {
		if w == 0 {
			continue
		}
		v := what(i)
		if t.columns[i].right {
			f.right(x, y, w, v.text, v.style)
		} else {
			f.put(x, y, w, v.text, v.style)
		}
		x += w + gap
	}
}

// print writes all of it as plain text, each column as wide as it needs.
func (t *table) print(b *strings.Builder) {
	if len(t.rows) == 0 {
		b.WriteString(t.empty + "\n")
		return
	}
	widths := t.widths(1 << 20)
	line := func(what func(i int) string) {
		var one strings.Builder
		for i, w := range widths {
			text := what(i)
			pad := strings.Repeat(" ", max(w-displaywidth.String(text), 0))
			if t.columns[i].right {
				text = pad + text
			} else {
				text += pad
			}
			one.WriteString(text + strings.Repeat(" ", gap))
		}
		b.WriteString(strings.TrimRight(one.String(), " ") + "\n")
	}
	line(func(i int) string { return t.columns[i].title })
	for _, r := range t.rows {
		line(func(i int) string { return r.values[i].text })
	}
}
