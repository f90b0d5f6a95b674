package t

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// sinkOf is the script's next hop, or its second one.
func sinkOf(ts *testscript.TestScript, name string) *sink {
	w := worldOf(ts)
	if s := w.sinks[name]; s != nil {
		return s
	}
	s := newSink(ts.Getenv(name))
	w.sinks[name] = s
	ts.Defer(func() {
		s.down()
		if f := s.faults(); len(f) > 0 && w.tb != nil {
			w.tb.Errorf("what the gateway did wrong at its next hop:\n%s", strings.Join(f, "\n"))
		}
	})
	return s
}

// which takes -2 off the arguments: the second next hop.
func which(ts *testscript.TestScript, args []string) (*sink, []string) {
	if len(args) > 0 && args[0] == "-2" {
		return sinkOf(ts, "SINK2"), args[1:]
	}
	return sinkOf(ts, "SINK"), args
}

// cmdSink (-2 means the second one, at ${SINK2}):
//
//	sink [-2] up [tls]              a next hop listens at ${SINK}
//	sink [-2] lmtp                  it speaks LMTP from now on
//	sink [-2] down                  it is gone, its connections too
//	sink [-2] reply STAGE TEXT...   connect, ehlo, starttls, mail, rcpt, data, dot; STAGE:ADDRESS for one address; \n parts lines
//	sink [-2] reply connect hang    it never greets
//	sink [-2] reply STAGE close     it hangs up instead
//	sink [-2] reply STAGE           as usual again
//	sink [-2] saw N REGEXP          N of the commands so far match
//	sink [-2] drop-after-dot        it takes the next message and hangs up without a reply
//	sink [-2] peak N                it never had more than N connections at a time
func cmdSink(ts *testscript.TestScript, _ bool, args []string) {
	s, args := which(ts, args)
	if len(args) == 0 {
		ts.Fatalf("usage: sink VERB [ARG...]")
	}
	switch verb := args[0]; {
	case verb == "up":
		var secure *tls.Config
		if len(args) > 1 {
			cert, _, _, err := selfSigned("sink.example")
			ts.Check(err)
			secure = &tls.Config{Certificates: []tls.Certificate{cert}}
		}
		ts.Check(s.up(secure))
	case verb == "down":
		s.down()
	case verb == "drop-after-dot":
		s.mu.Lock()
		s.drop = true
		s.mu.Unlock()
	case verb == "reply" && len(args) > 1:
		s.mu.Lock()
		if delete(s.replies, args[1]); len(args) > 2 {
			s.replies[args[1]] = strings.ReplaceAll(strings.Join(args[2:], " "), `\n`, "\r\n")
		}
		s.mu.Unlock()
	case verb == "lmtp":
		s.mu.Lock()
		s.lmtp = true
		s.mu.Unlock()
	case verb == "saw" && len(args) > 2:
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		re, err := regexp.Compile(strings.Join(args[2:], " "))
		ts.Check(err)
		if got := s.count(re); got != n {
			ts.Fatalf("the next hop saw %d such commands, not %d", got, n)
		}
	case verb == "peak" && len(args) == 2:
		if n, err := strconv.Atoi(args[1]); err != nil || s.most() > n {
			ts.Fatalf("%d connections at a time", s.most())
		}
	default:
		ts.Fatalf("sink: unknown verb %s", verb)
	}
}

// cmdArrived waits until N messages are at the next hop, and there are no more:
//
//	arrived [-2] N
func cmdArrived(ts *testscript.TestScript, _ bool, args []string) {
	s, args := which(ts, args)
	n, err := strconv.Atoi(strings.Join(args, " "))
	ts.Check(err)
	poll(waitLimit, func() bool { return len(s.arrivals()) >= n })
	if got := len(s.arrivals()); got != n {
		ts.Fatalf("%d messages arrived, want %d", got, n)
	}
}

// pick finds a message: the last one, number N from 1, or the one for a recipient.
func pick(ts *testscript.TestScript, s *sink, number string) arrival {
	list := s.arrivals()
	if strings.Contains(number, "@") {
		i := slices.IndexFunc(list, func(a arrival) bool { return slices.Contains(a.Rcpts, number) })
		if i < 0 {
			ts.Fatalf("nothing arrived for %s", number)
		}
		return list[i]
	}
	n := len(list)
	if number != "" {
		var err error
		n, err = strconv.Atoi(number)
		ts.Check(err)
	}
	if n < 1 || n > len(list) {
		ts.Fatalf("there is no message %d, but %d", n, len(list))
	}
	return list[n-1]
}

// cmdEnvelope checks the envelope of the message that arrived last:
//
//	envelope [-2] SENDER RECIPIENT...     the null sender is <>
func cmdEnvelope(ts *testscript.TestScript, _ bool, args []string) {
	s, args := which(ts, args)
	m := pick(ts, s, "")
	got := append([]string{m.Sender}, slices.Sorted(slices.Values(m.Rcpts))...)
	want := append([]string{strings.Trim(args[0], "<>")}, slices.Sorted(slices.Values(args[1:]))...)
	if !slices.Equal(got, want) {
		ts.Fatalf("envelope %q, want %q", got, want)
	}
}

// cmdMail writes a message that arrived, with LF, to a file: the last one, the
// N-th, or the first one for a recipient:
//
//	mail [-2] FILE [N|RECIPIENT]
func cmdMail(ts *testscript.TestScript, _ bool, args []string) {
	s, args := which(ts, args)
	m := pick(ts, s, strings.Join(args[1:], ""))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.ReplaceAll(m.Data, []byte("\r\n"), []byte("\n")), 0o644))
}

// cmdSame compares, byte for byte behind the prepended trace fields, a message
// that arrived with a file, whose LF stand for CRLF unless it has CRLF:
//
//	same [-2] FILE [N|RECIPIENT]
func cmdSame(ts *testscript.TestScript, _ bool, args []string) {
	s, args := which(ts, args)
	if diff := behindTrace(pick(ts, s, strings.Join(args[1:], "")).Data, asSent(ts, args[0])); diff != "" {
		ts.Fatalf("%s: %s", args[0], diff)
	}
}

// asSent is a file as it goes over the wire.
func asSent(ts *testscript.TestScript, name string) []byte {
	text := []byte(ts.ReadFile(name))
	if !bytes.Contains(text, []byte("\r\n")) {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	return text
}

var (
	traceFields   = regexp.MustCompile(`^(?:[!-9;-~]+:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)+$`)
	receivedField = regexp.MustCompile(`(?m)^Received: from `)
)

// behindTrace is empty where got is trace fields and then want, else the difference.
func behindTrace(got, want []byte) string {
	head, ok := bytes.CutSuffix(got, want)
	switch {
	case !ok:
		n := 0
		for n < min(len(got), len(want)) && got[len(got)-1-n] == want[len(want)-1-n] {
			n++
		}
		return fmt.Sprintf("differs %d bytes before the end: %q instead of %q", n, around(got, n), around(want, n))
	case !traceFields.Match(head):
		return fmt.Sprintf("what stands before it is no trace: %q", head)
	case len(receivedField.FindAll(head, -1)) == 0:
		return "there is no Received field"
	}
	return ""
}

func around(b []byte, fromEnd int) []byte {
	at := len(b) - fromEnd
	return b[max(0, at-40):min(len(b), at+10)]
}

// cmdMaildir waits until a Maildir of the gateway holds N messages, and copies the
// newest to a file:
//
//	maildir DOMAIN LOCAL N [FILE]
func cmdMaildir(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: maildir DOMAIN LOCAL N [FILE]")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	folder := filepath.Join(worldOf(ts).dir, "var", "mail", args[0], args[1], "new")
	var files []os.DirEntry
	poll(waitLimit, func() bool {
		files, _ = os.ReadDir(folder)
		return len(files) >= n
	})
	if len(files) != n {
		ts.Fatalf("%s has %d messages, want %d", folder, len(files), n)
	}
	if len(args) == 4 && n > 0 {
		newest := slices.MaxFunc(files, func(a, b os.DirEntry) int { return modified(a).Compare(modified(b)) })
		text, err := os.ReadFile(filepath.Join(folder, newest.Name()))
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[3]), text, 0o644))
	}
}

func modified(e os.DirEntry) time.Time {
	st, err := e.Info()
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// cmdCertificate makes cert.pem and key.pem for host names and addresses:
//
//	certificate HOST...
func cmdCertificate(ts *testscript.TestScript, _ bool, args []string) {
	_, cert, key, err := selfSigned(args...)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("cert.pem"), cert, 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("key.pem"), key, 0o600))
}

func selfSigned(hosts ...string) (pair tls.Certificate, cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, nil, nil, err
	}
	return signedBy(private, hosts...)
}

// signedBy makes a certificate of the key's own.
func signedBy(private crypto.Signer, hosts ...string) (pair tls.Certificate, cert, key []byte, err error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return pair, nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return pair, nil, nil, err
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	pair, err = tls.X509KeyPair(cert, key)
	return pair, cert, key, err
}
