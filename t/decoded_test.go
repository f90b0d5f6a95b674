package t

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
)

// contents are the leaves of a message, decoded: what a reader sees of it,
// whatever transfer encodings it goes in. A structure that can't be read is one
// leaf of the bytes from there on.
func contents(message []byte) []string { return leaves(message, "", 0) }

func leaves(entity []byte, media string, depth int) []string {
	head, body := split(entity)
	fields := fieldsOf(head)
	kind, params, err := mime.ParseMediaType(fields.Get("Content-Type"))
	switch {
	case err == nil || kind != "":
		media = kind
	case media == "":
		media = "text/plain"
	}
	encoding := strings.ToLower(strings.TrimSpace(fields.Get("Content-Transfer-Encoding")))
	switch {
	case depth > 60:
	case strings.HasPrefix(media, "multipart/") && params["boundary"] != "":
		return partsOf(body, params["boundary"], media, depth)
	case media == "message/rfc822" && encoding != "base64" && encoding != "quoted-printable":
		return leaves(body, "", depth+1)
	}
	return []string{media + ": " + string(decoded(body, encoding))}
}

func partsOf(body []byte, boundary, media string, depth int) (list []string) {
	inner := ""
	if media == "multipart/digest" {
		inner = "message/rfc822"
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		p, err := r.NextRawPart()
		if err != nil {
			return append(list, "end of "+media)
		}
		text, err := io.ReadAll(p)
		var head strings.Builder
		for _, name := range []string{"Content-Type", "Content-Transfer-Encoding"} {
			if v := p.Header.Get(name); v != "" {
				fmt.Fprintf(&head, "%s: %s\r\n", name, v)
			}
		}
		list = append(list, leaves(append([]byte(head.String()+"\r\n"), text...), inner, depth+1)...)
		if err != nil {
			return append(list, "broken off")
		}
	}
}

// split parts the header section from the body.
func split(entity []byte) (head, body []byte) {
	if bytes.HasPrefix(entity, []byte("\r\n")) {
		return nil, entity[2:]
	}
	head, body, _ = bytes.Cut(entity, []byte("\r\n\r\n"))
	return head, body
}

// fieldsOf reads what can be read of a header section.
func fieldsOf(head []byte) textproto.MIMEHeader {
	var keep bytes.Buffer
	wanted := false
	for line := range bytes.Lines(head) {
		if line[0] != ' ' && line[0] != '\t' {
			lower := strings.ToLower(string(line[:min(len(line), 40)]))
			wanted = strings.HasPrefix(lower, "content-type:") || strings.HasPrefix(lower, "content-transfer-encoding:")
		}
		if wanted {
			keep.Write(bytes.TrimRight(line, "\r\n"))
			keep.WriteString("\r\n")
		}
	}
	keep.WriteString("\r\n")
	h, err := textproto.NewReader(bufio.NewReader(&keep)).ReadMIMEHeader()
	if err != nil {
		return textproto.MIMEHeader{}
	}
	return h
}

func decoded(body []byte, encoding string) []byte {
	var r io.Reader
	switch encoding {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, bytes.NewReader(body))
	case "quoted-printable":
		r = quotedprintable.NewReader(bytes.NewReader(body))
	default:
		return body
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return body // no such encoding: as it is
	}
	return out
}
