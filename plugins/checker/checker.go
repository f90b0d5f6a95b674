// Command checker is a plugin that looks at the names of attachments and at the
// subject: it refuses, quarantines or tags mail that brings a program, or a
// subject with one of the site's words. It is the example of docs/plugins.md.
//
//	[[policy]]
//	use        = "plugins.d/checker"
//	extensions = ["exe", "scr"]
//	words      = ["casino"]
//	action     = "quarantine"
package main

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"path"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks/sdk"
)

// Bounds of the walk through a message's parts.
const (
	maxDepth = 10
	maxParts = 1000
)

type checker struct {
	Extensions []string `postern:"extensions" doc:"endings of attachment names that are not let in" default:"bat, cmd, com, exe, js, lnk, pif, scr, vbs"`
	Words      []string `postern:"words" doc:"words that a subject must not hold, in any case"`
	Action     string   `postern:"action" doc:"what becomes of such mail" enum:"reject, quarantine, tag" default:"reject"`
}

// Prepare puts the settings into the form in which they are compared.
func (c *checker) Prepare(context.Context) error {
	for i, ext := range c.Extensions {
		c.Extensions[i] = strings.ToLower(strings.TrimPrefix(ext, "."))
	}
	for i, word := range c.Words {
		c.Words[i] = strings.ToLower(word)
	}
	return nil
}

// Message judges the whole message.
func (c *checker) Message(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	subject, _ := ev.Header.Get("Subject")
	for _, word := range c.Words {
		if strings.Contains(strings.ToLower(subject), word) {
			return c.decide(ev, "the subject holds the word "+word), nil
		}
	}
	kind := ""
	for field := range ev.Header.Named("Content-Type") {
		kind = field.Value()
		break
	}
	w := walk{extensions: c.Extensions}
	w.entity(kind, "", message.NewReader(ev.Body), 0)
	ev.Result("checker", map[string]any{"parts": w.parts, "found": w.found})
	if w.found != "" {
		return c.decide(ev, "attachments like "+w.found+" are not accepted here"), nil
	}
	return sdk.Pass(), nil
}

func (c *checker) decide(ev *sdk.Event, why string) sdk.Decision {
	switch c.Action {
	case "quarantine":
		return sdk.Quarantine(why)
	case "tag":
		ev.Tag("checker")
		ev.Replace("X-Checker", why)
		return sdk.Pass()
	}
	return sdk.Reject("5.7.1", "Refused: %s", why)
}

// walk looks for a forbidden name in a message's parts.
type walk struct {
	extensions []string
	parts      int
	found      string
}

// entity looks at one part, and at the parts in it. What can't be read as MIME
// has no attachments.
func (w *walk) entity(contentType, disposition string, body io.Reader, depth int) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		kind = "text/plain"
	}
	_, named, _ := mime.ParseMediaType(disposition)
	w.name(named["filename"])
	w.name(params["name"])
	if w.found != "" || depth == maxDepth || !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		return
	}
	for parts := multipart.NewReader(body, params["boundary"]); w.found == "" && w.parts < maxParts; w.parts++ {
		part, err := parts.NextRawPart()
		if err != nil {
			return
		}
		w.entity(part.Header.Get("Content-Type"), part.Header.Get("Content-Disposition"), part, depth+1)
	}
}

func (w *walk) name(name string) {
	dec := mime.WordDecoder{}
	if plain, err := dec.DecodeHeader(name); err == nil {
		name = plain
	}
	ext := strings.ToLower(strings.TrimPrefix(path.Ext(strings.TrimRight(name, " .")), "."))
	if ext != "" && slices.Contains(w.extensions, ext) {
		w.found = "." + ext
	}
}

func main() {
	sdk.Serve(sdk.Policy{
		Name: "checker", Version: "1.0", About: "Keeps out attachments with dangerous names, and subjects with the site's words.",
		Handler: &checker{}, Access: sdk.Whole(),
	})
}
