package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
)

// Down says that no daemon answers on the control socket. A socket that may not
// be used is another error, which wraps fs.ErrPermission.
type Down struct {
	Socket string
	Err    error
}

// Error implements error.
func (d *Down) Error() string { return fmt.Sprintf("no daemon answers on %s: %v", d.Socket, d.Err) }

// Unwrap gives the cause.
func (d *Down) Unwrap() error { return d.Err }

// Refusal is the daemon's "no".
type Refusal struct {
	Status int // of HTTP
	Text   string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// IsNotFound tells whether the daemon knows no message of that id.
func IsNotFound(err error) bool {
	r, ok := errors.AsType[*Refusal](err)
	return ok && r.Status == http.StatusNotFound
}

// Client gives orders to the daemon behind a control socket. It is safe for
// concurrent use; Close it.
type Client struct {
	path string
	http *http.Client
}

// Dial makes a client of the daemon that listens on the socket; where none does,
// the error is a *Down.
func Dial(path string) (*Client, error) {
	c := &Client{path: path}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, path) },
		DisableCompression: true,
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := dialSocket(ctx, path)
	if err != nil {
		return nil, c.explain(err)
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// explain makes errors of the connection a *Down where that is what they mean.
func (c *Client) explain(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		cause := errors.New("nobody listens")
		if errors.Is(err, fs.ErrNotExist) {
			cause = errors.New("there is no such socket")
		}
		return &Down{Socket: c.path, Err: cause}
	}
	return fmt.Errorf("control socket %s: %w", c.path, err)
}

// do sends a request; its answer is open, and was a success.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "postern", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxOrder))
	if err != nil {
		return nil, err
	}
	var f failure
	if json.Unmarshal(text, &f) != nil || f.Error == "" {
		f.Error = fmt.Sprintf("the daemon answers %s", resp.Status)
	}
	return nil, &Refusal{Status: resp.StatusCode, Text: f.Error}
}

// call sends a request and reads its one JSON value.
func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, body io.Reader) (v T, err error) {
	resp, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return v, nil
}

// Status asks for the daemon's state.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/status", nil, nil)
}

// Top asks for all that is to be seen of the running daemon, with at most rows rows in
// each list; 0: a hundred. With wait it waits for a look at the whole queue.
func (c *Client) Top(ctx context.Context, rows int, wait bool) (Top, error) {
	q := url.Values{}
	if rows > 0 {
		q.Set("rows", strconv.Itoa(rows))
	}
	if wait {
		q.Set("wait", "1")
	}
	return call[Top](ctx, c, http.MethodGet, "/top", q, nil)
}

// Reload makes the daemon load its configuration anew and returns its state
// afterwards. Where the configuration is wrong, the error is a *Refusal with all
// problems, and the old one goes on.
func (c *Client) Reload(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/reload", nil, nil)
}

// TakeDrops makes the daemon look into the drop directory.
func (c *Client) TakeDrops(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/drops", nil, nil)
	return err
}

// Downs lists the hosts that did not answer of late.
func (c *Client) Downs(ctx context.Context) ([]Unreached, error) {
	return call[[]Unreached](ctx, c, http.MethodGet, "/downs", nil, nil)
}

// Forget has them tried again.
func (c *Client) Forget(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/downs/forget", nil, nil)
	return err
}

// QueueSummary asks for the queue by destination, the largest most of them; 0: all.
func (c *Client) QueueSummary(ctx context.Context, most int) (Summary, error) {
	return call[Summary](ctx, c, http.MethodGet, "/queue/summary", url.Values{"limit": {strconv.Itoa(most)}}, nil)
}

// QueueList asks for the messages that the filter means, oldest first, all where
// it is empty. Stopping early is fine.
func (c *Client) QueueList(ctx context.Context, f Filter) iter.Seq2[Row, error] {
	return list[Row](ctx, c, "/queue/list", f)
}

// QueueShow asks for one message; see IsNotFound.
func (c *Client) QueueShow(ctx context.Context, id string) (Detail, error) {
	return call[Detail](ctx, c, http.MethodGet, "/queue/show", url.Values{"id": {id}}, nil)
}

// QueueBody asks for a message as it is stored; the caller closes it.
func (c *Client) QueueBody(ctx context.Context, id string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, "/queue/body", url.Values{"id": {id}}, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// QueueAct has something done to queued messages, such as retry or delete, and
// tells of each message as it is reached.
func (c *Client) QueueAct(ctx context.Context, act string, o Order) iter.Seq2[Done, error] {
	return list[Done](ctx, c, "/queue/act/"+url.PathEscape(act), o)
}

// QueueImport puts a message into the queue as it was exported. The error is a
// *Refusal where the daemon does not take it.
func (c *Client) QueueImport(ctx context.Context, d Detail, body io.Reader) error {
	line, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = call[struct{}](ctx, c, http.MethodPost, "/queue/import", nil, io.MultiReader(bytes.NewReader(append(line, '\n')), body))
	return err
}

// QueueCheck has the queue checked, see queue.Check, and tells how it goes; the
// last Inspection has Result set.
func (c *Client) QueueCheck(ctx context.Context) iter.Seq2[Inspection, error] {
	return list[Inspection](ctx, c, "/queue/fsck", struct{}{})
}

// Why asks for the stories that q asks for, see record.Recorder.Why.
func (c *Client) Why(ctx context.Context, q record.Query) ([]record.Story, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	return call[[]record.Story](ctx, c, http.MethodPost, "/why", nil, bytes.NewReader(body))
}

// Shadow asks what policies in shadow mode would have done, see record.Recorder.Shadow.
func (c *Client) Shadow(ctx context.Context, q record.ShadowQuery) (record.ShadowReport, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return record.ShadowReport{}, err
	}
	return call[record.ShadowReport](ctx, c, http.MethodPost, "/shadow", nil, bytes.NewReader(body))
}

// Stories asks for all stories that were written since a time, the oldest first,
// with what a replay needs; zero: all.
func (c *Client) Stories(ctx context.Context, since time.Time) iter.Seq2[record.Story, error] {
	return func(yield func(record.Story, error) bool) {
		query := url.Values{}
		if !since.IsZero() {
			query.Set("since", since.Format(time.RFC3339Nano))
		}
		resp, err := c.do(ctx, http.MethodGet, "/stories", query, nil)
		if err != nil {
			yield(record.Story{}, err)
			return
		}
		defer resp.Body.Close()
		walkLines(resp.Body, func(one record.Whole, err error) bool { return yield(record.Story(one), err) })
	}
}

// Passages asks for the points on the ways of all mail, see record.Recorder.Passages.
func (c *Client) Passages(ctx context.Context, since, until time.Time) iter.Seq2[record.Passage, error] {
	return func(yield func(record.Passage, error) bool) {
		query := url.Values{}
		for name, at := range map[string]time.Time{"since": since, "until": until} {
			if !at.IsZero() {
				query.Set(name, at.Format(time.RFC3339Nano))
			}
		}
		resp, err := c.do(ctx, http.MethodGet, "/passages", query, nil)
		if err != nil {
			yield(record.Passage{}, err)
			return
		}
		defer resp.Body.Close()
		walkLines(resp.Body, yield)
	}
}

// Plugins asks for the plugin processes.
func (c *Client) Plugins(ctx context.Context) ([]Plugin, error) {
	return call[[]Plugin](ctx, c, http.MethodGet, "/plugins", nil, nil)
}

// Inject hands over a message. The error is about the way there; what the daemon
// thinks of the message is the reply. The daemon gives it an id and a time.
func (c *Client) Inject(ctx context.Context, drop queue.Drop, body io.Reader) (message.Reply, error) {
	e := Envelope{Sender: drop.Sender.String(), Double: drop.Double, Via: drop.Via, Trace: drop.Trace, Client: drop.Client}
	for _, r := range drop.Recipients {
		e.Recipients = append(e.Recipients, r.String())
	}
	line, err := json.Marshal(e)
	if err != nil {
		return message.Reply{}, err
	}
	whole := io.MultiReader(bytes.NewReader(append(line, '\n')), body)
	a, err := call[Answer](ctx, c, http.MethodPost, "/inject", nil, whole)
	if err != nil {
		return message.Reply{}, err
	}
	return message.NewReply(a.Code, a.Enhanced, a.Text), nil
}

// list sends an order and walks the lines of its answer.
func list[T any](ctx context.Context, c *Client, path string, order any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		body, err := json.Marshal(order)
		if err != nil {
			yield(zero, err)
			return
		}
		resp, err := c.do(ctx, http.MethodPost, path, nil, bytes.NewReader(body))
		if err != nil {
			yield(zero, err)
			return
		}
		defer resp.Body.Close()
		walkLines(resp.Body, yield)
	}
}

// walkLines reads JSON objects to the end, or to the error that a line tells.
func walkLines[T any](r io.Reader, yield func(T, error) bool) {
	var zero T
	d := json.NewDecoder(r)
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			yield(zero, fmt.Errorf("reading the daemon's answer: %w", err))
			return
		}
		v, err := oneLine[T](raw)
		if !yield(v, err) || err != nil {
			return
		}
	}
}

// oneLine is an element of a list, or the error that ends it.
func oneLine[T any](raw []byte) (v T, err error) {
	var f failure
	if err := json.Unmarshal(raw, &f); err != nil {
		return v, err
	}
	if f.Error != "" {
		return v, &Refusal{Status: http.StatusInternalServerError, Text: f.Error}
	}
	return v, json.Unmarshal(raw, &v)
}
