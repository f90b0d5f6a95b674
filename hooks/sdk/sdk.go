// Package sdk is what the author of a Go plugin imports: a policy that runs in a
// process of its own, asked by Postern at the stages that it wants.
//
//		type words struct {
//			Words []string `postern:"words" doc:"refused in a subject" default:"casino"`
//		}
//
//		func (w *words) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) { … }
//
//		func main() {
//			sdk.Serve(sdk.Policy{Name: "words", About: "Refuses words.", Handler: &words{}, Access: sdk.Headers()})
//		}
//
//	  - Policy and Serve (this file, serve.go): what a plugin is, and its main.
//	  - Settings (settings.go): the fields of the handler that have a tag.
//	  - Event (event.go): what a stage's method sees, and the edits it may ask for.
//	  - Reject, Defer and the other decisions (decision.go).
//	  - Lesson (learn.go): a message that a person judged, for a policy that learns.
//	  - HostOf (host.go): the memory that policies share, and metrics.
//	  - Local (local.go): the same policy inside of a test, without a process; package
//	    sdktest has more for tests.
//
// Logging goes through log/slog's default logger into the server's log.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// Policy is a plugin.
type Policy struct {
	Name    string // of small letters, digits, - and _
	Version string // free text, shown by `postern plugin list`
	About   string // one sentence

	// Handler is a pointer to a struct. Its fields with the tag postern are the
	// settings; its methods that are named after stages (Connect, Helo, TLS, Auth,
	// Mail, Rcpt, Data, Headers, Message, Queue, Queued, Command, Deny, Disconnect,
	// Route, Attempt, Delivered, Deferred, Bounced, DSN, Tick, Load, Unload) and have
	// the form of StageFunc are what it wants
	// to be asked. They run concurrently, after the settings are set, and must
	// return soon after ctx is done. An error, like a panic, is a failure: the
	// entry's on_failure says what follows.
	//
	// Three more methods are called where they exist: Prepare(context.Context) error
	// once, after the settings are set and before any stage, its error keeps the
	// server from starting; Healthy(context.Context) error by the server's health
	// check; Close() error at the end. A policy that learns has the method
	// Learn(context.Context, *Lesson) (string, error).
	Handler any

	Access Access // how much of the message the events bring; the zero value: nothing

	OnFailure string        // "defer", "pass" or "": the server's default, defer
	Immune    []string      // "relaying", "authenticated": such clients are not judged
	Timeout   time.Duration // for one call; 0: the server's default
	DenyAt    string        // stage until which its refusals are kept, such as "rcpt"; "": they are said at once
	Every     time.Duration // between two calls of its method Tick
	Host      bool          // wants Session.Host, which may cost a DNS look-up for each connection
}

// Access is how much of the message a policy wants to see.
type Access struct {
	kind   proto.Access
	prefix int64
}

// Headers asks for the header section: Event.Header.
func Headers() Access { return Access{kind: proto.Access_ACCESS_HEADERS} }

// Prefix asks for the header section and the first n bytes of the body, at most
// 1 MiB: Event.Prefix, from stage message on.
func Prefix(n int) Access { return Access{proto.Access_ACCESS_PREFIX, int64(n)} }

// Whole asks for the header section and the whole message: Event.Body, from
// stage message on. A message of over 256 KiB comes as a file.
func Whole() Access { return Access{kind: proto.Access_ACCESS_WHOLE} }

// File asks for the header section and a read-only file with the whole message,
// for programs that take a path: Event.File, from stage message on.
func File() Access { return Access{kind: proto.Access_ACCESS_FILE} }

// Stream asks for the header section and the whole message as it flows:
// Event.Stream, from stage message on. No copy is made of it, on disk or in memory,
// and a policy that has read enough answers at once.
func Stream() Access { return Access{kind: proto.Access_ACCESS_STREAM} }

// StageFunc is the form of a stage's method.
type StageFunc = func(ctx context.Context, ev *Event) (Decision, error)

// Problem is an error of Prepare about one setting; errors.Join makes one of
// several.
type Problem struct {
	Key  string // the setting, such as "words" or "words[2]"; "" for the policy as a whole
	Text string // what is wrong; what to write
}

// Error is the problem on one line.
func (p Problem) Error() string { return p.Key + ": " + p.Text }

// policy is a Policy that was read.
type policy struct {
	Policy
	about  *proto.Description
	stages map[hooks.Stage]StageFunc
	fields []field
}

// read finds the stages and the settings of p.
func (p Policy) read() (*policy, error) {
	v := reflect.ValueOf(p.Handler)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, errors.New("sdk: Policy.Handler must be a pointer to a struct")
	}
	out := &policy{Policy: p, stages: map[hooks.Stage]StageFunc{}}
	out.about = &proto.Description{
		Name: p.Name, Version: p.Version, About: p.About, OnFailure: p.OnFailure, Immune: p.Immune, TimeoutMs: p.Timeout.Milliseconds(),
		Access: p.Access.kind, PrefixBytes: p.Access.prefix, Host: p.Host,
		DenyAt: p.DenyAt, EveryMs: p.Every.Milliseconds(),
	}
	if p.Access.kind == proto.Access_ACCESS_STREAM {
		out.about.Revision = 2
	}
	if _, ok := p.Handler.(learner); ok {
		out.about.Learns = true // an older server does without
	}
	form := reflect.TypeFor[StageFunc]()
	for m, method := range v.Methods() {
		if method.Type() != form {
			if at, ok := hooks.ParseStage(strings.ToLower(m.Name)); ok {
				return nil, fmt.Errorf("sdk: method %s is named after stage %s but has not the form func(context.Context, *sdk.Event) (sdk.Decision, error)", m.Name, at)
			}
			continue
		}
		at, ok := hooks.ParseStage(strings.ToLower(m.Name))
		if !ok {
			return nil, fmt.Errorf("sdk: method %s is no stage; see docs/stages.md", m.Name)
		}
		out.stages[at] = method.Interface().(StageFunc)
	}
	if len(out.stages) == 0 {
		return nil, errors.New("sdk: Policy.Handler has no method that is named after a stage")
	}
	for _, row := range hooks.Stages() {
		if out.stages[row.Stage] != nil {
			out.about.Stages = append(out.about.Stages, row.Name)
		}
	}
	var err error
	if out.fields, err = readFields(v.Elem()); err != nil {
		return nil, err
	}
	for _, f := range out.fields {
		out.about.Settings = append(out.about.Settings, f.setting)
	}
	return out, nil
}

// Settings is what the policy declares, in the order of its fields.
func (p Policy) Settings() ([]*proto.Setting, error) {
	read, err := p.read()
	if err != nil {
		return nil, err
	}
	return read.about.Settings, nil
}

// configure sets the fields and calls Prepare.
func (p *policy) configure(ctx context.Context, settings map[string]*proto.Value) []*proto.Problem {
	var problems []*proto.Problem
	for _, f := range p.fields {
		value, ok := settings[f.setting.Name]
		if !ok {
			continue
		}
		plain, err := value.Plain()
		if err == nil {
			err = set(f.value, plain)
		}
		if err != nil {
			problems = append(problems, &proto.Problem{Key: f.setting.Name, Text: err.Error()})
		}
	}
	if h, ok := p.Handler.(interface{ Prepare(context.Context) error }); ok && len(problems) == 0 {
		problems = asProblems(h.Prepare(ctx))
	}
	return problems
}

func asProblems(err error) []*proto.Problem {
	if err == nil {
		return nil
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*proto.Problem
		for _, one := range several.Unwrap() {
			out = append(out, asProblems(one)...)
		}
		return out
	}
	if p, ok := errors.AsType[Problem](err); ok {
		return []*proto.Problem{{Key: p.Key, Text: proto.Text(p.Text)}}
	}
	return []*proto.Problem{{Text: proto.Text(err.Error())}}
}

// handle asks the stage's method. Its panic is an error.
func (p *policy) handle(ctx context.Context, ev *Event) (d Decision, err error) {
	ask := p.stages[ev.Stage]
	if ask == nil {
		return d, fmt.Errorf("stage %s was not asked for", ev.Stage)
	}
	defer func() {
		if fault := recover(); fault != nil {
			logPanic(ctx, ev.Stage, fault)
			d, err = Decision{}, fmt.Errorf("panic: %v", fault)
		}
	}()
	d, err = ask(ctx, ev)
	d.Edits = append(d.Edits, ev.edits...)
	return d, err
}
