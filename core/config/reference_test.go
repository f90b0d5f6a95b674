package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestEveryKeyIsDocumentedAndItsDefaultReads(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		name := join(k.Section, k.Key)
		if seen[name] {
			t.Errorf("%s stands twice", name)
		}
		seen[name] = true
		if k.Doc == "" || strings.Contains(k.Doc, "\n") || !k.Later && (k.Type == "" || k.about == "") {
			t.Errorf("%s: incomplete: %+v", name, k)
		}
	}
	for _, name := range []string{"server.hostname", "listen.address", "delivery.rule.rate", "policy.when.client_not", "score.reject", "console.address", "auth.path", "lookup.source", "dkim.selector", "arc.selector"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
	l := &loader{keys: map[string]Pos{}}
	schema().setDefaults(l, &Config{})
	listenKeys().setDefaults(l, &Listen{})
	domainKeys().setDefaults(l, &Domain{})
	routeKeys().setDefaults(l, &Route{})
	authKeys().setDefaults(l, &Auth{})
	ruleKeys().setDefaults(l, &DeliveryRule{})
	policyKeys().setDefaults(l, &Policy{})
	lookupKeys().setDefaults(l, &Lookup{})
	if len(l.problems) > 0 {
		t.Errorf("defaults that their own keys refuse:\n%v", l.problems)
	}
}

// TestReferenceWritesWhatLoadReads: the defaults of the reference, written into a file, change nothing.
func TestReferenceWritesWhatLoadReads(t *testing.T) {
	var b, file strings.Builder
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, k := range Keys() {
		row := "| `" + k.Key + "` |"
		if k.Later {
			row = "| `" + join(k.Section, k.Key) + "` |"
		}
		if !strings.Contains(b.String(), row) {
			t.Errorf("no row for %s", join(k.Section, k.Key))
		}
		if !strings.HasPrefix(k.Default, "`") || k.List || strings.Contains(k.Default, " ") {
			continue
		}
		if k.Section != last {
			last = k.Section
			file.WriteString(k.header() + "\n")
		}
		file.WriteString(k.Key + " = " + strings.Trim(k.Default, "`") + "\n")
	}
	for _, row := range []string{"| `listen.protocol` | `milter`", "| `store.engine` | `postgres://…`", "| `metrics` | all |"} {
		if !strings.Contains(b.String(), row) {
			t.Errorf("no row %s", row)
		}
	}
	for _, header := range []string{"## `[limits]`", "## `[[listen]]`", "## `[[delivery.rule]]`", "## `[policy.when]`"} {
		if strings.Count(b.String(), header+"\n") != 1 {
			t.Errorf("%s stands %d times", header, strings.Count(b.String(), header+"\n"))
		}
	}
	write(t, map[string]string{"postern.toml": file.String(), "empty.toml": ""})
	written, problems := Load("postern.toml", Options{})
	if len(problems) > 0 {
		t.Fatalf("%v\nin\n%s", problems, file.String())
	}
	unwritten, _ := Load("empty.toml", Options{})
	if written.Limits != unwritten.Limits || !reflect.DeepEqual(written.Server, unwritten.Server) || written.Quarantine != unwritten.Quarantine || written.Recorder != unwritten.Recorder || written.Log != unwritten.Log {
		t.Errorf("written: %+v\nnot written: %+v", written, unwritten)
	}
}

func TestPolicyKeysAreNoSettings(t *testing.T) {
	for _, want := range []string{"use", "name", "mode", "timeout", "on_failure", "when", "immune", "deny_at", "sample", "isolate", "sha256", "run_as", "concurrency"} {
		if !slices.Contains(PolicyKeys(), want) {
			t.Errorf("%s is missing in %v", want, PolicyKeys())
		}
	}
}
