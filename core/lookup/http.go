package lookup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"
)

// web asks a web server: 200 with the value as its body, 404 or 410 where there is
// none.
type web struct {
	source      Source
	path, query template // query: nil where there is none
	client      *http.Client
}

func newHTTP(source Source, roots *x509.CertPool) (client, error) {
	u, err := url.Parse(source.URL)
	if err != nil {
		return nil, fault{"source", errors.New("it is no URL; places for the key stand in the path or behind the question mark")} // the error repeats it
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fault{"source", errors.New(`write a URL such as "https://directory.example/users/{key}"`)}
	case u.User != nil:
		return nil, fault{"source", errors.New("the name and the password have places of their own; write user and password_file")}
	}
	path, query, _ := strings.Cut(source.URL, "?")
	w := &web{source: source, path: parseTemplate(path), query: parseTemplate(query)}
	if w.path.places()+w.query.places() == 0 {
		return nil, fault{"source", errors.New("no place for the key; write {key} into the path or behind the question mark")}
	}
	t := &http.Transport{
		MaxConnsPerHost: source.Concurrency, MaxIdleConnsPerHost: source.Concurrency, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxResponseHeaderBytes: 64 << 10,
	}
	w.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	runtime.AddCleanup(w, func(t *http.Transport) { t.CloseIdleConnections() }, t)
	return w, nil
}

// ask implements client. A key is escaped for where it stands, so that it is one
// segment of the path or one value.
func (w *web) ask(ctx context.Context, f fields) (any, bool, error) {
	address := w.path.fill(f, pathEscape)
	if w.query != nil {
		address += "?" + w.query.fill(f, url.QueryEscape)
	}
	status, header, body, err := w.fetch(ctx, address)
	switch {
	case err != nil:
		return nil, false, err
	case status == http.StatusNotFound || status == http.StatusGone:
		return nil, false, nil
	case status != http.StatusOK:
		return nil, false, fmt.Errorf("the server answers %d %s", status, http.StatusText(status))
	}
	if kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); kind != "application/json" {
		return strings.TrimRight(string(body), "\r\n"), true, nil
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, false, fmt.Errorf("the server answers no JSON: %w", err)
	}
	if v, err = plain(v, 0); err != nil || v == nil { // null: there is none
		return nil, false, err
	}
	return v, true, nil
}

// pathEscape leaves nothing of a key that a path would take for its own: not even
// "." and "..".
func pathEscape(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

func (w *web) fetch(ctx context.Context, address string) (status int, header http.Header, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, nil, errors.New("the key makes no URL")
	}
	r.Header.Set("Accept", "text/plain, application/json")
	r.Header.Set("User-Agent", "postern")
	if w.source.PasswordFile != "" {
		password, err := readPassword(w.source.PasswordFile)
		if err != nil {
			return 0, nil, nil, err
		}
		if w.source.User == "" {
			r.Header.Set("Authorization", "Bearer "+password)
		} else {
			r.SetBasicAuth(w.source.User, password)
		}
	}
	answer, err := w.client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // which has not got the whole address in it
		}
		return 0, nil, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxValue+1))
	if err == nil && len(body) > maxValue {
		err = fmt.Errorf("the answer has more than %d MiB", maxValue>>20)
	}
	return answer.StatusCode, answer.Header, body, err
}

// reach implements client: any key that is most likely not there will do.
func (w *web) reach(ctx context.Context) error {
	_, _, err := w.ask(ctx, fieldsOf("postern-check@invalid"))
	return err
}
