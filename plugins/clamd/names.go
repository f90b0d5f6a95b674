package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk"
)

// names are the findings that let a message in, and those that do not, whatever the
// others say.
type names struct{ in, out []*regexp.Regexp }

// readNames reads patterns: with wildcards, or regular expressions between slashes,
// and ! before those that do not let a message in. Case does not matter.
func readNames(list []string) (n names, problems []error) {
	for i, text := range list {
		pattern, out := strings.CutPrefix(text, "!")
		var form string
		if inner, ok := strings.CutPrefix(pattern, "/"); ok && len(inner) > 1 && strings.HasSuffix(inner, "/") {
			form = strings.TrimSuffix(inner, "/")
		} else {
			form = "^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern)) + "$"
		}
		re, err := regexp.Compile("(?i)" + form)
		if pattern == "" {
			err = fmt.Errorf("it is empty; write a name such as \"PUA.*\"")
		}
		switch {
		case err != nil:
			problems = append(problems, sdk.Problem{Key: fmt.Sprintf("exclude[%d]", i), Text: fmt.Sprintf("%q: %v", text, err)})
		case out:
			n.out = append(n.out, re)
		default:
			n.in = append(n.in, re)
		}
	}
	return n, problems
}

// exclude tells whether a finding lets the message in.
func (n names) exclude(name string) bool {
	return fits(n.in, name) && !fits(n.out, name)
}

func fits(list []*regexp.Regexp, name string) bool {
	for _, re := range list {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}
