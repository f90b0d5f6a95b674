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
	plotWidth  = 1060
	plotLabels = 480 // for names, left of the bars
	plotValues = 130 // for numbers, right of them
	barHeight  = 16
	barStep    = 24
)

// drawing is an SVG under way, from top to bottom.
type drawing struct {
	strings.Builder
	y int
}

func (d *drawing) text(x, y int, class, anchor, s string) {
	fmt.Fprintf(d, `<text x="%d" y="%d" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(strings.ReplaceAll(s, "`", "")))
}

// bar draws one that is as long as part (0 to 1) says, with a line from low to high.
func (d *drawing) bar(name, class, value string, part, low, high float64) {
	x := func(v float64) int {
		return plotLabels + int(min(v, 1)*float64(plotWidth-plotLabels-plotValues))
	}
	d.text(plotLabels-8, d.y+barHeight-4, "label", "end", name)
	fmt.Fprintf(d, `<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`+"\n", plotLabels, d.y, max(x(part)-plotLabels, 1), barHeight, class)
	if high > low {
		fmt.Fprintf(d, `<path d="M%d %dH%d" class="spread"/>`+"\n", x(low), d.y+barHeight/2, x(high))
	}
	d.text(x(max(part, high))+8, d.y+barHeight-4, "value", "start", value)
	d.y += barStep
}

// plot is the report as SVG: the targets, each as its part of the limit, and for each
// figure of each section whose rows can be compared a group of bars. Their length is
// the median, the line goes from the minimum to the maximum. Colours follow the
// reader's choice of light or dark.
func (r *report) plot() string {
	d := &drawing{y: 30}
	d.text(12, d.y, "title", "start", "make bench-"+r.Bench+", "+r.When.Format("2006-01-02")+", commit "+r.Commit)
	r.plotTargets(d)
	for i := range r.Sections {
		if s := &r.Sections[i]; s.Rows[0].Figures[0].Name != "" {
			s.plot(d)
		}
	}
	const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title, .section { font-weight: 600; font-size: 14px }
.figure { fill: #59636e }
.bar { fill: #9aa4af }
.ours { fill: #0969da }
.missed { fill: #cf222e }
.limit { stroke: #1f2328; stroke-dasharray: 4 3 }
.spread { stroke: #1f2328; stroke-width: 1.5 }
.ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.figure { fill: #9198a1 }
.bar { fill: #656c76 }
.ours { fill: #4493f8 }
.missed { fill: #f85149 }
.limit { stroke: #f0f6fc; stroke-dasharray: 4 3 }
.spread { stroke: #f0f6fc }
.ground { fill: #0d1117 }
}
</style>
`
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s">`+"\n", plotWidth, d.y+10, html.EscapeString("figures of make bench-"+r.Bench)) +
		style + fmt.Sprintf(`<rect class="ground" width="%d" height="%d"/>`+"\n", plotWidth, d.y+10) + d.String() + "</svg>\n"
}

// plotTargets draws each target's median as a part of its limit, which is a line.
func (r *report) plotTargets(d *drawing) {
	const full = 2 // times the limit is the whole width
	if len(r.Targets) == 0 {
		return
	}
	d.y += 34
	d.text(12, d.y, "section", "start", "What is aimed at: each median as a part of its limit")
	d.y += 12
	top := d.y
	for _, t := range r.Targets {
		class := "bar ours"
		if !t.met() {
			class = "bar missed"
		}
		d.bar(t.What, class, strings.TrimSpace(digits(t.Got)+" "+t.Unit)+" ("+t.want()+")", t.Got/t.Limit/full, 0, 0)
	}
	x := plotLabels + (plotWidth-plotLabels-plotValues)/full
	fmt.Fprintf(d, `<path d="M%d %dV%d" class="limit"/>`+"\n", x, top-4, d.y-barStep+barHeight+4)
}

func (s *section) plot(d *drawing) {
	d.y += 34
	d.text(12, d.y, "section", "start", s.Title)
	for k, first := range s.Rows[0].Figures {
		if first.Unit == "" {
			continue
		}
		d.y += 28
		name := first.Name + ", " + first.Unit
		if strings.HasPrefix(first.Unit, "/") {
			name = first.Name + first.Unit
		}
		d.text(12, d.y, "figure", "start", name)
		d.y += 8
		most := 0.0
		for _, line := range s.Rows {
			most = max(most, slices.Max(line.Figures[k].Values))
		}
		for i, line := range s.Rows {
			f := line.Figures[k]
			class := "bar"
			if i == 0 {
				class = "bar ours"
			}
			d.bar(line.Name, class, digits(f.median()), f.median()/most, slices.Min(f.Values)/most, slices.Max(f.Values)/most)
		}
	}
}
