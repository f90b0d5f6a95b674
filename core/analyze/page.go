package analyze

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// Sizes of a plot, in its own units.
const (
	plotWidth  = 900
	plotHeight = 240
	plotLeft   = 80
	plotTop    = 40
	plotBottom = 50
)

const style = `
:root { --ink: #1f2328; --ground: #ffffff; --line: #d1d9e0; --good: #1a7f37; --late: #bf8700; --bad: #cf222e; --some: #0969da }
@media (prefers-color-scheme: dark) {
:root { --ink: #f0f6fc; --ground: #0d1117; --line: #3d444d; --good: #3fb950; --late: #d29922; --bad: #f85149; --some: #4493f8 }
}
body { font: 14px system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 2em auto; max-width: 64em; padding: 0 1em }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.title { font-weight: 600; font-size: 14px } .line { stroke: var(--line) }
.good { fill: var(--good) } .late { fill: var(--late) } .bad { fill: var(--bad) } .some { fill: var(--some) }
table { border-collapse: collapse; margin: 0.5em 0 2em } th, td { padding: 0.2em 0.7em; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:last-child, td:last-child { text-align: left; white-space: normal; overflow-wrap: anywhere } table.facts td:first-child { text-align: left }
.about { opacity: 0.75; white-space: pre-line }
`

// Page writes everything as one HTML file that needs no other: the plots as SVG, and
// the tables, of which more says how many rows each lacks.
func Page(w io.Writer, title string, d *Distribution, s *Series, tables []*Table, more []int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>%[1]s</title>\n<style>%[2]s</style>\n</head>\n<body>\n<h1>%[1]s</h1>\n",
		html.EscapeString(title), style)
	for _, plot := range Plots(d, s) {
		b.WriteString(plot)
	}
	for i, t := range tables {
		t.html(&b)
		if more[i] > 0 {
			fmt.Fprintf(&b, "<p>and %d more</p>\n", more[i])
		}
	}
	b.WriteString("</body>\n</html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) html(b *strings.Builder) {
	fmt.Fprintf(b, "<h2 id=\"%s\">%s</h2>\n<p class=\"about\">%s</p>\n", t.Name, html.EscapeString(t.Title), html.EscapeString(strings.Join(t.About, "\n")))
	if t.Facts {
		b.WriteString("<table class=\"facts\">\n")
	} else {
		b.WriteString("<table>\n<tr>")
		for _, c := range t.Columns {
			fmt.Fprintf(b, "<th>%s</th>", c)
		}
		b.WriteString("</tr>\n")
	}
	for _, row := range t.Rows {
		if len(row) == 0 {
			continue
		}
		b.WriteString("<tr>")
		for _, c := range row {
			fmt.Fprintf(b, "<td>%s</td>", html.EscapeString(clean(cell(c))))
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</table>\n")
}

// bars is one plot: bars of layers, from below.
type bars struct {
	title  string
	names  []string // below the bars
	layers []layer
	tip    func(i int) string
	unit   func(n int64) string
}

type layer struct {
	class  string
	values []int64
}

// Plots is the plots as SVG: delays, outcomes over time, volume over time.
func Plots(d *Distribution, s *Series) []string {
	plain := func(n int64) string { return fmt.Sprint(n) }
	bands := d.Bands()
	list := []string{bars{
		title: "Delay of successful deliveries", names: bandNames, layers: []layer{{"some", bands}}, unit: plain,
		tip: func(i int) string { return fmt.Sprintf("%s: %d", bandNames[i], bands[i]) },
	}.svg()}
	start, parts := s.Within(120)
	if len(parts) == 0 {
		return list
	}
	step := stepOf(start, s)
	k, z, f, v := make([]int64, len(parts)), make([]int64, len(parts)), make([]int64, len(parts)), make([]int64, len(parts))
	names := make([]string, len(parts))
	for i, p := range parts {
		k[i], z[i], f[i], v[i], names[i] = p.Successes, p.Deferrals, p.Failures, p.Bytes, moment(start[i], step)
	}
	return append(list, bars{
		title: "Outcomes by " + span(step) + ": success, deferral, failure", names: names, unit: plain,
		layers: []layer{{"good", k}, {"late", z}, {"bad", f}},
		tip: func(i int) string {
			return fmt.Sprintf("%s: %d delivered, %d deferred, %d failed", names[i], k[i], z[i], f[i])
		},
	}.svg(), bars{
		title: "Volume delivered by " + span(step), names: names, layers: []layer{{"some", v}}, unit: size,
		tip: func(i int) string { return names[i] + ": " + size(v[i]) },
	}.svg())
}

func (p bars) svg() string {
	highest := int64(1)
	for i := range p.names {
		n := int64(0)
		for _, l := range p.layers {
			n += l.values[i]
		}
		highest = max(highest, n)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", plotWidth, plotTop+plotHeight+plotBottom, html.EscapeString(p.title))
	fmt.Fprintf(&b, `<text x="%d" y="24" class="title">%s</text>`+"\n", plotLeft, html.EscapeString(p.title))
	bottom := plotTop + plotHeight
	for i := range 5 {
		y := bottom - i*plotHeight/4
		fmt.Fprintf(&b, `<path d="M%d %dH%d" class="line"/><text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLeft, y, plotWidth-20, plotLeft-8, y+4, p.unit(highest*int64(i)/4))
	}
	step := float64(plotWidth-plotLeft-20) / float64(max(len(p.names), 1))
	every := max(1, (len(p.names)+5)/6)
	if len(p.names) <= 10 {
		every = 1
	}
	for i, name := range p.names {
		x, y := float64(plotLeft)+step*(float64(i)+0.1), float64(bottom)
		fmt.Fprintf(&b, `<g><title>%s</title>`, html.EscapeString(p.tip(i)))
		for _, l := range p.layers {
			h := float64(plotHeight) * float64(l.values[i]) / float64(highest)
			y -= h
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"/>`, x, y, step*0.8, h, l.class)
		}
		b.WriteString("</g>\n")
		if i%every == 0 {
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", x, bottom+18, html.EscapeString(name))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}
