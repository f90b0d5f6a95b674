package t

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// TestProxyModeByteForByte passes messages on in proxy mode, over several
// connections at a time: what the client was told is taken has arrived, once and
// byte for byte behind our trace fields, and nothing else has.
func TestProxyModeByteForByte(t *testing.T) {
	if os.Getenv(envOwnNetwork) != "" {
		t.Skip("not in this process")
	}
	t.Parallel()
	texts := map[string][]byte{}
	for name, text := range samples() {
		texts[name] = []byte(text)
	}
	if dir := "../../shared/corpus"; exists(dir) {
		addCorpus(t, dir+"/mime", texts)
		addCorpus(t, dir+"/mail", texts)
	}
	p := newPairs(t, "proxy")
	var all sync.WaitGroup
	var mu sync.Mutex
	taken, refused := map[string][]byte{}, 0
	for _, domain := range pairDomains[:3] {
		all.Go(func() {
			c, err := dialPairs(p.listens["smtp"], false)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			n := 0
			for name, text := range texts {
				want := ended(crlf(text))
				if bare(want) {
					continue
				}
				n++
				to := fmt.Sprintf("n%d@%s", n, domain)
				reply, err := c.pass(to, want)
				if err != nil {
					t.Errorf("%s to %s: %v", name, domain, err)
					return
				}
				mu.Lock()
				if reply[0] == '2' {
					taken[to] = want
				} else {
					refused++
					t.Logf("%s to %s: %s", name, domain, strings.TrimSpace(reply))
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	arrived := 0
	for _, domain := range pairDomains[:3] {
		for _, m := range p.hops[domain].arrivals() {
			arrived++
			want, ok := taken[m.Rcpts[0]]
			if !ok {
				t.Errorf("%s arrived twice, or was refused", m.Rcpts[0])
			} else if diff := behindTrace(m.Data, want); diff != "" {
				t.Errorf("%s: %s", m.Rcpts[0], diff)
			}
			delete(taken, m.Rcpts[0])
		}
	}
	if len(taken) > 0 || arrived < 3*len(samples())/2 {
		t.Errorf("%d arrived, %d are lost", arrived, len(taken))
	}
	t.Logf("%d messages passed, %d refused", arrived, refused)
	if err := p.g.stop(); err != nil {
		t.Error(err)
	}
}

// pass sends one message, and returns the reply to it.
func (c *pairConn) pass(to string, text []byte) (string, error) {
	for _, line := range []string{"MAIL FROM:<s@client.example> BODY=8BITMIME", "RCPT TO:<" + to + ">", "DATA"} {
		if reply, err := c.say(line); err != nil || reply[0] > '3' {
			return reply, fmt.Errorf("%s: %s %w", line, reply, err)
		}
	}
	if _, err := c.Write(stuffed(text)); err != nil {
		return "", err
	}
	return c.say("")
}
