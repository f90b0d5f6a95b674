// Package dump fills a transaction with a value in every field, and writes down what
// stands in one: so that a test sees what the wire leaves out.
package dump

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// unsent is what a plugin does not see, and why.
func unsent() map[string]string {
	return map[string]string{
		"Session.Forwarded":    "for the log alone",
		"Session.Reverse":      "a function; the name comes as Session.host",
		"Session.Early":        "a function",
		"Marks.Skipped":        "for the chain",
		"Marks.Kept":           "for the chain",
		"Marks.Pardoned":       "for the chain",
		"Recipient.Edits":      "made at delivery",
		"Transaction.Given":    "for the log alone",
		"Transaction.Header":   "as Description.access says",
		"Transaction.Body":     "as Description.access says",
		"Transaction.Original": "of checks of signatures",
		"Transaction.Came":     "for the recorder",
		"Transaction.CameBody": "for the recorder",
		"Transaction.Content":  "of the body's edits",
	}
}

// Full is a transaction that has everything.
func Full() *hooks.Transaction {
	tx := &hooks.Transaction{}
	f := filler{}
	f.fill(reflect.ValueOf(tx).Elem())
	tx.Sender.Local = "whole"
	return tx
}

type filler struct{ n int }

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Interface().(type) {
	case message.Address:
		v.Set(reflect.ValueOf(message.Address{Local: fmt.Sprint("local", f.n), Domain: fmt.Sprintf("d%d.example", f.n)}))
		return
	case message.Reply:
		v.Set(reflect.ValueOf(message.NewReply(500+f.n%100, "5.7.1", "text %d", f.n)))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(f.n)}), uint16(f.n))))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMilli(int64(f.n) * 1000)))
		return
	case time.Duration:
		v.SetInt(int64(f.n) * int64(time.Second))
		return
	case hooks.Stage:
		v.Set(reflect.ValueOf(hooks.Rcpt))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, value := range fields(v) {
			f.fill(value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(key)
		f.fill(value)
		v.SetMapIndex(key, value)
	case reflect.Interface:
		v.Set(reflect.ValueOf(fmt.Sprint("any", f.n)))
	case reflect.String:
		v.SetString(fmt.Sprint("text", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(f.n) + 0.5)
	default:
		v.SetInt(int64(f.n))
	}
}

// fields are those of a struct that are sent.
func fields(v reflect.Value) func(yield func(string, reflect.Value) bool) {
	leftOut := unsent()
	return func(yield func(string, reflect.Value) bool) {
		for f, value := range v.Fields() {
			if _, skip := leftOut[v.Type().Name()+"."+f.Name]; skip || !f.IsExported() {
				continue
			}
			if !yield(f.Name, value) {
				return
			}
		}
	}
}

// Of is what stands in v, a line for each value.
func Of(v any) string {
	var lines []string
	write(&lines, "", reflect.ValueOf(v))
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func write(lines *[]string, path string, v reflect.Value) {
	switch x := v.Interface().(type) {
	case message.Address, message.Reply, netip.AddrPort, time.Duration, hooks.Stage:
		*lines = append(*lines, fmt.Sprintf("%s = %v", path, x))
		return
	case time.Time:
		*lines = append(*lines, fmt.Sprintf("%s = %d", path, x.UnixMilli()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for name, value := range fields(v) {
			write(lines, path+"."+name, value)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			write(lines, path, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			write(lines, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			write(lines, fmt.Sprintf("%s[%v]", path, key), value)
		}
	default:
		*lines = append(*lines, fmt.Sprintf("%s = %v", path, v.Interface()))
	}
}
