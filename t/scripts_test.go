package t

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/dns"
)

// The scripts of t/scripts hold one behaviour each: configuration, policies,
// dialogue, expected mail and log in one file that bears the behaviour's name.
// Beside the commands of testscript they have those of the table commands; each
// is explained where it is defined.
//
// Every script has a loopback address of its own and free ports on it, which
// these names stand for in its files (*.toml, *.smtp, *.lua, zone) and commands:
//
//	${HOST}      the address      ${SMTP}     where the gateway listens
//	${CONSOLE}   its console      ${SINK}     the next hop (command sink)
//	${SINK2}     another one      ${DNS}      a name server that serves the file zone
//	${POSTFIX}   Postfix (command postfix)   ${BIN}   folder of the binaries
//	${PEER}      a peer of another make      ${PEERSOCKET}   its unix socket
//	${SMTPS}     where the gateway listens too, where its configuration says so
//
// and ${SMTPPORT} and so on for the ports alone.
//
// POSTERN_RACE=1 builds the gateway with the race detector. CI=true makes a
// component that is missing a failure instead of a skip.

// Environment that this process hands to the one that it starts in a network of
// its own.
const (
	envBuilt      = "POSTERN_T_BUILT"       // folder of the binaries
	envOwnNetwork = "POSTERN_T_OWN_NETWORK" // the script to run
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(envOwnNetwork) != "" {
		if err := loopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, "own network:", err)
			os.Exit(1)
		}
	}
	// The scripts wait more than they compute: on few cores more of them run at a
	// time than go test would have, unless -parallel says something.
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) && runtime.GOMAXPROCS(0) < 4 {
		if err := parallel.Value.Set("4"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	status := m.Run()
	if dir := builtHere.Load(); dir != nil {
		_ = os.RemoveAll(*dir)
	}
	os.Exit(status)
}

// builtHere is the folder to remove at the end.
var builtHere atomic.Pointer[string]

// binaries returns the folder that holds postern, plugins/ with ours, as make
// build lays them out, and t/ with those of the tests.
var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(envBuilt); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "postern-t-")
	if err != nil {
		return "", err
	}
	builtHere.Store(&dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another account starts plugins from it
		return "", err
	}
	flags := []string{"build"}
	if os.Getenv("POSTERN_RACE") == "1" {
		flags = append(flags, "-race")
	}
	build := func(out, what string) error {
		cmd := exec.Command("go", append(flags, "-o", filepath.Join(dir, out), what)...)
		cmd.Dir = ".."
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", what, err, text)
		}
		return nil
	}
	if err := build("postern", "./cmd/postern"); err != nil {
		return "", err
	}
	plugins, err := os.ReadDir("../plugins")
	if err != nil {
		return "", err
	}
	for _, p := range plugins {
		if err := build("plugins/"+p.Name(), "./plugins/"+p.Name()); err != nil {
			return "", err
		}
	}
	return dir, build("t/troubled", "./t/testdata/troubled")
})

func TestScripts(t *testing.T) {
	if os.Getenv(envOwnNetwork) != "" {
		t.Skip("this process runs one script alone")
	}
	bin := needBinaries(t)
	testscript.Run(t, params("scripts", bin))
}

func needBinaries(t *testing.T) string {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func params(dir, bin string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(e *testscript.Env) error { return setUp(e, bin) },
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gateway":     cmdGateway,
			"sink":        cmdSink,
			"arrived":     cmdArrived,
			"same":        cmdSame,
			"envelope":    cmdEnvelope,
			"mail":        cmdMail,
			"maildir":     cmdMaildir,
			"smtp":        cmdSMTP,
			"load":        cmdLoad,
			"await":       cmdAwait,
			"json":        cmdJSON,
			"http":        cmdHTTP,
			"postfix":     cmdPostfix,
			"certificate": cmdCertificate,
			"blocks":      cmdBlocks,
			"need":        cmdNeed,
			"exim":        cmdExim,
			"opensmtpd":   cmdOpenSMTPD,
			"dovecot":     cmdDovecot,
			"aiosmtpd":    cmdAiosmtpd,
			"nullmailer":  cmdNullmailer,
			"peerlog":     cmdPeerlog,
			"kept":        cmdKept,
			"status":      cmdStatus,
			"queue-in":    cmdQueueIn,
			"say":         cmdSay,
			"terminal":    cmdTerminal,
			"postsrsd":    cmdPostsrsd,
			"hold":        cmdHold,
			"redis":       cmdRedis,
			"postgresql":  cmdPostgreSQL,
			"slapd":       cmdSlapd,
			"web":         cmdWeb,
		},
	}
}

// Scripts in t/scripts/own_network use the fixed ports of the documents. Each
// runs in a process of its own with a network of its own; where none can be had,
// in this one, if the ports are free.
func TestOwnNetwork(t *testing.T) {
	if name := os.Getenv(envOwnNetwork); name != "" {
		testscript.Run(t, testscript.Params{Files: []string{name}, RequireExplicitExec: true, RequireUniqueNames: true, Setup: params("", os.Getenv(envBuilt)).Setup, Condition: condition, Cmds: params("", "").Cmds})
		return
	}
	bin := needBinaries(t)
	files, err := filepath.Glob("scripts/own_network/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			if err := inOwnNetwork(t, file, bin); errors.Is(err, fs.ErrPermission) {
				missing(t.Skip, t.Fatal, "a network namespace")
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func inOwnNetwork(t *testing.T, file, bin string) error {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := []string{"-test.run=^TestOwnNetwork$", "-test.timeout=110s"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), envBuilt+"="+bin, envOwnNetwork+"="+file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		return err
	}
	t.Logf("%s", out)
	return err
}

// loopbackUp brings the loopback interface of a new network up.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req)
}

// missing leaves a test out, or fails it under CI=true.
func missing(skip, fatal func(...any), what string) {
	if os.Getenv("CI") == "true" {
		fatal(what + " is missing, and CI=true")
		return
	}
	skip("left out: " + what + " is missing")
}

// condition knows [root].
func condition(cond string) (bool, error) {
	if cond == "root" {
		return os.Getuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// cmdNeed leaves the script out where one of the programs, a Perl module (A::B) or
// nodemailer is missing.
func cmdNeed(ts *testscript.TestScript, _ bool, args []string) {
	tb := worldOf(ts).tb
	for _, program := range args {
		var err error
		switch {
		case strings.Contains(program, "::"):
			err = exec.Command("perl", "-M"+program, "-e", "1").Run()
		case strings.HasPrefix(program, "python:"): // a module of the system's Python
			err = exec.Command("/usr/bin/python3", "-c", "import "+strings.TrimPrefix(program, "python:")).Run()
		case program == "nodemailer":
			_, err = os.Stat(filepath.Join(repository(), "bin/peers/nodemailer/node_modules/nodemailer"))
		default:
			_, err = lookPath(ts, program)
		}
		if err != nil {
			missing(tb.Skip, tb.Fatal, program)
		}
	}
}

// world is what belongs to one script.
type world struct {
	tb      testing.TB
	dir     string
	host    string
	gateway *gateway
	sinks   map[string]*sink // by the name of their variable
	load    *load
	peers   map[string]*peer // by their names
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// nextHost numbers the loopback addresses of this process's scripts.
var nextHost atomic.Uint32

// setUp gives the script its address, its ports and its name server.
func setUp(e *testscript.Env, bin string) error {
	w := &world{dir: e.WorkDir, sinks: map[string]*sink{}, peers: map[string]*peer{}}
	w.tb, _ = e.T().(testing.TB)
	e.Values[worldKey{}] = w
	for _, dir := range []string{e.WorkDir, filepath.Dir(e.WorkDir)} { // another account may be at work in it
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	// Sockets have short paths.
	tmp, err := os.MkdirTemp("", "pt")
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp, os.ModeSticky|0o777); err != nil {
		return err
	}
	e.Setenv("TMPDIR", tmp)
	e.Setenv("TREES", filepath.Join(repository(), "core/migrate/testdata"))
	e.Defer(func() { _ = os.RemoveAll(tmp) })
	names := []string{"SMTP", "SMTPS", "CONSOLE", "SINK", "SINK2", "DNS", "POSTFIX", "PEER"}
	vars := map[string]string{}
	if os.Getenv(envOwnNetwork) != "" {
		w.host = "127.0.0.1"
		vars = map[string]string{"SMTP": "127.0.0.1:2525", "SMTPS": "127.0.0.1:2530", "CONSOLE": "127.0.0.1:2580", "SINK": "127.0.0.1:2526", "SINK2": "127.0.0.1:2527", "DNS": "127.0.0.1:5353", "POSTFIX": "127.0.0.1:2528", "PEER": "127.0.0.1:2529"}
	} else {
		names = append(names, "REDIS", "POSTGRES", "LDAP", "WEB")
		n, pid := nextHost.Add(1), os.Getpid()
		w.host = fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&63, pid&255, 1+n%250)
		addrs, err := freePorts(w.host, len(names))
		if err != nil {
			return err
		}
		for i, name := range names {
			vars[name] = addrs[i]
		}
	}
	for _, name := range names {
		_, vars[name+"PORT"], _ = net.SplitHostPort(vars[name])
	}
	vars["HOST"] = w.host
	vars["BIN"] = bin
	vars["PEERSOCKET"] = filepath.Join(tmp, "peer")
	vars["TMPDIR"] = tmp
	for name, value := range vars {
		e.Setenv(name, value)
	}
	e.Setenv("PATH", bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	e.Setenv("POSTERN_CONFIG", filepath.Join(e.WorkDir, "postern.toml"))
	e.Setenv("NO_COLOR", "1")
	e.Setenv("REPO", repository())
	for _, name := range []string{"PYENV_ROOT", "PYENV_VERSION"} {
		if v, ok := os.LookupEnv(name); ok {
			e.Setenv(name, v)
		}
	}
	if err := fillIn(e.WorkDir, vars); err != nil {
		return err
	}
	return serveZone(e, vars["DNS"])
}

func repository() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		return ".."
	}
	return dir
}

// freePorts finds ports that nobody uses, all different, for TCP and UDP. They
// lie below those that a kernel gives out by itself, so that between this look
// and the server's start no client's socket and no listener of port 0 takes one.
func freePorts(host string, n int) (addrs []string, err error) {
	for range 100 * n {
		if len(addrs) == n {
			break
		}
		addr := net.JoinHostPort(host, strconv.Itoa(10000+rand.IntN(22000)))
		ln, listenErr := net.Listen("tcp", addr)
		if listenErr != nil {
			err = listenErr
			continue
		}
		defer ln.Close()
		packets, listenErr := net.ListenPacket("udp", addr)
		if listenErr != nil {
			err = listenErr
			continue
		}
		defer packets.Close()
		addrs = append(addrs, addr)
	}
	if len(addrs) < n {
		return nil, fmt.Errorf("no %d free ports at %s: %w", n, host, err)
	}
	return addrs, nil
}

var variable = regexp.MustCompile(`\$\{[A-Z0-9]+\}`)

// fillIn replaces the variables in the files that were extracted.
func fillIn(dir string, vars map[string]string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".toml", ".smtp", ".lua", ""}, filepath.Ext(path)) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		filled := variable.ReplaceAllStringFunc(string(text), func(v string) string {
			if value, ok := vars[v[2:len(v)-1]]; ok {
				return value
			}
			return v
		})
		return os.WriteFile(path, []byte(filled), 0o644)
	})
}

// serveZone answers DNS from the script's file zone; without one, nothing exists.
func serveZone(e *testscript.Env, addr string) error {
	text, err := os.ReadFile(filepath.Join(e.WorkDir, "zone"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	zone, err := dns.ParseZone(string(text))
	if err != nil {
		return err
	}
	var server *dns.Server
	poll(10*time.Second, func() bool { // a question under way somewhere may have that port for a moment
		server, err = zone.Listen(addr)
		return !errors.Is(err, syscall.EADDRINUSE)
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	e.Defer(func() {
		cancel()
		<-ended
	})
	return nil
}

// poll asks f again and again until it is true, for limit at most.
func poll(limit time.Duration, f func() bool) bool { return pollEvery(20*time.Millisecond, limit, f) }

func pollEvery(pause, limit time.Duration, f func() bool) bool {
	end := time.After(limit)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if f() {
			return true
		}
		select {
		case <-end:
			return f()
		case <-tick.C:
		}
	}
}
