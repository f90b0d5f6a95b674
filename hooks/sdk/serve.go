package sdk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/proto"
)

// Serve is a plugin's main: it answers the server until the server ends it, and
// returns then. A program that is started by a person instead prints what it is
// and exits with code 2; a Policy that can't be served is said on standard error,
// with exit code 1. Serve sets log/slog's default logger.
func Serve(p Policy) {
	read, err := p.read()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(proto.CookieKey) != proto.CookieValue {
		fmt.Fprint(os.Stderr, usage(read))
		os.Exit(2)
	}
	slog.SetDefault(slog.New(newLogHandler(os.Stderr)))
	host, err := dialHost(os.Getenv(proto.HostKey))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	reporting, end := context.WithCancel(context.Background())
	var reporter sync.WaitGroup
	reporter.Go(func() { host.report(reporting) })
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: proto.Version, MagicCookieKey: proto.CookieKey, MagicCookieValue: proto.CookieValue},
		Plugins:         plugin.PluginSet{"policy": &served{policy: read, host: host, stdout: os.Stdout, stderr: os.Stderr}},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxRecvMsgSize(proto.MaxEvent), grpc.MaxSendMsgSize(proto.MaxAnswer))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
	if c, ok := p.Handler.(io.Closer); ok {
		if err := c.Close(); err != nil {
			slog.Error("closing", "error", err)
		}
	}
	end()
	reporter.Wait()
}

// usage is for a person who starts the plugin by hand.
func usage(p *policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\nThis is a plugin of Postern, which starts it. To use it, write into postern.toml:\n\n", p.Name, p.Version, p.About)
	self, err := os.Executable()
	if err != nil {
		self = "plugins.d/" + p.Name
	}
	fmt.Fprintf(&b, "[[policy]]\nuse = %q\n\nstages: %s\n", self, strings.Join(p.about.Stages, ", "))
	if len(p.about.Settings) > 0 {
		b.WriteString("settings:\n" + settingsText(p.about.Settings))
	}
	return b.String()
}

// newLogHandler writes records in the form of hclog, which the server reads back.
func newLogHandler(w io.Writer) slog.Handler {
	level := slog.LevelInfo
	if os.Getenv("POSTERN_LOG_LEVEL") == "debug" {
		level = slog.LevelDebug
	}
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			a.Key = "@timestamp"
		case slog.LevelKey:
			return slog.String("@level", strings.ToLower(a.Value.String()))
		case slog.MessageKey:
			a.Key = "@message"
		}
		return a
	}})
}

func logPanic(ctx context.Context, at hooks.Stage, fault any) {
	slog.ErrorContext(ctx, "panic", "stage", at.String(), "panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
}

// served is the policy behind gRPC.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	proto.UnimplementedPolicyServer
	policy *policy
	host   *Host

	stdout, stderr *os.File
	restore        sync.Once
}

// GRPCServer implements plugin.GRPCPlugin.
func (s *served) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	proto.RegisterPolicyServer(server, s)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin; a plugin never is a client.
func (s *served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("sdk: %s is a plugin", s.policy.Name)
}

// Describe implements proto.PolicyServer.
func (s *served) Describe(context.Context, *proto.DescribeRequest) (*proto.Description, error) {
	// go-plugin puts pipes in the place of both, whose last words are lost when the
	// process ends. The server reads the real ones.
	s.restore.Do(func() { os.Stdout, os.Stderr = s.stdout, s.stderr })
	return s.policy.about, nil
}

// Configure implements proto.PolicyServer.
func (s *served) Configure(ctx context.Context, x *proto.ConfigureRequest) (*proto.ConfigureReply, error) {
	return &proto.ConfigureReply{Problems: s.policy.configure(s.under(ctx), x.Settings)}, nil
}

// under is ctx with the server in it.
func (s *served) under(ctx context.Context) context.Context {
	return context.WithValue(ctx, hostKey{}, s.host)
}

// Handle implements proto.PolicyServer.
func (s *served) Handle(ctx context.Context, x *proto.Event) (*proto.Decision, error) {
	return s.answer(ctx, x, nil)
}

// Stream implements proto.PolicyServer.
func (s *served) Stream(stream grpc.ClientStreamingServer[proto.Part, proto.Decision]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	d, err := s.answer(stream.Context(), first.GetEvent(), &parts{receive: stream.Recv})
	if err != nil {
		return err
	}
	return stream.SendAndClose(d)
}

// answer asks the policy; body is what comes behind the event, if something does.
func (s *served) answer(ctx context.Context, x *proto.Event, body io.Reader) (*proto.Decision, error) {
	if x == nil {
		return nil, status.Error(codes.InvalidArgument, "there is no event")
	}
	ev, err := newEvent(x)
	if err == nil {
		defer ev.close()
		err = s.policy.Access.bring(ev, x)
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, proto.Text(err.Error()))
	}
	if body != nil {
		ev.Stream = body
	}
	d, err := s.policy.handle(s.under(ctx), ev)
	if err != nil {
		return nil, status.Error(codes.Unknown, proto.Text(err.Error()))
	}
	return onWire(d), nil
}

// parts reads the message that comes behind an event or a lesson.
type parts struct {
	receive func() (*proto.Part, error)
	rest    []byte
	err     error
}

// Read implements io.Reader.
func (p *parts) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		var part *proto.Part
		if part, p.err = p.receive(); p.err == nil {
			p.rest = part.Body
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Health implements proto.PolicyServer.
func (s *served) Health(ctx context.Context, _ *proto.HealthRequest) (*proto.HealthReply, error) {
	if h, ok := s.policy.Handler.(interface{ Healthy(context.Context) error }); ok {
		if err := h.Healthy(s.under(ctx)); err != nil {
			return &proto.HealthReply{Text: proto.Text(err.Error())}, nil
		}
	}
	return &proto.HealthReply{Ok: true}, nil
}
