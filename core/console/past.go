package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/postern-mta/postern/core/record"
)

// timeOf reads a time of the query; zero where it has none.
func timeOf(r *http.Request, name string) (at time.Time, err error) {
	if text := r.URL.Query().Get(name); text != "" {
		return time.Parse(time.RFC3339Nano, text)
	}
	return at, nil
}

// passages sends the points on the ways of mail, one a line.
func (s *Server) passages(w http.ResponseWriter, r *http.Request) {
	since, err := timeOf(r, "since")
	until, err2 := timeOf(r, "until")
	if err := errors.Join(err, err2); err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	out := newLines(w)
	for one, err := range s.o.Record.Passages(r.Context(), since, until) {
		if err != nil {
			out.put(failure{err.Error()})
			break
		}
		if !out.put(one) {
			return
		}
	}
	out.flush()
}

// stories sends what the recorder keeps since a time, a story a line.
func (s *Server) stories(w http.ResponseWriter, r *http.Request) {
	since, err := timeOf(r, "since")
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	out := newLines(w)
	for one, err := range s.o.Record.Stories(r.Context(), since, time.Time{}) {
		if err != nil {
			out.put(failure{err.Error()})
			break
		}
		if !out.put(record.Whole(one)) {
			return
		}
	}
	out.flush()
}

// downs lists the hosts that did not answer of late.
func (s *Server) downs(w http.ResponseWriter, _ *http.Request) {
	list := []Unreached{}
	if s.o.Downs != nil {
		list = s.o.Downs()
	}
	s.reply(w, list)
}

// forget has them tried again.
func (s *Server) forget(w http.ResponseWriter, _ *http.Request) {
	if s.o.Forget != nil {
		s.o.Forget()
	}
	s.reply(w, struct{}{})
}
