// Command rogue is a plugin that breaks the protocol where a sender tells it to:
// it ends in the middle of a reply, writes garbage, answers twice or something else.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	gproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/postern-mta/postern/hooks/proto"
)

// raw is a reply that is sent as it is.
type raw []byte

// codec is that of gRPC but for raw.
type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(raw); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// What the connection does with the next replies.
var (
	cut     atomic.Int64 // bytes after which the process ends; 0: never
	garbage atomic.Bool
)

type wire struct{ net.Conn }

func (w wire) Write(b []byte) (int, error) {
	if garbage.Swap(false) {
		return w.Conn.Write([]byte(strings.Repeat("\xff\x00HTTP/1.1 200 OK\r\n", 100)))
	}
	if left := cut.Load(); left > 0 {
		if int64(len(b)) >= left {
			w.Conn.Write(b[:left])
			os.Exit(9)
		}
		cut.Add(-int64(len(b)))
	}
	return w.Conn.Write(b)
}

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return wire{c}, err
}

type policy struct {
	proto.UnimplementedPolicyServer
}

func (policy) Describe(context.Context, *proto.DescribeRequest) (*proto.Description, error) {
	return &proto.Description{Name: "rogue", Stages: []string{"mail", "message"}, Access: proto.Access_ACCESS_HEADERS}, nil
}

func (policy) Configure(context.Context, *proto.ConfigureRequest) (*proto.ConfigureReply, error) {
	return &proto.ConfigureReply{}, nil
}

func (policy) Health(context.Context, *proto.HealthRequest) (*proto.HealthReply, error) {
	return &proto.HealthReply{Ok: true}, nil
}

// handle is Handle as a stream, which can answer as often as it likes.
func handle(_ any, stream grpc.ServerStream) error {
	var ev proto.Event
	if err := stream.RecvMsg(&ev); err != nil {
		return err
	}
	answer := &proto.Decision{Verb: "reject", Reply: &proto.Reply{Text: "for " + ev.Id}}
	kind, _, _ := strings.Cut(ev.Sender, "@")
	switch kind {
	case "late":
		time.Sleep(150 * time.Millisecond) // the server waits 50
	case "never":
		return nil
	case "twice":
		if err := stream.SendMsg(answer); err != nil {
			return err
		}
	case "scrambled":
		return stream.SendMsg(raw("\xff\xff\xff\xff no Decision"))
	case "giant":
		answer.Edits = []*proto.Edit{{Kind: "body:replace", Name: "text/plain", Value: strings.Repeat("x", 3<<20)}}
	case "garbage":
		garbage.Store(true)
	case "half", "replace":
		answer = &proto.Decision{Edits: []*proto.Edit{{Kind: "body:replace", Name: "text/plain", Value: strings.Repeat("clean\n", 100000)}}}
		if kind == "half" {
			cut.Store(100000)
		}
	}
	return stream.SendMsg(answer)
}

func main() {
	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("1|1|unix|%s|grpc\n", path)
	service := proto.Policy_ServiceDesc
	var methods []grpc.MethodDesc
	for _, m := range service.Methods {
		if m.MethodName != "Handle" {
			methods = append(methods, m)
		}
	}
	service.Methods = methods
	service.Streams = []grpc.StreamDesc{{StreamName: "Handle", Handler: handle, ServerStreams: true, ClientStreams: true}}
	server := grpc.NewServer(grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(gproto.Name)}))
	server.RegisterService(&service, policy{})
	if err := server.Serve(listener{ln}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
