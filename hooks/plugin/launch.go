package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/postern-mta/postern/hooks/proto"
)

// running is a process and the connection to it.
type running struct {
	process *process
	client  *plugin.Client
	policy  proto.PolicyClient
}

// health asks the plugin how it is.
func (r *running) health(ctx context.Context) error {
	reply, err := r.policy.Health(ctx, &proto.HealthRequest{})
	switch {
	case err != nil:
		return fmt.Errorf("plugin: health: %w", err)
	case !reply.Ok:
		return fmt.Errorf("plugin: health: %s", oneLine(reply.Text))
	}
	return nil
}

// stop asks the process to end and kills it after grace, 0: at once. It returns
// when the process is gone.
func (r *running) stop(grace time.Duration) {
	if grace <= 0 {
		r.process.Kill(context.Background())
		<-r.process.gone
	}
	timer := time.AfterFunc(grace, func() { r.process.Kill(context.Background()) })
	r.client.Kill()
	timer.Stop()
	r.process.Kill(context.Background())
	<-r.process.gone
}

// seam is the policy service as go-plugin wants it.
type seam struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer implements plugin.GRPCPlugin; the server side is in package sdk.
func (seam) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("plugin: this is the client's side")
}

// GRPCClient implements plugin.GRPCPlugin.
func (seam) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return proto.NewPolicyClient(conn), nil
}

// launch starts the program and connects to it. ctx bounds the start alone.
func (p *Plugin) launch(ctx context.Context) (*running, error) {
	if err := checkFile(p.path, p.o.SHA256); err != nil {
		return nil, fmt.Errorf("plugin: %s: %w", p.path, err)
	}
	x := newProcess(p.path, p.owner, p.out)
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{ProtocolVersion: proto.Version, MagicCookieKey: proto.CookieKey, MagicCookieValue: proto.CookieValue},
		Plugins:          plugin.PluginSet{"policy": seam{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, socketDir string) (runner.Runner, error) {
			x.socketDir, x.env = socketDir, append(p.environ(), spec.Env...)
			return x, p.owner.give(socketDir)
		},
		SkipHostEnv:      true,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: p.dir},
		StartTimeout:     p.o.StartTimeout,
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       &lineWriter{out: p.out},
		SyncStderr:       &lineWriter{out: p.out},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(proto.MaxAnswer), grpc.MaxCallSendMsgSize(proto.MaxEvent)),
			grpc.WithDisableServiceConfig(), grpc.WithStatsHandler(sentMarker{}),
		},
	})
	// Nothing in go-plugin takes a context: the process's end ends every wait.
	stop := context.AfterFunc(ctx, func() { x.Kill(context.Background()) })
	defer stop()
	policy, err := connect(client)
	if err != nil {
		x.Kill(context.Background())
		client.Kill()
		if x.pid != 0 {
			<-x.gone
		}
		os.RemoveAll(x.socketDir)
		return nil, fmt.Errorf("plugin: %s: %w", p.path, p.explain(ctx, x, err))
	}
	return &running{x, client, policy}, nil
}

func connect(client *plugin.Client) (proto.PolicyClient, error) {
	conn, err := client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := conn.Dispense("policy")
	if err != nil {
		return nil, err
	}
	return raw.(proto.PolicyClient), nil
}

// environ is all that a plugin gets from us beside the handshake.
func (p *Plugin) environ() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TMPDIR=" + os.TempDir(), proto.HostKey + "=" + filepath.Join(p.dir, hostSocketName)}
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		env = append(env, "POSTERN_LOG_LEVEL=debug")
	}
	return append(env, p.o.Env...)
}

// explain makes a text with a way out of go-plugin's error.
func (p *Plugin) explain(ctx context.Context, x *process, err error) error {
	x.mu.Lock()
	first := x.first
	x.mu.Unlock()
	parts := strings.Split(first, "|")
	switch {
	case x.pid == 0:
		return err
	case first == "" && x.ended() != nil:
		return fmt.Errorf("it ended before it was ready: %w", x.ended())
	case first == "":
		return fmt.Errorf("it did not write the plugin handshake within %s; is it a plugin made with hooks/sdk?", p.o.StartTimeout)
	case len(parts) < 4 || parts[0] != strconv.Itoa(plugin.CoreProtocolVersion):
		return fmt.Errorf("it wrote %.80q instead of the plugin handshake; is it a plugin made with hooks/sdk?", first)
	case parts[1] != strconv.Itoa(proto.Version):
		way := "build it with the hooks/sdk of this version"
		if n, err := strconv.Atoi(parts[1]); err == nil && n > proto.Version {
			way = "it is newer: update the server, or " + way
		}
		return fmt.Errorf("it speaks version %.20q of the plugin protocol, this server version %d; %s", parts[1], proto.Version, way)
	case len(parts) < 5 || parts[4] != string(plugin.ProtocolGRPC):
		return errors.New("it does not speak gRPC; a plugin's handshake ends with |grpc")
	case x.ended() != nil:
		return fmt.Errorf("it ended before it was ready: %w", x.ended())
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("nobody answers on its socket within %s", p.o.StartTimeout)
	}
	return err
}

// checkFile tells what keeps the file from being run, in words.
func checkFile(path, sum string) error {
	about, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such file; build the plugin, or correct the path")
	case err != nil:
		return err
	case !about.Mode().IsRegular():
		return errors.New("it is not a file; name the plugin's program")
	case about.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("it is not executable; run chmod +x %s", path)
	case sum == "":
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, sum) {
		return fmt.Errorf("%w is %s, not %s as configured; it was changed, or the checksum is of another version", ErrChecksum, got, sum)
	}
	return nil
}
