package hooks

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file is the language of [[score.rule]]: conditions over what policies
// found, such as
//
//	dnsbl.listed >= 2 and not conn.relaying
//	spf.result == "fail" or tag.newsletter
//	(score.helo > 0 or fcrdns.missing) and sender.null
//
// A name is NAME.FIELD, fields of fields too. What it says:
//
//	score         the points so far; score.NAME those of one symbol
//	tag.NAME      whether the tag is set
//	conn.         relaying, authenticated, tls, listener, protocol, helo, user, ip
//	sender.       address, user, domain, null
//	size          of the message, in bytes
//	recipients    how many there are
//	NAME.FIELD    a field of the result that a policy left under NAME
//	NAME          whether there is such a result
//
// Operators are or, and, not, ==, !=, <, <=, >, >= and parentheses; values are
// numbers, "strings", true and false. Numbers compare with numbers and strings
// with strings; a list counts as the number of its elements where it is compared
// with a number. What is missing is false, equals nothing and is neither smaller
// nor greater than anything. A condition never fails.

// Rule is a condition. Its zero value holds never. It is safe for concurrent use.
type Rule struct {
	text string
	eval operand
}

// operand gives a value: nil, bool, float64, string, []any or map[string]any.
type operand func(tx *Transaction) any

// maxRule and maxRuleDepth bound a condition, in bytes and in parentheses.
const (
	maxRule      = 4096
	maxRuleDepth = 64
)

// ParseRule reads a condition. An error names the column, from 1 on.
func ParseRule(s string) (Rule, error) {
	if len(s) > maxRule {
		return Rule{}, fmt.Errorf("a condition has at most %d characters", maxRule)
	}
	p := &ruleParser{rest: s, whole: s}
	p.next()
	eval := p.or()
	if p.err == nil && p.kind != ruleEnd {
		p.fail("%s is not expected here; join conditions with and, or", p.found())
	}
	if p.err != nil {
		return Rule{}, p.err
	}
	return Rule{s, eval}, nil
}

// String is the condition as it was written.
func (r Rule) String() string { return r.text }

// Holds tells whether the condition is true for the transaction.
func (r Rule) Holds(tx *Transaction) bool { return r.eval != nil && truth(r.eval(tx)) }

func truth(v any) bool { return v != nil && v != false }

type ruleKind uint8

const (
	ruleEnd ruleKind = iota
	ruleName
	ruleNumber
	ruleString
	ruleOperator
	ruleWord // and, or, not, true, false
)

// ruleParser reads one token ahead.
type ruleParser struct {
	whole, rest string
	kind        ruleKind
	text        string // of the token
	at          int    // its offset
	depth       int
	err         error
}

func (p *ruleParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("column %d: %s", utf8.RuneCountInString(p.whole[:p.at])+1, fmt.Sprintf(format, args...))
	}
	p.kind, p.rest = ruleEnd, ""
}

// found is the token as a message names it.
func (p *ruleParser) found() string {
	if p.kind == ruleEnd {
		return "the end"
	}
	return strconv.Quote(p.text)
}

var ruleOperators = [...]string{"==", "!=", "~=", "<=", ">=", "<", ">", "(", ")"}

func (p *ruleParser) next() {
	p.rest = strings.TrimLeftFunc(p.rest, unicode.IsSpace)
	p.at = len(p.whole) - len(p.rest)
	take := func(kind ruleKind, n int) {
		p.kind, p.text, p.rest = kind, p.rest[:n], p.rest[n:]
	}
	if p.rest == "" {
		p.kind, p.text = ruleEnd, ""
		return
	}
	for _, op := range ruleOperators {
		if strings.HasPrefix(p.rest, op) {
			take(ruleOperator, len(op))
			return
		}
	}
	switch c := p.rest[0]; {
	case c == '"' || c == '\'':
		end := strings.IndexByte(p.rest[1:], c)
		if end < 0 {
			p.fail("a string without its closing %c", c)
			return
		}
		take(ruleString, end+2)
		p.text = p.text[1 : len(p.text)-1]
	case c >= '0' && c <= '9' || c == '-' || c == '.':
		n := 1 + len(p.rest[1:]) - len(strings.TrimLeft(p.rest[1:], "0123456789.eE"))
		take(ruleNumber, n)
	case isRuleLetter(c):
		n := strings.IndexFunc(p.rest, func(r rune) bool { return r >= utf8.RuneSelf || !isRuleByte(byte(r)) })
		if n < 0 {
			n = len(p.rest)
		}
		take(ruleName, n)
		switch p.text {
		case "and", "or", "not", "true", "false":
			p.kind = ruleWord
		}
	case c == '=':
		p.fail("to compare, write ==")
	default:
		_, n := utf8.DecodeRuneInString(p.rest)
		p.fail("%q is not expected here", p.rest[:n])
	}
}

func isRuleLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// isRuleByte tells what a name holds behind its first letter: policies' names
// have hyphens, and nothing is subtracted here.
func isRuleByte(c byte) bool { return isRuleLetter(c) || c >= '0' && c <= '9' || c == '.' || c == '-' }

// accept takes the token where it is that word or operator.
func (p *ruleParser) accept(kind ruleKind, text string) bool {
	if p.kind != kind || p.text != text {
		return false
	}
	p.next()
	return true
}

func (p *ruleParser) or() operand {
	left := p.and()
	for p.accept(ruleWord, "or") {
		a, b := left, p.and()
		left = func(tx *Transaction) any { return truth(a(tx)) || truth(b(tx)) }
	}
	return left
}

func (p *ruleParser) and() operand {
	left := p.not()
	for p.accept(ruleWord, "and") {
		a, b := left, p.not()
		left = func(tx *Transaction) any { return truth(a(tx)) && truth(b(tx)) }
	}
	return left
}

func (p *ruleParser) not() operand {
	negate := false
	for p.accept(ruleWord, "not") {
		negate = !negate
	}
	v := p.comparison()
	if !negate {
		return v
	}
	return func(tx *Transaction) any { return !truth(v(tx)) }
}

func (p *ruleParser) comparison() operand {
	left := p.value()
	if p.kind != ruleOperator || p.text == "(" || p.text == ")" {
		return left
	}
	op := p.text
	p.next()
	right := p.value()
	if p.kind == ruleOperator && p.text != ")" && p.text != "(" {
		p.fail("comparisons don't chain; join them with and")
	}
	return func(tx *Transaction) any { return compare(op, left(tx), right(tx)) }
}

func (p *ruleParser) value() operand {
	kind, text := p.kind, p.text
	switch {
	case kind == ruleOperator && text == "(":
		if p.depth++; p.depth > maxRuleDepth {
			p.fail("more than %d parentheses within each other", maxRuleDepth)
			return nothing
		}
		p.next()
		v := p.or()
		if p.depth--; !p.accept(ruleOperator, ")") {
			p.fail("%s where a ) belongs", p.found())
		}
		return v
	case kind == ruleNumber:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			p.fail("%q is no number", text)
			return nothing
		}
		p.next()
		return func(*Transaction) any { return n }
	case kind == ruleString:
		p.next()
		return func(*Transaction) any { return text }
	case kind == ruleWord && (text == "true" || text == "false"):
		p.next()
		return func(*Transaction) any { return text == "true" }
	case kind == ruleName:
		v, err := lookupOf(text)
		if err != nil {
			p.fail("%v", err)
			return nothing
		}
		p.next()
		return v
	}
	p.fail("%s where a name, a number or a \"string\" belongs", p.found())
	return nothing
}

func nothing(*Transaction) any { return nil }

// connFacts and senderFacts are what stands behind conn. and sender.
func connFacts() map[string]operand {
	return map[string]operand{
		"relaying":      func(tx *Transaction) any { return tx.Session.Relaying },
		"authenticated": func(tx *Transaction) any { return tx.Session.Authenticated },
		"tls":           func(tx *Transaction) any { return tx.Session.TLS != nil },
		"listener":      func(tx *Transaction) any { return tx.Session.Listener },
		"protocol":      func(tx *Transaction) any { return tx.Session.Protocol },
		"helo":          func(tx *Transaction) any { return tx.Session.Helo },
		"user":          func(tx *Transaction) any { return tx.Session.User },
		"ip":            func(tx *Transaction) any { return tx.Session.Client.Addr().Unmap().String() },
	}
}

func senderFacts() map[string]operand {
	return map[string]operand{
		"address": func(tx *Transaction) any { return tx.Sender.String() },
		"user":    func(tx *Transaction) any { return tx.Sender.Local },
		"domain":  func(tx *Transaction) any { return tx.Sender.Domain },
		"null":    func(tx *Transaction) any { return tx.Sender.IsNull() },
	}
}

// lookupOf is what a name says.
func lookupOf(name string) (operand, error) {
	path := strings.Split(name, ".")
	for _, part := range path {
		if part == "" {
			return nil, fmt.Errorf("%q has an empty part between its dots", name)
		}
	}
	root, path := path[0], path[1:]
	one := func(facts map[string]operand) (operand, error) {
		if len(path) != 1 || facts[path[0]] == nil {
			return nil, fmt.Errorf("%q is unknown; behind %s. stands one of %s", name, root, strings.Join(slices.Sorted(maps.Keys(facts)), ", "))
		}
		return facts[path[0]], nil
	}
	switch root {
	case "conn":
		return one(connFacts())
	case "sender":
		return one(senderFacts())
	case "size", "recipients":
		if len(path) > 0 {
			return nil, fmt.Errorf("%q: %s is a number and has no fields", name, root)
		}
		if root == "size" {
			return func(tx *Transaction) any { return float64(tx.Size) }, nil
		}
		return func(tx *Transaction) any { return float64(len(tx.Recipients)) }, nil
	case "score":
		if len(path) == 0 {
			return func(tx *Transaction) any { return tx.Total() }, nil
		}
		return pointsOf(strings.Join(path, ".")), nil
	case "tag":
		if len(path) == 0 {
			return nil, errors.New("tag alone says nothing; write tag.NAME")
		}
		tag := strings.Join(path, ".")
		return func(tx *Transaction) any { return tx.Tagged(tag) }, nil
	}
	return func(tx *Transaction) any {
		fields, ok := tx.Results[root]
		if !ok {
			return nil
		}
		var v any = fields
		for _, part := range path {
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[part]
		}
		return v
	}, nil
}

// pointsOf is the sum of a symbol's points, nil where nobody gave any.
func pointsOf(symbol string) operand {
	return func(tx *Transaction) any {
		sum, there := 0.0, false
		for _, s := range tx.Scores {
			if s.Name == symbol {
				sum, there = sum+s.Points, true
			}
		}
		if !there {
			return nil
		}
		return sum
	}
}

func compare(op string, a, b any) bool {
	if x, ok := asNumber(a, b); ok {
		if y, ok := asNumber(b, a); ok {
			return holds(op, x < y, x == y, x > y)
		}
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return holds(op, x < y, x == y, x > y)
		}
	}
	if x, ok := a.(bool); ok {
		if y, ok := b.(bool); ok && (op == "==" || op == "!=" || op == "~=") {
			return holds(op, false, x == y, false)
		}
	}
	return op == "!=" || op == "~="
}

// asNumber is v as a number: a list that is compared with one is its length.
func asNumber(v, other any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case []any:
		_, ok := other.(float64)
		return float64(len(v)), ok
	}
	return 0, false
}

func holds(op string, less, equal, greater bool) bool {
	switch op {
	case "==":
		return equal
	case "!=", "~=":
		return !equal
	case "<":
		return less
	case "<=":
		return less || equal
	case ">":
		return greater
	default:
		return greater || equal
	}
}
