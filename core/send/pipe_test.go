package send

import (
	"errors"
	"testing"

	"github.com/postern-mta/postern/core/message"
)

// A policy sends mail to programs of the configuration, and to no others.
func TestPolicyChoosesProgram(t *testing.T) {
	configured := NextHop{Scheme: SchemePipe, Path: "/bin/cat -v"}
	routes := Routes{{ToDomain: []string{"a.example"}, NextHop: NextHop{Scheme: SchemeMX}}, {ToDomain: []string{"b.example"}, NextHop: configured}}
	to := message.Address{Local: "x", Domain: "a.example"}
	w, _, err := routes.Way(message.Address{}, to, "pipe:/bin/cat -v", nil)
	if err != nil || w.NextHop != configured || w.String() != "pipe:/bin/cat -v" {
		t.Errorf("%v %v", w, err)
	}
	for _, other := range []string{"pipe:/bin/cat", "pipe:/bin/cat -v -e", "pipe:/bin/sh -c true"} {
		if _, _, err := routes.Way(message.Address{}, to, other, nil); !errors.Is(err, errPipe) {
			t.Errorf("%s: %v", other, err)
		}
	}
	for _, bad := range []string{"pipe:", "pipe:cat", "pipe:/bin/cat\n"} {
		if n, err := ParseNextHop(bad); err == nil {
			t.Errorf("%q: %v", bad, n)
		}
	}
}
