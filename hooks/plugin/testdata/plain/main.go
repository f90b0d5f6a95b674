// Command plain is a plugin without hooks/sdk and without go-plugin: what
// docs/plugins.md asks of a program in any language, and nothing more.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/postern-mta/postern/hooks/proto"
)

type policy struct {
	proto.UnimplementedPolicyServer
	word string
}

func (*policy) Describe(context.Context, *proto.DescribeRequest) (*proto.Description, error) {
	return &proto.Description{
		Name: "plain", Version: "1", Stages: []string{"mail"},
		Settings: []*proto.Setting{{Name: "word", Type: "string", Default: proto.NewValue("none")}},
	}, nil
}

func (p *policy) Configure(_ context.Context, x *proto.ConfigureRequest) (*proto.ConfigureReply, error) {
	p.word = x.Settings["word"].GetText()
	return &proto.ConfigureReply{}, nil
}

func (p *policy) Handle(_ context.Context, x *proto.Event) (*proto.Decision, error) {
	return &proto.Decision{Verb: "reject", Reply: &proto.Reply{Text: p.word + " " + x.Sender}}, nil
}

func main() {
	if os.Getenv("POSTERN_PLUGIN") != "postern.hooks.v1" {
		fmt.Fprintln(os.Stderr, "this is a plugin of Postern")
		os.Exit(2)
	}
	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("1|1|unix|%s|grpc\n", path)
	server := grpc.NewServer()
	proto.RegisterPolicyServer(server, &policy{})
	if err := server.Serve(ln); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
