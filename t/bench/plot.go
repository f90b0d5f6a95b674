//go:build linux

package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// Sizes of the plot, in its own units.
const (
	plotWidth  = 860
	plotLabels = 270 // for names, left of the bars
	plotValues = 130 // for numbers, right of them
	barHeight  = 16
	barStep    = 24
)

// plot is the report as SVG: for each figure of each section a group of bars, whose
// length is the median, with a line from the minimum to the maximum. Colours
// follow the reader's choice of light or dark.
func (r *report) plot() string {
	var w strings.Builder
	y := 30
	text := func(x, y int, class, anchor, s string) {
		fmt.Fprintf(&w, `<text x="%d" y="%d" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(s))
	}
	text(12, y, "title", "start", "make bench-"+r.Bench+", "+r.When.Format("2006-01-02")+", commit "+r.Commit)
	for _, s := range r.Sections {
		y += 34
		text(12, y, "section", "start", s.Title)
		for k, first := range s.Rows[0].Figures {
			y += 28
			name := first.Name + ", " + first.Unit
			if strings.HasPrefix(first.Unit, "/") {
				name = first.Name + first.Unit
			}
			text(12, y, "figure", "start", name)
			y += 8
			most := 0.0
			for _, line := range s.Rows {
				if k < len(line.Figures) && len(line.Figures[k].Values) > 0 {
					most = max(most, slices.Max(line.Figures[k].Values))
				}
			}
			for i, line := range s.Rows {
				if k >= len(line.Figures) || len(line.Figures[k].Values) == 0 || most <= 0 {
					continue
				}
				f := line.Figures[k]
				x := func(v float64) int { return plotLabels + int(v/most*float64(plotWidth-plotLabels-plotValues)) }
				class := "bar"
				if i == 0 {
					class = "bar ours"
				}
				text(plotLabels-8, y+barHeight-4, "label", "end", line.Name)
				fmt.Fprintf(&w, `<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`+"\n", plotLabels, y, max(x(f.median())-plotLabels, 1), barHeight, class)
				if low, high := slices.Min(f.Values), slices.Max(f.Values); high > low {
					fmt.Fprintf(&w, `<path d="M%d %dH%d" class="spread"/>`+"\n", x(low), y+barHeight/2, x(high))
				}
				text(x(slices.Max(f.Values))+8, y+barHeight-4, "value", "start", digits(f.median()))
				y += barStep
			}
		}
	}
	const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title, .section { font-weight: 600; font-size: 14px }
.figure { fill: #59636e }
.bar { fill: #9aa4af }
.ours { fill: #0969da }
.spread { stroke: #1f2328; stroke-width: 1.5 }
.ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.figure { fill: #9198a1 }
.bar { fill: #656c76 }
.ours { fill: #4493f8 }
.spread { stroke: #f0f6fc }
.ground { fill: #0d1117 }
}
</style>
`
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s">`+"\n", plotWidth, y+20, html.EscapeString("figures of make bench-"+r.Bench)) +
		style + fmt.Sprintf(`<rect class="ground" width="%d" height="%d"/>`+"\n", plotWidth, y+20) + w.String() + "</svg>\n"
}
