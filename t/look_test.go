package t

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdJSON looks into the JSON that the last command printed: its first object, if
// there are several in lines or a list. A number in PATH is a place in a list, "*"
// any place:
//
//	json PATH REGEXP        the value there (JSON, or the bare text of a string) matches as a whole
//	! json PATH REGEXP      it is not there, or does not match
//
// json queue.messages 0; json attempts.*.outcome delivered
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH REGEXP")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	var doc any
	ts.Check(dec.Decode(&doc))
	if list, ok := doc.([]any); ok && len(list) > 0 {
		doc = list[0]
	}
	re, err := regexp.Compile("(?s)^(?:" + args[1] + ")$")
	ts.Check(err)
	values := jsonValues(doc, strings.Split(args[0], "."))
	found := false
	for _, v := range values {
		found = found || re.MatchString(v)
	}
	if found == neg {
		ts.Fatalf("%s is %q", args[0], values)
	}
}

func jsonValues(v any, path []string) []string {
	if len(path) == 0 {
		if s, ok := v.(string); ok {
			return []string{s}
		}
		b, _ := json.Marshal(v)
		return []string{string(b)}
	}
	switch v := v.(type) {
	case map[string]any:
		if inner, ok := v[path[0]]; ok {
			return jsonValues(inner, path[1:])
		}
	case []any:
		var all []string
		for i, inner := range v {
			if path[0] == "*" || path[0] == strconv.Itoa(i) {
				all = append(all, jsonValues(inner, path[1:])...)
			}
		}
		return all
	}
	return nil
}

// cmdHTTP gets a page of the console; stdout has the status, the headers and the body:
//
//	http PATH
func cmdHTTP(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ts.Getenv("CONSOLE")+args[0], nil)
	ts.Check(err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), res.StatusCode)
	ts.Check(res.Header.Write(ts.Stdout()))
	fmt.Fprintf(ts.Stdout(), "\n%s", body)
}

// cmdBlocks writes the fenced blocks of one kind that stand in a section of a
// document to files NAME1, NAME2 and so on, in order:
//
//	blocks DOCUMENT 'HEADING' KIND NAME
func cmdBlocks(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: blocks DOCUMENT HEADING KIND NAME")
	}
	_, section, ok := strings.Cut(ts.ReadFile(args[0]), "\n## "+args[1]+"\n")
	if !ok {
		ts.Fatalf("%s has no section %q", args[0], args[1])
	}
	section, _, _ = strings.Cut(section, "\n## ")
	n := 0
	for _, m := range regexp.MustCompile("(?ms)^```"+regexp.QuoteMeta(args[2])+"\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		n++
		ts.Check(os.WriteFile(ts.MkAbs(args[3]+strconv.Itoa(n)), []byte(m[1]), 0o644))
	}
	fmt.Fprintf(ts.Stdout(), "%d blocks\n", n)
}

// cmdStatus runs a command that ends with a given status:
//
//	status N COMMAND [ARG...]
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG...]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if want, err := strconv.Atoi(args[0]); err != nil || got != want {
		ts.Fatalf("%s ended with status %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}
