package analyze

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// Table is a report's result.
type Table struct {
	Name    string   // zoverall, zsenders, …
	Title   string   // the first line
	About   []string // lines that say what the columns mean
	Columns []string
	// Rows hold int64, Seconds, float64 and string. In a list of facts, a row
	// without cells parts two groups.
	Rows [][]any
	// Facts tells that a row is a name and a value, rather than cells of columns.
	Facts bool
	// Most is the column whose highest values count where not all rows are wanted;
	// firstRows and spreadRows say otherwise.
	Most int
	// Folded is how many names stand together in the row "(others)".
	Folded int64
}

// Values of Most that are no column: the first rows, or rows at even distances, count.
const (
	firstRows  = -1
	spreadRows = -2
)

// Seconds is a time with two digits behind the point in tables.
type Seconds float64

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) { return []byte(cell(s)), nil }

func cell(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(appendCell(nil, v))
}

func appendCell(b []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(b, v, 10)
	case Seconds:
		return strconv.AppendFloat(b, float64(v), 'f', 2, 64)
	case json.Number:
		return append(b, v...)
	case float64:
		return strconv.AppendFloat(b, v, 'g', 6, 64)
	case string:
		return append(b, v...)
	}
	return b
}

// Top keeps n rows, those with the highest values, in their order; 0: all.
func (t *Table) Top(n int) (left int) {
	if n <= 0 || len(t.Rows) <= n || t.Facts {
		return 0
	}
	left = len(t.Rows) - n
	if t.Most == spreadRows {
		list := make([][]any, n)
		for i := range list {
			list[i] = t.Rows[len(t.Rows)-1-(n-1-i)*(len(t.Rows)-1)/max(n-1, 1)]
		}
		t.Rows = list
		return left
	}
	if t.Most >= 0 {
		slices.SortStableFunc(t.Rows, func(a, b []any) int {
			x, y := amount(a[t.Most]), amount(b[t.Most])
			switch {
			case x > y:
				return -1
			case x < y:
				return 1
			}
			return 0
		})
	}
	t.Rows = t.Rows[:n]
	return left
}

func amount(v any) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case Seconds:
		return float64(v)
	}
	return 0
}

// WriteText writes the report as qmailanalog does: title, what it means, a blank
// line, and columns that are as wide as they must be, all but the last to the right.
func (t *Table) WriteText(out io.Writer) error {
	w := bufio.NewWriter(out)
	defer w.Flush()
	_, _ = w.WriteString(t.Title + "\n\n") // Flush tells what failed
	for _, line := range t.About {
		_, _ = w.WriteString(line + "\n")
	}
	if len(t.About) > 0 {
		_ = w.WriteByte('\n')
	}
	if t.Facts {
		for _, row := range t.Rows {
			if len(row) > 0 {
				_, _ = w.WriteString(cell(row[0]) + ": " + cell(row[1]))
			}
			_ = w.WriteByte('\n')
		}
		return w.Flush()
	}
	width := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		width[i] = len(c)
	}
	for _, row := range t.Rows {
		for i := range row[:len(row)-1] {
			width[i] = max(width[i], displaywidth.String(clean(cell(row[i]))))
		}
	}
	line := func(at func(i int) string) {
		for i := range t.Columns {
			text := clean(at(i))
			if i < len(t.Columns)-1 {
				text = strings.Repeat(" ", max(0, width[i]-displaywidth.String(text))) + text + "  "
			}
			_, _ = w.WriteString(text)
		}
		_ = w.WriteByte('\n')
	}
	line(func(i int) string { return t.Columns[i] })
	for _, row := range t.Rows {
		line(func(i int) string { return cell(row[i]) })
	}
	return w.Flush()
}

// clean keeps control characters of a log from a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// WriteCSV writes a head line and the rows.
func (t *Table) WriteCSV(out io.Writer) error {
	w := csv.NewWriter(out)
	_ = w.Write(t.Columns) // Error tells what failed
	for _, row := range t.Rows {
		if len(row) == 0 {
			continue
		}
		list := make([]string, len(row))
		for i := range row {
			list[i] = cell(row[i])
		}
		_ = w.Write(list)
	}
	w.Flush()
	return w.Error()
}

// MarshalJSON implements json.Marshaler: an object with the rows as objects, or, of a
// list of facts, one object of them.
func (t *Table) MarshalJSON() ([]byte, error) {
	b := []byte(`{"report":` + strconv.Quote(t.Name) + `,`)
	object := func(row []any) error {
		b = append(b, '{')
		for i, c := range t.Columns {
			value, err := json.Marshal(row[i])
			if err != nil {
				return err
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(strconv.AppendQuote(b, c), ':'), value...)
		}
		b = append(b, '}')
		return nil
	}
	if t.Facts {
		b = append(b, `"facts":{`...)
		first := true
		for _, row := range t.Rows {
			if len(row) == 0 {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			value, err := json.Marshal(row[1])
			if err != nil {
				return nil, err
			}
			b = append(append(strconv.AppendQuote(b, strings.TrimSpace(cell(row[0]))), ':'), value...)
		}
		return append(b, '}', '}'), nil
	}
	b = append(b, `"rows":[`...)
	for i, row := range t.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		if err := object(row); err != nil {
			return nil, err
		}
	}
	b = append(b, ']')
	if t.Folded > 0 {
		b = strconv.AppendInt(append(b, `,"folded":`...), t.Folded, 10)
	}
	return append(b, '}'), nil
}
