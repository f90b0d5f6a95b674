package console

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/record"
)

//go:embed page.html
var pageSource string

// Bounds of what the page shows and how much it costs.
const (
	summaryAge    = 10 * time.Second // a summary is made at most this often
	summaryLimit  = 100000           // of this many messages
	shownRows     = 100              // of destinations and policies
	shownVerdicts = 25
)

// styleSource is the Content-Security-Policy source of the page's style.
func styleSource() string {
	_, rest, _ := strings.Cut(pageSource, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// pageTemplate is the page with its functions. Its source is a part of the
// program: a mistake in it is one, and shows in every test.
func pageTemplate() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"age":       Age,
		"until":     until,
		"clock":     func(t time.Time) string { return t.Local().Format("15:04:05") },
		"clean":     record.Clean,
		"decisions": Policy.decisions,
	}).Parse(pageSource))
}

func until(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "held"
	case !t.After(now):
		return "now"
	}
	return "in " + span(t.Sub(now))
}

// shownPage is what the page's template gets.
type shownPage struct {
	Status
	Now        time.Time
	Summary    Summary
	SummaryErr string
	Recent     []record.Event
	Health     string
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	p := shownPage{Status: s.status(), Now: time.Now()}
	p.Health = p.Status.Queue.Failure
	var err error
	if p.Summary, err = s.recentSummary(); err != nil {
		p.SummaryErr = err.Error()
	}
	p.Policies = p.Policies[:min(len(p.Policies), shownRows)]
	p.Recent = s.o.Record.Recent()
	p.Recent = p.Recent[:min(len(p.Recent), shownVerdicts)]
	var b bytes.Buffer
	if err := s.template.Execute(&b, p); err != nil {
		s.log.Error("console: page", "error", err)
		http.Error(w, "the page can't be made, see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // a browser that is gone asked in vain
}

// recentSummary is the queue by destination, as it was some seconds ago at most:
// walking a long queue for each look at the page would be too dear.
func (s *Server) recentSummary() (Summary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.summed.IsZero() || now.Sub(s.summed) > summaryAge {
		s.summary, s.sumErr = Summarize(s.o.Queue.Scan(), s.destination, summaryLimit)
		s.summary = s.summary.Top(shownRows)
		s.summed = time.Now()
	}
	return s.summary, s.sumErr
}
