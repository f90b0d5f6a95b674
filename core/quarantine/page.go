package quarantine

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// ErrGone is a message that is not in quarantine, for that recipient, any more.
var ErrGone = errors.New("the message is not in quarantine any more")

// Page answers to links.
type Page struct {
	Key *Key
	Now func() time.Time
	Log *slog.Logger

	// Find looks at a message without doing anything; ErrGone where there is none.
	Find func(ctx context.Context, c Claim) (Entry, error)
	// Release has it delivered to the recipient; ErrGone where somebody was sooner.
	Release func(ctx context.Context, c Claim) error
}

// maxForm bounds what a browser sends, in bytes.
const maxForm = 8 << 10

// source is every answer. It is a part of the program: a mistake in it shows in every
// test.
const source = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex"><title>Quarantine</title></head>
<body>
<h1>{{.Title}}</h1>
{{with .Entry}}<table>
<tr><th align="left">From</th><td>{{.From}}</td></tr>
<tr><th align="left">Subject</th><td>{{.Subject}}</td></tr>
<tr><th align="left">Kept as</th><td>{{.Reason}}</td></tr>
</table>{{end}}
<p>{{.Text}}</p>
{{if .Fields}}<form method="post">{{range $name, $value := .Fields}}<input type="hidden" name="{{$name}}" value="{{index $value 0}}">{{end}}<button>Deliver it to me</button></form>{{end}}
</body></html>
`

// shown is what the template gets.
type shown struct {
	Title, Text string
	Entry       *Entry
	Fields      url.Values
}

// ServeHTTP implements http.Handler. Only POST releases.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	var q url.Values
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		q = r.URL.Query()
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			p.show(w, http.StatusBadRequest, shown{Title: "That did not work", Text: "The form can't be read."})
			return
		}
		q = r.PostForm
	default:
		h.Set("Allow", "GET, HEAD, POST")
		p.show(w, http.StatusMethodNotAllowed, shown{Title: "That did not work", Text: "Open the link in a browser."})
		return
	}
	c, err := p.Key.Check(q, p.Now())
	switch {
	case errors.Is(err, ErrExpired):
		p.show(w, http.StatusGone, shown{Title: "The link has expired", Text: "Ask your postmaster for the message."})
	case err != nil:
		p.show(w, http.StatusForbidden, shown{Title: "That did not work", Text: "The link is not complete. Copy all of it."})
	case r.Method == http.MethodPost:
		p.release(w, r, c)
	default:
		p.ask(w, r, c)
	}
}

func (p *Page) ask(w http.ResponseWriter, r *http.Request, c Claim) {
	e, err := p.Find(r.Context(), c)
	if err != nil {
		p.fail(w, c, err)
		return
	}
	e.From, e.Subject, e.Reason = Clean(e.From), Clean(e.Subject), Clean(e.Reason)
	p.show(w, http.StatusOK, shown{
		Title: "Is this mail for you?", Entry: &e, Fields: p.Key.values(c),
		Text: "It is kept since it may be junk, or dangerous. The button has it delivered to " + c.Recipient + ".",
	})
}

func (p *Page) release(w http.ResponseWriter, r *http.Request, c Claim) {
	// What was begun is finished, whether the browser waits or not.
	if err := p.Release(context.WithoutCancel(r.Context()), c); err != nil {
		p.fail(w, c, err)
		return
	}
	p.show(w, http.StatusOK, shown{Title: "The message is on its way", Text: "It will be in your mailbox in a moment."})
}

func (p *Page) fail(w http.ResponseWriter, c Claim, err error) {
	if errors.Is(err, ErrGone) {
		p.show(w, http.StatusGone, shown{Title: "The message is not here any more", Text: "It was delivered to you already, or deleted."})
		return
	}
	p.Log.Error("releasing from the quarantine by a link", "id", c.ID, "recipient", c.Recipient, "error", err)
	p.show(w, http.StatusInternalServerError, shown{Title: "That did not work", Text: "Please try again later."})
}

func (p *Page) show(w http.ResponseWriter, status int, s shown) {
	var b bytes.Buffer
	if err := template.Must(template.New("page").Parse(source)).Execute(&b, s); err != nil {
		p.Log.Error("page of the quarantine", "error", err)
		http.Error(w, "the page can't be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a browser that is gone asked in vain
}
