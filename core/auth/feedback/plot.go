package feedback

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of the plot, in its own units.
const (
	plotWidth  = 900
	plotHeight = 260
	plotEdge   = 60
	maxDays    = 400
)

// Plot is a tally as SVG: a bar a day, what passed below and what failed above.
// Colours follow the reader's choice of light or dark.
func Plot(t *Tally) string {
	days := t.Days[max(0, len(t.Days)-maxDays):]
	highest := int64(1)
	for _, d := range days {
		highest = max(highest, d.Messages)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="messages by day, passed and failed">`+"\n", plotWidth, plotHeight+2*plotEdge)
	b.WriteString(`<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 14px }
.passed { fill: #0969da } .failed { fill: #cf222e } .ground { fill: #ffffff } .line { stroke: #9aa4af }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.passed { fill: #4493f8 } .failed { fill: #f85149 } .ground { fill: #0d1117 } .line { stroke: #656c76 }
}
</style>
<rect width="100%" height="100%" class="ground"/>
`)
	title := fmt.Sprintf("DMARC: %d messages in %d reports, %d passed, %d failed", t.Messages, t.Reports, t.Passed, t.Failed)
	fmt.Fprintf(&b, `<text x="%d" y="30" class="title">%s</text>`+"\n", plotEdge, html.EscapeString(title))
	bottom := plotEdge + plotHeight
	for i := range 5 {
		y := bottom - i*plotHeight/4
		fmt.Fprintf(&b, `<path d="M%d %dH%d" class="line"/><text x="%d" y="%d" text-anchor="end">%d</text>`+"\n", plotEdge, y, plotWidth-20, plotEdge-6, y+4, highest*int64(i)/4)
	}
	step := float64(plotWidth-plotEdge-20) / float64(max(len(days), 1))
	every := max(1, (len(days)+9)/10)
	for i, d := range days {
		x, wide := float64(plotEdge)+step*float64(i)+step*0.1, step*0.8
		passed := float64(plotHeight) * float64(d.Passed) / float64(highest)
		failed := float64(plotHeight) * float64(d.Messages-d.Passed) / float64(highest)
		fmt.Fprintf(&b, `<g><title>%s: %d passed, %d failed</title><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="passed"/><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="failed"/></g>`+"\n",
			html.EscapeString(d.Name), d.Passed, d.Messages-d.Passed, x, float64(bottom)-passed, wide, passed, x, float64(bottom)-passed-failed, wide, failed)
		if i%every == 0 {
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", x, bottom+18, html.EscapeString(d.Name))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}
