// Command clamd is a plugin that has ClamAV's daemon look at each message.
//
//	[[policy]]
//	use     = "clamd"
//	address = "127.0.0.1:3310"
//
// The policy is in this file, the client of clamd's protocol in instream.go, and the
// names that are let in all the same in names.go.
package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

const askTime = 90 * time.Second // for one message, all servers together

type clamd struct {
	Address string        `postern:"address" doc:"of clamd: host and port, or the path of its unix socket; several with commas: the next one is asked where one fails" default:"127.0.0.1:3310"`
	Connect time.Duration `postern:"connect_timeout" doc:"for a connection to one clamd" default:"5s"`
	Scan    time.Duration `postern:"scan_timeout" doc:"for the verdict of one clamd" default:"30s"`
	MaxSize sdk.Size      `postern:"max_size" doc:"messages above this size are not shown to clamd; no more than its StreamMaxLength" default:"25MiB"`
	Large   string        `postern:"on_large" enum:"pass, defer, reject, quarantine" doc:"what becomes of messages above max_size, or that clamd finds too long" default:"pass"`
	Found   string        `postern:"on_found" enum:"reject, quarantine, discard, pass" doc:"what becomes of a message in which clamd finds something" default:"reject"`
	Exclude []string      `postern:"exclude" doc:"names of findings that let a message in, with * and ? as wildcards or a regular expression between slashes; one that begins with ! is refused all the same"`
	Points  float64       `postern:"points" doc:"score for a finding that lets the message in" default:"0"`
	Header  bool          `postern:"header" doc:"whether X-Virus-Status is added to what clamd has seen: Clean, or Infected with the name of a finding that lets it in" default:"true"`

	servers *scanner.Group
	names   names
}

// Prepare checks the settings.
func (c *clamd) Prepare(context.Context) error {
	var all []error
	list, err := scanner.ParseList(c.Address)
	if err == nil {
		err = plain(list)
	}
	if err != nil {
		all = append(all, sdk.Problem{Key: "address", Text: err.Error()})
	}
	c.servers = &scanner.Group{Name: "clamd", Servers: list, Connect: c.Connect, Scan: c.Scan}
	if c.MaxSize <= 0 {
		all = append(all, sdk.Problem{Key: "max_size", Text: `must be at least one byte; write a size such as "25MiB"`})
	}
	var problems []error
	c.names, problems = readNames(c.Exclude)
	return errors.Join(append(all, problems...)...)
}

// plain refuses servers that are to be reached by TLS, which clamd has not.
func plain(list []scanner.Server) error {
	for _, s := range list {
		if s.TLS {
			return errors.New("clamd speaks its own protocol; write a host and port such as \"127.0.0.1:3310\"")
		}
	}
	return nil
}

// Healthy tells whether every clamd is there.
func (c *clamd) Healthy(ctx context.Context) error { return ping(ctx, c.servers) }

// Headers removes a forged verdict, also from messages that clamd never sees.
func (c *clamd) Headers(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if ev.Header.Count("X-Virus-Status") > 0 {
		ev.Remove("X-Virus-Status", 0)
	}
	return sdk.Pass(), nil
}

// Message asks clamd. An error of clamd's is the policy's failure.
func (c *clamd) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if ev.BodySize > int64(c.MaxSize) {
		return c.large(ev), nil
	}
	v, err := instream(ctx, c.servers, scanner.NewMessage(ev.Stream))
	switch {
	case err != nil:
		return sdk.Pass(), err
	case v.long:
		return c.large(ev), nil
	case v.found == "":
		ev.Result("clamd", map[string]any{"clean": true})
		if c.Header {
			ev.Prepend("X-Virus-Status", "Clean")
		}
		return sdk.Pass(), nil
	}
	excluded := c.names.exclude(v.found)
	ev.Result("clamd", map[string]any{"clean": false, "found": v.found, "excluded": excluded})
	reason := "clamd finds " + v.found
	if !excluded {
		switch c.Found {
		case "reject":
			d := sdk.Reject("5.7.1", "Refused: the message holds %s", v.found)
			d.Reason = reason
			return d, nil
		case "quarantine":
			return sdk.Quarantine(reason), nil
		case "discard":
			return sdk.Discard(reason), nil
		}
	}
	if c.Points != 0 {
		ev.Score("clamd", c.Points, v.found)
	}
	if c.Header {
		ev.Prepend("X-Virus-Status", "Infected ("+v.found+")")
	}
	return sdk.Pass(), nil
}

// large is the decision on a message that clamd is not shown.
func (c *clamd) large(ev *sdk.Event) sdk.Decision {
	ev.Result("clamd", map[string]any{"skipped": "size"})
	switch c.Large {
	case "defer":
		return sdk.Defer("4.3.4", "The message is too long to be looked at for viruses")
	case "reject":
		return sdk.Reject("5.3.4", "The message is too long to be looked at for viruses")
	case "quarantine":
		return sdk.Quarantine("the message is too long for clamd")
	}
	return sdk.Pass()
}

func policy() sdk.Policy {
	return sdk.Policy{
		Name: "clamd", Version: "1.0", About: "Has ClamAV's daemon look at each message, and refuses those in which it finds something.",
		Handler: &clamd{}, Access: sdk.Stream(), OnFailure: "defer", Timeout: askTime,
	}
}

func main() { sdk.Serve(policy()) }

// clean is a name of clamd's for a reply.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
