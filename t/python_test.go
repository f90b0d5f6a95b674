package t

import (
	"encoding/hex"
	"os"
	"os/exec"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	wire "github.com/postern-mta/postern/hooks/proto"
)

// The Python plugin's generated file is of the present protocol.
func TestPythonProtocol(t *testing.T) {
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import google.protobuf").Run() != nil {
		missing(t.Skip, t.Fatal, "python3-protobuf")
	}
	cmd := exec.Command(python, "-B", "-c", "import policy_pb2; print(policy_pb2.DESCRIPTOR.serialized_pb.hex(), end='')")
	cmd.Dir = "../contrib/python-plugin"
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(string(out))
	if err != nil {
		t.Fatal(err)
	}
	var got descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := protodesc.ToFileDescriptorProto(wire.File_hooks_proto_policy_proto)
	got.Name = want.Name
	withoutJSON(want.MessageType)
	if !proto.Equal(&got, want) {
		t.Error("contrib/python-plugin/policy_pb2.py is of another policy.proto; run hooks/proto/generate.sh")
	}
}

// withoutJSON drops the names in JSON, which protoc tells the generator of Go alone.
func withoutJSON(list []*descriptorpb.DescriptorProto) {
	for _, m := range list {
		for _, f := range m.Field {
			f.JsonName = nil
		}
		withoutJSON(m.NestedType)
	}
}
