#!/bin/sh
# Writes policy.pb.go and policy_grpc.pb.go out of policy.proto, and policy_pb2.py
# of contrib/python-plugin, which runs with python3-protobuf of the same Debian.
# Needs protoc (Debian: protobuf-compiler); the generators are tools of go.mod.
set -eu
cd "$(dirname "$0")/../.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
for tool in protoc-gen-go protoc-gen-go-grpc; do
	printf '#!/bin/sh\nexec go tool %s\n' "$tool" >"$bin/$tool"
	chmod +x "$bin/$tool"
done
PATH="$bin:$PATH" protoc \
	--go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative \
	hooks/proto/policy.proto
protoc -Ihooks/proto --python_out=contrib/python-plugin policy.proto
