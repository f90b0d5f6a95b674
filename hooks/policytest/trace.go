package policytest

import (
	"fmt"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// doubleBounce is the protocol of a bounce of a bounce.
const doubleBounce = "double-bounce"

// traced is one handler's part in a stage.
type traced struct {
	stage, recipient string
	run              hooks.HandlerRun
	results          map[string]map[string]any // of the transaction, after the stage
}

// Stage implements hooks.Observer.
func (h *harness) Stage(tx *hooks.Transaction, run hooks.StageRun) {
	results := map[string]map[string]any{}
	for name, r := range tx.Results {
		results[name] = r
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range run.Handlers {
		if r.Policy != factsName {
			h.trace = append(h.trace, traced{run.Stage.String(), run.Recipient, r, results})
		}
	}
}

// traceValue is the trace as tests see it.
func (h *harness) traceValue() []any {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]any, 0, len(h.trace))
	for _, t := range h.trace {
		edits := []any{}
		for _, e := range t.run.Edits {
			edits = append(edits, e.String())
		}
		results := map[string]any{}
		for name, r := range t.results {
			results[name] = r
		}
		one := map[string]any{
			"stage": t.stage, "policy": t.run.Policy, "decision": t.run.Verb.String(), "reason": t.run.Reason, "edits": edits,
			"shadow": t.run.Shadow, "recipient": t.recipient, "results": results,
		}
		if t.run.Verb.Refuses() {
			one["reply"] = replyOf(t.run.Reply).value()
		}
		if t.run.Err != nil {
			one["error"] = t.run.Err.Error()
		}
		list = append(list, one)
	}
	return list
}

// traceLines is the trace for people.
func (h *harness) traceLines() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, t := range h.trace {
		line := fmt.Sprintf("%-10s %-16s %s", t.stage, t.run.Policy, t.run.Verb)
		if t.run.Verb.Refuses() {
			line += " " + replyOf(t.run.Reply).String()
		}
		if t.run.Reason != "" {
			line += " (" + t.run.Reason + ")"
		}
		if t.recipient != "" {
			line += " <" + t.recipient + ">"
		}
		if t.run.Shadow {
			line += " [shadow]"
		}
		lines = append(lines, line)
		for _, e := range t.run.Edits {
			lines = append(lines, "           + "+e.String())
		}
		if t.run.Err != nil {
			lines = append(lines, "           ! "+t.run.Err.Error())
		}
	}
	return lines
}

func replyOf(r message.Reply) *reply {
	return &reply{code: r.Code, enhanced: r.Status(), lines: strings.Split(r.Text, "\n")}
}

// messageValue is a message as tests see it: its text, the text of its first
// fields by lower-case name, all its fields in order, and what follows them.
func messageValue(content []byte) map[string]any {
	n, _ := message.HeaderLen(content)
	headers, fields := map[string]any{}, []any{}
	for f := range message.ParseHeader(content[:n]).Fields() {
		name := strings.ToLower(f.Name)
		text := f.Decoded()
		if _, ok := headers[name]; !ok {
			headers[name] = text
		}
		fields = append(fields, map[string]any{"name": f.Name, "value": text})
	}
	return map[string]any{"text": string(content), "headers": headers, "fields": fields, "body": strings.TrimPrefix(string(content[n:]), "\r\n")}
}
