package policytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/hooks/lua"
)

// hops is what next hops say: by address of a recipient, its domain, or "*".
type hops struct {
	answers map[string][]any // in the order of attempts; the last one stays
	asked   map[string]int   // attempts by recipient and message
	peer    string
}

// nextHop is t:next_hop{ ["a@example.net"] = "550 5.1.1 No such user", … }: what next
// hops answer from now on, for a recipient, a domain, or "*". A list holds the
// answers of one attempt after the other. "unreachable" is a host that nobody
// reaches; a function of the delivery returns an answer.
func (h *harness) nextHop(args []any) (any, error) {
	t, err := table(args, 0)
	if err != nil {
		return nil, err
	}
	n := hops{answers: map[string][]any{}, asked: map[string]int{}, peer: "mx.next.example [192.0.2.99]:25"}
	for _, key := range slices.Sorted(maps.Keys(t)) {
		v := t[key]
		if key == "peer" {
			var ok bool
			if n.peer, ok = v.(string); !ok {
				return nil, errors.New("next_hop: peer is a text such as \"mx.example [192.0.2.1]:25\"")
			}
			continue
		}
		if !strings.Contains(key, ".") && !strings.Contains(key, "@") && key != "*" {
			return nil, fmt.Errorf("next_hop: %q is no address, domain, \"*\" or peer", key)
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, one := range list {
			if s, ok := one.(string); ok {
				if _, err := spoken(s); err != nil && s != unreachable {
					return nil, fmt.Errorf("next_hop: %s: %w", key, err)
				}
			} else if _, ok := one.(*lua.Callback); !ok {
				return nil, fmt.Errorf("next_hop: %s: an answer is a text such as \"450 4.2.1 Busy\", or a function", key)
			}
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("next_hop: %s: the list is empty", key)
		}
		n.answers[strings.ToLower(key)] = list
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hops = n
	return nil, nil
}

const unreachable = "unreachable"

// spoken reads a reply as a server writes it.
func spoken(s string) (message.Reply, error) {
	code, rest, _ := strings.Cut(s, " ")
	n, err := strconv.Atoi(code)
	if err != nil || n < 200 || n > 599 {
		return message.Reply{}, fmt.Errorf("%q is no reply; write code, enhanced status and text", s)
	}
	status, words, _ := strings.Cut(rest, " ")
	if _, ok := message.ParseEnhanced(status); !ok {
		status, words = fmt.Sprintf("%d.0.0", n/100), rest
	}
	return message.NewReply(n, status, "%s", words), nil
}

// nextHop is a send.Deliverer that answers as t:next_hop says.
type nextHop harness

// Deliver implements send.Deliverer.
func (n *nextHop) Deliver(ctx context.Context, j *send.Job) []send.Outcome {
	h := (*harness)(n)
	content, err := io.ReadAll(message.NewReader(j.Body))
	if err != nil {
		h.fault(err)
		return nil
	}
	outcomes := make([]send.Outcome, 0, len(j.Recipients))
	for _, i := range j.Recipients {
		one := messageValue(content)
		rcpt := j.Message.Recipients[i].Address
		hop := j.NextHop.String()
		one["id"], one["sender"], one["recipient"], one["next_hop"], one["domain"] = j.Message.ID, j.Message.Sender.String(), rcpt.String(), hop, j.Domain
		one["attempt"], one["tls"] = float64(j.Message.Recipients[i].Attempts+1), j.TLS
		one["source"] = ""
		if j.Source.IsValid() {
			one["source"] = j.Source.String()
		}
		outcomes = append(outcomes, h.try(ctx, j.Message.ID, i, rcpt, one))
	}
	return outcomes
}

// try gives one recipient its answer.
func (h *harness) try(ctx context.Context, id string, i int, rcpt message.Address, one map[string]any) send.Outcome {
	answer := h.nextAnswer(id, rcpt)
	if f, ok := answer.(*lua.Callback); ok {
		v, err := h.invoke(ctx, f, one)
		if err != nil {
			h.fault(fmt.Errorf("t:next_hop: %w", err))
		}
		answer = v
	}
	o := send.Outcome{Recipient: i}
	said, _ := answer.(string)
	if said == unreachable {
		o.Reply, o.Unreached = message.NewReply(451, "4.4.1", "Connection refused"), true
	} else {
		r, err := spoken(said)
		if err != nil {
			h.fault(fmt.Errorf("t:next_hop: %w", err))
			r = message.NewReply(451, "4.3.0", "The test's next hop gave no answer")
		}
		h.mu.Lock()
		o.Reply, o.Peer = r, h.hops.peer
		h.mu.Unlock()
		switch {
		case r.Positive():
			o.Result = send.Delivered
		case r.Permanent():
			o.Result = send.Bounced
		}
	}
	one["outcome"], one["reply"] = o.Result.String(), replyOf(o.Reply).value()
	h.mu.Lock()
	defer h.mu.Unlock()
	one["at"] = float64(h.now.UnixNano()) / 1e9
	h.sent = append(h.sent, one)
	return o
}

// nextAnswer is what the recipient's next attempt gets.
func (h *harness) nextAnswer(id string, rcpt message.Address) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range []string{strings.ToLower(rcpt.String()), rcpt.Domain, "*"} {
		list := h.hops.answers[key]
		if len(list) == 0 {
			continue
		}
		who := id + " " + rcpt.String()
		n := h.hops.asked[who]
		h.hops.asked[who]++
		return list[min(n, len(list)-1)]
	}
	return "250 2.0.0 Ok"
}

// inQueue is t:queue(): the messages that wait, with their recipients' states.
func (h *harness) inQueue([]any) (any, error) {
	list := []any{}
	if h.world == nil {
		return list, nil
	}
	now := h.time()
	for m, err := range h.world.queue.All() {
		if err != nil {
			return nil, err
		}
		recipients := []any{}
		for i := range m.Recipients {
			r := &m.Recipients[i]
			one := map[string]any{
				"address": r.Address.String(), "state": r.State.String(), "attempts": float64(r.Attempts), "held": r.Held || m.Place == queue.Held,
			}
			if !r.State.Final() && !r.Next.IsZero() {
				one["next"] = max(r.Next.Sub(now), 0).Round(time.Millisecond).Seconds()
			}
			if r.Last.Code != 0 {
				one["reply"] = replyOf(r.Last).value()
			}
			recipients = append(recipients, one)
		}
		list = append(list, map[string]any{
			"id": m.ID, "sender": m.Sender.String(), "recipients": recipients, "place": m.Place.String(), "reason": m.Reason, "age": now.Sub(m.Arrived).Seconds(),
		})
	}
	return list, nil
}
