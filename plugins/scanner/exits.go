package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk"
)

// answer is what an exit status means.
type answer struct {
	word   string // pass, reject, defer, quarantine, discard, fail, score
	points float64
}

const maxPoints = 1e6

// readExits reads the setting exits; an empty one is the habit of most scanners.
func readExits(table map[string]string) (map[int]answer, []error) {
	if len(table) == 0 {
		return map[int]answer{0: {word: "pass"}, 1: {word: "reject"}}, nil
	}
	exits, problems := map[int]answer{}, []error(nil)
	for _, key := range slices.Sorted(maps.Keys(table)) {
		n, err := strconv.ParseUint(key, 10, 8)
		if err != nil {
			problems = append(problems, sdk.Problem{Key: "exits", Text: fmt.Sprintf("%q is no exit status; write a number from 0 to 255", key)})
			continue
		}
		a, err := readAnswer(table[key])
		if err != nil {
			problems = append(problems, sdk.Problem{Key: "exits." + key, Text: err.Error()})
			continue
		}
		exits[int(n)] = a
	}
	return exits, problems
}

func readAnswer(text string) (answer, error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	a := answer{word: word}
	switch word {
	case "score":
		n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
		if err != nil || !(math.Abs(n) <= maxPoints) {
			return a, fmt.Errorf("%q has no points; write something like \"score 5\"", text)
		}
		a.points = n
		return a, nil
	case "pass", "reject", "defer", "quarantine", "discard", "fail":
		if rest == "" {
			return a, nil
		}
	}
	return a, fmt.Errorf("%q is none of pass, reject, defer, quarantine, discard, fail, and \"score 5\"", text)
}
