package t

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPostsrsd runs a postsrsd of the script's own, for the domain gw.example, with
// the secrets of a file, and asks it:
//
//	postsrsd start FILE
//	postsrsd stop
//	postsrsd forward|reverse ADDRESS     stdout has its answer
func cmdPostsrsd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 2 && (args[0] == "forward" || args[0] == "reverse") {
		addr := ts.Getenv("SRS" + strings.ToUpper(args[0]))
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		ts.Check(err)
		defer conn.Close()
		ts.Check(conn.SetDeadline(time.Now().Add(10 * time.Second)))
		_, err = fmt.Fprintf(conn, "get %s\n", url.QueryEscape(args[1]))
		ts.Check(err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		ts.Check(err)
		_, err = fmt.Fprint(ts.Stdout(), line)
		ts.Check(err)
		return
	}
	_, err := lookPath(ts, "postsrsd")
	if tb := worldOf(ts).tb; err != nil {
		missing(tb.Skip, tb.Fatal, "postsrsd")
	}
	p := newPeer(ts, "postsrsd")
	if len(args) == 1 && args[0] == "stop" {
		p.stop()
		return
	}
	if len(args) != 2 || args[0] != "start" {
		ts.Fatalf("usage: postsrsd start FILE | stop | forward ADDRESS | reverse ADDRESS")
	}
	addrs, err := freePorts(worldOf(ts).host, 2)
	ts.Check(err)
	host, forward, _ := net.SplitHostPort(addrs[0])
	_, reverse, _ := net.SplitHostPort(addrs[1])
	ts.Setenv("SRSFORWARD", addrs[0])
	ts.Setenv("SRSREVERSE", addrs[1])
	p.run(ts, exec.Command("postsrsd", "-4", "-l", host, "-f", forward, "-r", reverse, "-d", "gw.example", "-s", ts.MkAbs(args[1])))
	for _, addr := range addrs {
		if !poll(startLimit, func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		}) {
			ts.Fatalf("postsrsd does not listen at %s", addr)
		}
	}
}

// cmdHold puts the last word of the last command's output into a variable:
//
//	hold NAME
func cmdHold(ts *testscript.TestScript, _ bool, args []string) {
	words := strings.Fields(ts.ReadFile("stdout"))
	if len(args) != 1 || len(words) == 0 {
		ts.Fatalf("usage: hold NAME, after a command that printed something")
	}
	ts.Setenv(args[0], words[len(words)-1])
}
